"""The HTTP API over real tables: Prometheus' shapes, status codes and parameters."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from tests.integration.api_service import DOTTED, NOW_MS, SHOP, app_over, fill, served, service_over
from tests.tables import WrittenTables
from varve.api.app import create_app
from varve.promql.evaluation.limits import Limits

NOW = NOW_MS / 1000


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=1)
    return tables


@pytest.fixture(scope="module")
def client(tables):
    with TestClient(app_over(tables)) as client:
        yield client


def data(response):
    body = response.json()
    assert response.status_code == 200, body
    assert response.headers["content-type"] == "application/json"
    assert body["status"] == "success"
    assert set(body) <= {"status", "data", "warnings", "infos", "provenance"}
    return body["data"]


def test_an_instant_vector_has_a_value_a_series(client):
    got = data(client.get("/api/v1/query", params={"query": 'shop_requests_total{route="/r0"}'}))

    assert got["resultType"] == "vector"
    assert [series["metric"]["instance"] for series in got["result"]] == ["h0", "h2"]
    assert got["result"][0] == {
        "metric": {
            "__name__": "shop_requests_total",
            "instance": "h0",
            "job": "demo-shop",
            "route": "/r0",
        },
        "value": [NOW, "86400"],
    }


def test_a_scalar_and_a_string_are_a_time_and_a_text(client):
    scalar = data(client.get("/api/v1/query", params={"query": "1 / 3", "time": "12.5"}))
    string = data(client.get("/api/v1/query", params={"query": '"a\\nü"', "time": "12.5"}))

    assert scalar == {"resultType": "scalar", "result": [12.5, "0.3333333333333333"]}
    assert string == {"resultType": "string", "result": [12.5, "a\nü"]}


def test_a_range_selector_gives_the_samples_themselves(client):
    got = data(
        client.get("/api/v1/query", params={"query": 'shop_requests_total{instance="h1"}[1m]'})
    )

    assert got["resultType"] == "matrix"
    (series,) = got["result"]
    assert [at for at, _ in series["values"]] == [NOW - 45, NOW - 30, NOW - 15, NOW]


def test_a_range_query_gives_a_matrix_of_its_steps(client):
    params = {
        "query": "sum by (route) (rate(shop_requests_total[10m]))",
        "start": NOW - 7200,
        "end": "2026-11-22T09:00:00Z",
        "step": "30m",
    }

    got = data(client.post("/api/v1/query_range", data=params))

    assert got["resultType"] == "matrix"
    assert [series["metric"] for series in got["result"]] == [{"route": "/r0"}, {"route": "/r1"}]
    assert [at for at, _ in got["result"][0]["values"]] == [NOW - 7200 + 1800 * i for i in range(5)]
    assert [float(v) for _, v in got["result"][1]["values"]] == pytest.approx([6] * 5, rel=1e-2)


def test_a_null_ends_its_series_at_once(client):
    before = data(client.get("/api/v1/query", params={"query": "node_load1", "time": NOW - 601}))
    after = data(client.get("/api/v1/query", params={"query": "node_load1", "time": NOW - 599}))

    assert len(before["result"]) == 1
    assert after["result"] == []


def test_nan_and_infinities_are_texts(client):
    query = {"query": '{"disk.free"}[30s]'}

    values = data(client.get("/api/v1/query", params=query))["result"][0]["values"]

    assert [text for _, text in values] == ["+Inf", "NaN"]


def test_an_answer_says_where_it_comes_from(client):
    body = client.get("/api/v1/query", params={"query": "up"}).json()

    assert body["provenance"]["complete_until"] == NOW_MS
    assert body["provenance"]["tier"] == "raw"
    assert isinstance(body["provenance"]["snapshot"], str)


def test_annotations_come_with_the_answer(client):
    params = {"query": "rate(node_load1[5m])", "time": NOW - 900}

    body = client.get("/api/v1/query", params=params).json()

    assert "might not be a counter" in body["infos"][0]


@pytest.mark.parametrize(
    ("path", "params", "error"),
    [
        ("query", {"query": "sum("}, 'invalid parameter "query": 1:5: parse error: '),
        ("query", {"query": ""}, 'invalid parameter "query": '),
        ("query", {"query": "up", "time": "soon"}, 'invalid parameter "time": cannot parse "soon"'),
        ("query", {"query": "up", "timeout": "x"}, 'invalid parameter "timeout": '),
        ("query", {"query": "up", "limit": "-1"}, 'invalid parameter "limit": '),
        ("query_range", {"query": "up"}, 'invalid parameter "start": cannot parse ""'),
        (
            "query_range",
            {"query": "up", "start": "2", "end": "1", "step": "1"},
            'invalid parameter "end": end timestamp must not be before start time',
        ),
        (
            "query_range",
            {"query": "up", "start": "1", "end": "2", "step": "0"},
            'invalid parameter "step": zero or negative query resolution step widths',
        ),
        (
            "query_range",
            {"query": "up", "start": "0", "end": "11001", "step": "1"},
            "exceeded maximum resolution of 11,000 points per timeseries",
        ),
        (
            "query_range",
            {"query": "up[5m]", "start": "1", "end": "2", "step": "1"},
            'invalid expression type "range vector" for range query',
        ),
        ("series", {}, "no match[] parameter provided"),
        ("series", {"match[]": "1"}, 'invalid parameter "match[]": '),
        ("labels", {"match[]": '{job=~"("}'}, 'invalid parameter "match[]": '),
        ("format_query", {"query": "1 +"}, 'invalid parameter "query": '),
    ],
)
def test_what_cannot_be_asked_is_bad_data(client, path, params, error):
    response = client.get(f"/api/v1/{path}", params=params)

    body = response.json()
    assert response.status_code == 400
    assert body["status"] == "error"
    assert body["errorType"] == "bad_data"
    assert error in body["error"]


def test_a_parse_error_says_where(client):
    body = client.get("/api/v1/query", params={"query": "up{a=1}"}).json()

    assert body["position"]["start"] == len("up{a=")


def test_what_fails_when_run_is_an_execution_error(client):
    query = {"query": "shop_requests_total * on (job) shop_requests_total"}

    response = client.get("/api/v1/query", params=query)

    assert response.status_code == 422
    assert response.json()["errorType"] == "execution"


def test_a_limit_names_itself(tables):
    with TestClient(app_over(tables, limits=Limits(max_samples=1000))) as client:
        response = client.get("/api/v1/query", params={"query": "sum_over_time(node_load1[1d])"})

    assert response.status_code == 422
    assert "max_samples" in response.json()["error"]


def test_a_query_past_its_time_is_a_timeout(tables):
    with TestClient(app_over(tables, limits=Limits(timeout_s=1e-9))) as client:
        response = client.get("/api/v1/query", params={"query": "node_load1"})

    assert response.status_code == 503
    assert response.json()["errorType"] == "timeout"


def test_a_limit_cuts_the_answer_and_says_so(client):
    body = client.get("/api/v1/query", params={"query": "shop_requests_total", "limit": 3}).json()
    series = client.get("/api/v1/series", params={"match[]": "shop_requests_total", "limit": 1})

    assert len(body["data"]["result"]) == 3
    assert body["warnings"] == ["results truncated due to limit"]
    assert len(series.json()["data"]) == 1
    assert series.json()["warnings"] == ["results truncated due to limit"]


def test_series_are_label_sets_each_once(client):
    params = {"match[]": ['{route="/r1"}', 'shop_requests_total{instance=~"h[13]"}', "node_load1"]}

    got = data(client.get("/api/v1/series", params=params))

    assert [labels["instance"] for labels in got] == ["h0", "h1", "h3"]
    assert got[0] == {"__name__": "node_load1", "instance": "h0", "job": "node"}


def test_labels_and_values_can_be_narrowed(client):
    names = data(client.get("/api/v1/labels"))
    narrow = data(client.post("/api/v1/labels", data={"match[]": "node_load1"}))
    metrics = data(client.get("/api/v1/label/__name__/values"))
    instances = data(
        client.get("/api/v1/label/instance/values", params={"match[]": '{route="/r1"}'})
    )

    assert names == ["__name__", "instance", "job", "mount point", "route"]
    assert narrow == ["__name__", "instance", "job"]
    assert metrics == ["disk.free", "node_load1", "shop_requests_total"]
    assert instances == ["h1", "h3"]


@pytest.mark.parametrize("name", ["mount%20point", "U__mount_20_point"])
def test_a_label_of_any_name_has_values(client, name):
    assert data(client.get(f"/api/v1/label/{name}/values")) == ["/"]


def test_metadata_is_what_producers_said(client):
    everything = data(client.get("/api/v1/metadata"))
    one = data(client.get("/api/v1/metadata", params={"metric": DOTTED.metric}))

    assert everything[SHOP[0].metric] == [
        {"type": "counter", "unit": "", "help": "Requests answered."}
    ]
    assert one == {"disk.free": [{"type": "gauge", "unit": "bytes", "help": ""}]}


@pytest.mark.parametrize("path", ["series", "labels", "label/job/values"])
def test_nothing_is_seen_in_a_range_that_ends_before_it_begins(client, path):
    params = {"match[]": "node_load1", "start": NOW, "end": NOW - 3600}

    assert data(client.get(f"/api/v1/{path}", params=params)) == []


def test_nothing_asked_for_is_nothing_to_scrape(client):
    answer = client.get("/federate")

    assert (answer.status_code, answer.text) == (200, "")


def test_queries_are_formatted_and_parsed(client):
    formatted = data(client.get("/api/v1/format_query", params={"query": "sum by(a)(up)"}))
    tree = data(client.get("/api/v1/parse_query", params={"query": "up + 1"}))

    assert formatted == "sum by (a) (up)"
    assert (tree["type"], tree["op"]) == ("binaryExpr", "+")


def test_a_query_is_explained_without_being_run_unless_asked(client):
    query = {"query": "sum(shop_requests_total)", "time": str(NOW)}

    planned = data(client.get("/api/v1/explain", params=query))
    ran = data(client.get("/api/v1/explain", params=query | {"run": "1"}))

    assert "4 series" in ran[0]
    assert ran[0].startswith(planned[0])
    assert "actual" in ran[0].removeprefix(planned[0])


@pytest.mark.parametrize(
    "query",
    [
        "shop_requests_total",
        "sum_over_time(shop_requests_total[1h])",
        'rate(shop_requests_total{route="/r1"}[10m]) / 2',
        "max_over_time(rate(shop_requests_total[5m])[30m:1m])",
        "shop_requests_total offset 1h",
        "increase(shop_requests_total[5m] anchored)",
    ],
)
@pytest.mark.parametrize("span", [{"time": NOW}, {"start": NOW - 7_200, "end": NOW, "step": 60}])
def test_what_was_estimated_and_what_was_selected_are_the_same_kind_of_number(client, query, span):
    lines = data(client.get("/api/v1/explain", params={"query": query, "run": "1", **span}))

    told = [line for line in lines if "estimated:" in line]
    numbers = r"(\d[\d,]*) series, (\d[\d,]*) samples"
    (found,) = (re.search(f"estimated: {numbers}  actual: {numbers}", line) for line in told)
    series, samples, selected_series, selected = (int(n.replace(",", "")) for n in found.groups())
    assert 0 < selected_series <= series
    assert 0 < selected <= samples


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"query": "sum("}, "parse error"),
        ({"query": "up", "run": "yes"}, 'invalid parameter "run"'),
        ({"query": "up", "start": "2", "end": "1", "step": "1"}, 'invalid parameter "end"'),
        ({"query": "up", "start": "0", "end": "99999", "step": "1"}, "exceeded maximum resolution"),
    ],
)
def test_what_cannot_be_explained_is_an_error(client, params, error):
    answer = client.get("/api/v1/explain", params=params)

    assert answer.status_code in (400, 422)
    assert error in answer.json()["error"]


def test_large_answers_are_compressed_for_those_who_can_read_it(client):
    params = {"query": "shop_requests_total", "start": NOW - 3600, "end": NOW, "step": 15}

    plain = client.get(
        "/api/v1/query_range", params=params, headers={"Accept-Encoding": "identity"}
    )
    packed = client.get("/api/v1/query_range", params=params, headers={"Accept-Encoding": "gzip"})

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json()["data"] == plain.json()["data"]


def test_build_information_names_the_application(client):
    assert data(client.get("/api/v1/status/buildinfo"))["application"] == "Varve"


def test_bytes_that_are_no_utf_8_are_an_answer_not_a_crash(client):
    response = client.get('/api/v1/query?query={a="%FF"}')

    assert response.status_code in (200, 400)
    assert json.loads(response.content.decode())


def test_what_runs_in_the_home_is_told_before_the_tables_are_open(tables):
    condition = {
        "state": "starting",
        "components": [{"name": "up", "state": "starting", "note": ""}],
    }
    service = replace(service_over(tables), view=lambda: None, components=lambda: condition)
    with TestClient(create_app(service)) as client:
        answer = client.get("/-/components")

    assert (answer.status_code, answer.json()) == (200, condition)
    assert answer.headers["cache-control"] == "no-store"


def test_before_the_tables_are_open_it_is_alive_but_not_ready(tables):
    service = service_over(tables)
    service.view, service.state = (lambda: None), (lambda: "waiting for the tables")

    with TestClient(create_app(service)) as client:
        assert client.get("/-/healthy").status_code == 200
        assert client.get("/-/ready").status_code == 503
        refused = client.get("/api/v1/query", params={"query": "up"})

    assert refused.status_code == 503
    assert refused.json()["errorType"] == "unavailable"


def test_a_defect_is_an_internal_error_in_json(tables, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken")

    app = app_over(tables)
    monkeypatch.setattr("varve.promql.engine.Engine.instant", broken)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/api/v1/query", params={"query": "up"})

    assert response.status_code == 500
    assert response.json()["errorType"] == "internal"
    assert "RuntimeError: broken" in response.json()["error"]


def test_its_own_metrics_count_what_it_answered(client):
    client.get("/api/v1/query", params={"query": "sum("})

    text = client.get("/metrics").text

    assert 'varve_query_requests_total{route="query",status="400"}' in text
    complete = re.search(r"^varve_query_complete_timestamp_seconds (\S+)$", text, re.MULTILINE)
    assert float(complete[1]) == NOW_MS / 1000
    assert "varve_query_series 6.0" in text


def test_its_metrics_have_units_for_who_asks_for_openmetrics(client):
    page = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert "# UNIT varve_query_request_duration_seconds seconds" in page.text
    assert page.text.endswith("# EOF\n")


def test_the_page_asks_nobody_but_this_service(client):
    page = client.get("/")

    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for asset in ("page.js", "page.css", "vendor/uPlot.iife.min.js", "vendor/uPlot.LICENSE"):
        assert client.get(f"/static/{asset}").status_code == 200


def test_what_is_nowhere_is_not_found(client):
    assert client.get("/api/v1/nowhere").status_code == 404
    assert client.get("/static/../app.py").status_code == 404


def test_statistics_come_when_asked_for(client):
    query = {"query": "sum(shop_requests_total)"}
    plain = data(client.get("/api/v1/query", params=query))
    told = data(client.get("/api/v1/query", params={**query, "stats": "all"}))

    assert plain == {key: told[key] for key in ("resultType", "result")}
    assert told["stats"]["samples"]["totalQueryableSamples"] == 4
    assert told["stats"]["samples"]["peakSamples"] > 0
    assert told["stats"]["timings"]["evalTotalTime"] > 0


def test_ten_infos_are_shown_and_the_others_counted(client):
    names = " or ".join(
        f'rate(label_replace(node_load1, "__name__", "m{i}", "", "")[1h:1m])' for i in range(12)
    )
    body = client.get("/api/v1/query", params={"query": names, "time": NOW - 3600}).json()

    assert len(body["infos"]) == 11
    assert body["infos"][-1] == "2 more info annotations omitted"


@pytest.mark.parametrize("minutes", ["", "0", "-1"])
def test_no_lookback_of_ones_own_is_the_default(client, minutes):
    params = {"query": "node_load1", "time": NOW - 600 - 200, "lookback_delta": minutes}

    assert len(data(client.get("/api/v1/query", params=params))["result"]) == 1


def test_a_lookback_of_ones_own_is_obeyed_or_refused(client):
    params = {"query": "node_load1", "time": NOW - 600 - 31}
    short = data(client.get("/api/v1/query", params={**params, "lookback_delta": "20s"}))
    wrong = client.get("/api/v1/query", params={**params, "lookback_delta": "x"}).json()

    assert short["result"] == []
    assert wrong["errorType"] == "bad_data"
    assert wrong["error"].startswith('error parsing lookback delta duration: cannot parse "x"')


@pytest.mark.parametrize(
    ("path", "empty"),
    [
        ("alertmanagers", {"activeAlertmanagers": [], "droppedAlertmanagers": []}),
        ("alerts", {"alerts": []}),
        ("notifications", []),
        ("rules", {"groups": []}),
        ("scrape_pools", {"scrapePools": []}),
        ("status/config", {"yaml": ""}),
        ("status/flags", {}),
        ("targets", {"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}),
        ("targets/metadata", []),
        ("targets/relabel_steps", {"steps": []}),
    ],
)
def test_what_there_is_none_of_is_empty_in_its_shape(client, path, empty):
    assert data(client.get(f"/api/v1/{path}")) == empty


def test_there_are_no_exemplars_of_any_query_that_is_one(client):
    times = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00+01:00"}
    good = client.post("/api/v1/query_exemplars", data={"query": "rate(a[5m])", **times})
    bad = client.post("/api/v1/query_exemplars", data={"query": "rate(", **times})

    assert data(good) == []
    assert (bad.status_code, bad.json()["errorType"]) == (400, "bad_data")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_is_a_client(tables):
    with served(service_over(tables)) as url:
        at = ["--time", str(int(NOW))]
        instant = promtool("instant", *at, url, "shop_requests_total")
        span = ["--start", str(int(NOW) - 300), "--end", str(int(NOW)), "--step", "1m"]
        ranged = promtool("range", *span, url, "sum(rate(shop_requests_total[5m]))")
        labels = promtool("labels", url, "instance")
        match = ["--match", 'shop_requests_total{route="/r0"}', "--match", "node_load1"]
        series = promtool("series", *match, url)
        refused = subprocess.run(
            ["promtool", "query", "instant", url, "sum("],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert instant.count("shop_requests_total{") == 4
    assert ranged.count(" @[") == 6
    assert labels.split() == ["h0", "h1", "h2", "h3"]
    assert instant.splitlines()[0] == (
        f'shop_requests_total{{instance="h0", job="demo-shop", route="/r0"}} => 86400 @[{int(NOW)}]'
    )
    head, first = ranged.splitlines()[:2]
    assert head == "{} =>"
    assert first.endswith(f" @[{int(NOW) - 300}]")
    assert float(first.split()[0]) == pytest.approx(10)
    assert sorted(line.split('"')[1] for line in series.splitlines()) == [
        "node_load1",
        "shop_requests_total",
        "shop_requests_total",
    ]
    assert refused.returncode == 1
    assert 'bad_data: invalid parameter "query": 1:5: parse error:' in refused.stderr


def promtool(*arguments):
    command = ["promtool", "query", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
