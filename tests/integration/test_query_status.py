"""What the query service says of itself, its text for a scrape, its document, forms in parts."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import openapi_spec_validator
import pytest
import yaml
from starlette.testclient import TestClient

from tests.integration.api_service import NOW_MS, fill, service_over
from tests.tables import WrittenTables
from varve.api.app import create_app
from varve.api.call import Process
from varve.api.endpoints import ENDPOINTS
from varve.promql.function_table import FUNCTIONS
from varve.services.query import process_of
from varve.settings import Settings


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.1)
    return tables


@pytest.fixture(scope="module")
def client(tables):
    service = replace(service_over(tables), process=Process(NOW_MS - 5_000, "a: 1\n", {"x": "1"}))
    with TestClient(create_app(service)) as client:
        yield client


def test_a_form_in_parts_is_a_form(client):
    parts = {"query": (None, "count(shop_requests_total)"), "time": (None, str(NOW_MS / 1000))}

    answer = client.post("/api/v1/query", files=parts)

    assert answer.json()["data"]["result"][0]["value"][1] == "4"


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"query=1", "multipart/form-data"),
        (b"no part at all", "multipart/form-data; boundary=x"),
        (
            b"--x\r\nContent-Disposition: nothing\r\n\r\n1\r\n--x--",
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="query"; filename="f"\r\n\r\n1\r\n--x--',
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_parts_that_are_no_form_are_refused(client, body, media_type):
    answer = client.post("/api/v1/query", content=body, headers={"content-type": media_type})

    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")


def test_a_form_in_parts_is_bounded(client):
    answer = client.post("/api/v1/query", files={"query": (None, "1" * 10_000_001)})

    assert answer.status_code == 400
    assert "too large" in answer.json()["error"]


@pytest.mark.parametrize("timeout", ["0", "0s", "-1"])
def test_without_any_time_a_query_is_over_at_once(client, timeout):
    answer = client.get("/api/v1/query", params={"query": "up", "timeout": timeout})

    assert (answer.status_code, answer.json()["errorType"]) == (503, "timeout")


def test_it_says_since_when_it_runs_and_with_what(client):
    runtime = client.get("/api/v1/status/runtimeinfo").json()["data"]

    assert runtime["serverTime"] == "2026-11-22T09:00:00Z"
    assert runtime["startTime"] == "2026-11-22T08:59:55Z"
    assert client.get("/api/v1/status/config").json()["data"] == {"yaml": "a: 1\n"}
    assert client.get("/api/v1/status/flags").json()["data"] == {"x": "1"}
    assert client.get("/version").json()["application"] == "Varve"


def test_settings_are_shown_under_their_own_names_and_prometheus():
    login = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "username": "u",
        "password": "hunter2",
    }
    given = Settings.model_validate({"kafka": login | {"bootstrap_servers": "b:9092"}})

    process = process_of(given)

    shown = yaml.safe_load(process.config)
    assert shown["kafka"]["username"] == "u"
    assert shown["query"]["timeout_s"] == 120
    assert shown["retention"]["samples_days"] == 15
    assert "hunter2" not in process.config
    assert process.flags["query.timeout"] == "120s"
    assert process.flags["storage.tsdb.retention.time"] == "15d"


def test_options_are_asked_for_in_vain_but_without_an_error(client):
    answer = client.options("/api/v1/query")

    assert (answer.status_code, answer.content) == (204, b"")
    assert client.delete("/api/v1/query").status_code == 405


def test_features_name_every_function(client):
    features = client.get("/api/v1/features").json()["data"]

    assert features["promql_functions"] == dict.fromkeys(FUNCTIONS, True)
    assert features["promql_operators"]["atan2"]
    assert not features["api"]["admin"]


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        (
            "/graph?g0.expr=x%5B5m%5D&g0.tab=0&g0.range_input=1h&g0.end_input=2026-11-01+10:00:00",
            {"expr": "x[5m]", "range": "3600", "end": "1793527200"},
        ),
        (
            "/query?g0.expr=up&g0.tab=table&g0.range_input=2w&g0.step_input=15",
            {"expr": "up", "range": "1209600", "step": "15", "tab": "table"},
        ),
        ("/graph?expr=a&range=6h", {"expr": "a", "range": "6h"}),
        ("/graph?g0.expr=up&g0.range_input=long&g0.end_input=soon", {"expr": "up"}),
        ("/graph", {}),
    ],
)
def test_a_link_to_prometheus_page_opens_ours(client, link, shown):
    answer = client.get(link, follow_redirects=False)

    target = urlsplit(answer.headers["location"])
    assert target.path == "/"
    assert parse_qs(target.query) == {name: [value] for name, value in shown.items()}


def federate(client, *matches, accept=""):
    answer = client.get("/federate", params={"match[]": matches}, headers={"accept": accept})
    assert answer.status_code == 200
    return answer.text.splitlines(), answer.headers["content-type"]


def test_the_newest_samples_are_there_to_be_scraped(client):
    lines, kind = federate(client, '{job=~"demo.*",route="/r0"}', "shop_requests_total")

    assert kind == "text/plain; charset=utf-8; version=0.0.4"
    assert lines[0] == "# TYPE shop_requests_total untyped"
    assert lines[1] == (
        f'shop_requests_total{{instance="h0",job="demo-shop",route="/r0"}} 8640 {NOW_MS}'
    )
    assert len(lines) == 5  # each series once
    assert lines[1:] == sorted(lines[1:])


def test_series_that_have_ended_are_not_scraped(client):
    assert federate(client, "node_load1") == ([], "text/plain; charset=utf-8; version=0.0.4")


def test_names_that_prometheus_2_does_not_know_are_quoted_or_replaced(client):
    old, _ = federate(client, '{"disk.free"}')
    new, kind = federate(
        client, '{"disk.free"}', accept="text/plain;version=1.0.0;escaping=allow-utf-8"
    )

    assert old == [
        "# TYPE disk_free untyped",
        f'disk_free{{job="node",mount_point="/",instance=""}} NaN {NOW_MS}',
    ]
    assert kind == "text/plain; charset=utf-8; version=1.0.0; escaping=allow-utf-8"
    assert new == [
        '# TYPE "disk.free" untyped',
        f'{{"disk.free",job="node","mount point"="/",instance=""}} NaN {NOW_MS}',
    ]


def test_nothing_is_scraped_without_a_selector(client):
    answer = client.get("/federate")

    assert (answer.status_code, answer.content) == (200, b"")


def test_the_document_is_openapi_and_has_every_address(client):
    document = client.get("/api/v1/openapi.json").json()

    openapi_spec_validator.validate(document)
    assert len(document["paths"]) == len(ENDPOINTS)
    query = document["paths"]["/api/v1/query_range"]["get"]["parameters"]
    assert {p["name"] for p in query if p["required"]} == {"query", "start", "end", "step"}
