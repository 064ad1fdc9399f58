"""Which requests of browsers are answered."""

from __future__ import annotations

import socket

import pytest
from starlette.testclient import TestClient

from varve.access.browsers import BrowserRules
from varve.api.app import create_app
from varve.api.service import Service
from varve.model.clock import ManualClock
from varve.query.evaluation import Options

FORM = {"query": "1"}


def client(rules: BrowserRules | None = None) -> TestClient:
    rules = rules or BrowserRules()
    service = Service(Options(), ManualClock(), lambda: None, lambda: "no tables", browsers=rules)
    return TestClient(create_app(service), base_url="http://localhost:9690")


def status(response):
    """403 of the check; 503 says that it was passed, as there are no tables."""
    assert response.status_code in (403, 503)
    assert response.json()["status"] == "error"
    return response.status_code


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9690",
        "localhost.",
        "varve.localhost:1",
        "127.0.0.1:9690",
        "192.168.7.8",
        "[::1]:9690",
        "[fe80::1]",
        socket.gethostname(),
    ],
)
def test_addresses_and_names_of_this_machine_are_answered(host):
    assert status(client().get("/api/v1/query", headers={"Host": host})) == 503


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9690",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "xlocalhost",
        "[::1].evil.example",
        "evil.example#localhost",
        "evil.example@localhost",
        "localhost:1:2",
        ":9690",
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/query", "/metrics", "/", "/static/page.js", "/graph"])
def test_a_name_that_is_not_this_service_is_refused_everywhere(host, path):
    refused = client().get(path, headers={"Host": host})

    assert status(refused) == 403
    assert "query.allowed_hosts" in refused.json()["error"]


def test_probes_are_answered_whatever_name_they_use():
    probe = client().get("/-/healthy", headers={"Host": "pod.cluster"})

    assert probe.status_code == 200


@pytest.mark.parametrize("hosts", [["Metrics.Example"], ["*"]])
def test_names_that_are_allowed_are_answered(hosts):
    allowed = client(BrowserRules.of(hosts, []))

    assert status(allowed.get("/api/v1/query", headers={"Host": "metrics.example:80"})) == 503


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},  # another program's page on this machine
        {"Origin": "http://localhost:9690.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:9690"},
    ],
)
@pytest.mark.parametrize("body", [{"data": FORM}, {"json": FORM}, {"content": b"query=1"}])
def test_a_post_of_another_page_is_refused(headers, body):
    refused = client().post("/api/v1/query", headers=headers, **body)

    assert status(refused) == 403
    assert "query.allowed_origins" in refused.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:9690"},
        {"Origin": "http://LOCALHOST:9690"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_post_of_the_own_page_or_of_no_browser_is_answered(headers):
    assert status(client().post("/api/v1/query", headers=headers, data=FORM)) == 503


def test_an_allowed_origin_may_send_and_read():
    allowed = client(BrowserRules.of([], ["https://Grafana.example/"]))
    headers = {"Origin": "https://grafana.example", "Sec-Fetch-Site": "cross-site"}

    answer = allowed.post("/api/v1/query", headers=headers, data=FORM)
    other = allowed.post("/api/v1/query", headers={"Origin": "https://evil.example"}, data=FORM)

    assert status(answer) == 503
    assert answer.headers["access-control-allow-origin"] == "https://grafana.example"
    assert status(other) == 403
    assert "access-control-allow-origin" not in other.headers
