"""What the query service learns of rules services, over HTTP."""

from pytest_httpserver import HTTPServer

from varve.api import rules_endpoints
from varve.api.call import Call
from varve.api.parameters import Parameters
from varve.services.rules_source import RulesSource
from varve.settings import Settings
from varve.settings.rules import Rules


def call(settings: Settings, *pairs: tuple[str, str]) -> Call:
    parameters = Parameters(pairs)
    return Call(None, parameters, None, 0, None, rules=RulesSource(settings).ask)  # type: ignore[arg-type]


def group(name: str, file: str = "f") -> dict:
    rule = {"name": "r", "type": "recording", "labels": {}, "query": "m"}
    return {"name": name, "file": file, "rules": [rule]}


def test_all_services_are_one_and_one_that_is_away_is_named(httpserver: HTTPServer, tmp_path):
    for path, groups in {"/a": [group("x", "g"), group("y", "f")], "/b": [group("z", "f")]}.items():
        httpserver.expect_request(f"{path}/api/v1/rules").respond_with_json(
            {"status": "success", "data": {"groups": groups}}
        )
    urls = [httpserver.url_for("/a"), httpserver.url_for("/b"), "http://127.0.0.1:9"]
    settings = Settings(home=tmp_path, rules=Rules(services=",".join(urls)))

    every = rules_endpoints.rules(call(settings))
    some = rules_endpoints.rules(call(settings, ("rule_group[]", "z")))

    assert [g["name"] for g in every.data["groups"]] == ["y", "z", "x"]
    assert [g["name"] for g in some.data["groups"]] == ["z"]
    assert "127.0.0.1:9/" in every.warnings[0]
    assert len(every.warnings) == 1


def test_notifiers_of_several_services_are_listed_once(httpserver: HTTPServer, tmp_path):
    httpserver.expect_request("/api/v1/alertmanagers").respond_with_json(
        {"data": {"activeAlertmanagers": [{"url": "http://n/"}], "droppedAlertmanagers": []}}
    )
    url = httpserver.url_for("").rstrip("/")
    settings = Settings(home=tmp_path, rules=Rules(services=f"{url},{url}"))

    answer = rules_endpoints.alertmanagers(call(settings))

    assert answer.data["activeAlertmanagers"] == [{"url": "http://n/"}]


def test_without_a_service_there_are_no_rules(tmp_path):
    settings = Settings(home=tmp_path)

    assert rules_endpoints.rules(call(settings)).data == {"groups": []}
    assert rules_endpoints.alerts(call(settings)).data == {"alerts": []}
