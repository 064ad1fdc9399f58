"""What the query service learns of rules and scrape services, over HTTP."""

from pytest_httpserver import HTTPServer

from varve.api import rules_endpoints, targets_endpoints
from varve.api.call import Call
from varve.api.parameters import Parameters
from varve.services.asked_services import AskedServices
from varve.settings import Settings
from varve.settings.rules import Rules
from varve.settings.scrape import Scrape


def call(settings: Settings, *pairs: tuple[str, str]) -> Call:
    parameters = Parameters(pairs)
    return Call(
        None,  # type: ignore[arg-type]
        parameters,
        None,  # type: ignore[arg-type]
        0,
        None,  # type: ignore[arg-type]
        rules=AskedServices(settings, "rules", settings.rules.services).ask,
        scraping=AskedServices(settings, "scrape", settings.scrape.services).ask,
    )


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


def test_targets_of_several_scrape_services_are_told_as_one(httpserver: HTTPServer, tmp_path):
    for path, job in (("/a", "x"), ("/b", "y")):
        data = {
            "activeTargets": [{"scrapePool": job}],
            "droppedTargets": [],
            "droppedTargetCounts": {job: 2, "both": 1},
        }
        httpserver.expect_request(
            f"{path}/api/v1/targets", query_string="state=active"
        ).respond_with_json({"data": data})
        httpserver.expect_request(f"{path}/api/v1/scrape_pools").respond_with_json(
            {"data": {"scrapePools": [job, "both"]}}
        )
        httpserver.expect_request(f"{path}/api/v1/targets/metadata").respond_with_json(
            {"data": [{"metric": job}, {"metric": "m"}]}
        )
    urls = [httpserver.url_for("/a"), httpserver.url_for("/b")]
    settings = Settings(home=tmp_path, scrape=Scrape(services=",".join(urls)))

    targets = targets_endpoints.targets(call(settings, ("state", "active"))).data
    pools = targets_endpoints.scrape_pools(call(settings)).data
    metadata = targets_endpoints.metadata(call(settings, ("limit", "3"))).data

    assert [target["scrapePool"] for target in targets["activeTargets"]] == ["x", "y"]
    assert targets["droppedTargetCounts"] == {"x": 2, "y": 2, "both": 2}
    assert pools == {"scrapePools": ["both", "x", "y"]}
    assert [entry["metric"] for entry in metadata] == ["x", "m", "y"]


def test_without_a_scrape_service_there_are_no_targets(tmp_path):
    settings = Settings(home=tmp_path)

    assert targets_endpoints.scrape_pools(call(settings)).data == {"scrapePools": []}
    assert targets_endpoints.targets(call(settings)).data["activeTargets"] == []
