"""Too many requests at once: turns, bounds, deadlines; what is under way can be seen and ended."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from tests.integration.api_service import NOW_MS, fill, served, service_over
from tests.tables import WrittenTables
from varve.access.credentials import Credentials
from varve.api import query_endpoints, runner
from varve.api.endpoints import ENDPOINTS
from varve.query import evaluation

# The first answer may have to wait for kernels to be compiled.
HTTP = httpx.Client(timeout=120)

READER, ADMIN = {"Authorization": "Bearer r"}, {"Authorization": "Bearer a"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.01)
    return tables


@pytest.fixture
def service(tables):
    service = service_over(tables)
    service.threads, service.most_waiting = 2, 3
    service.credentials = Credentials({"reader": "r", "ops": "a"}, {}, ["ops"])
    return service


@pytest.fixture
def gate(monkeypatch):
    """Queries named `held` wait here until it is set, or until they are ended."""
    opened = threading.Event()
    evaluate = evaluation.evaluate

    def held(view, expression, times, options):
        while "held" in expression and not opened.wait(0.02):
            options.check_running()
        return evaluate(view, expression, times, options)

    monkeypatch.setattr(query_endpoints, "evaluate", held)
    yield opened
    opened.set()


def within(deadline_s, condition):
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)
    return found


def ask(url, query, headers=READER, **more):
    form = {"query": query, "time": NOW_MS / 1000} | more
    return HTTP.post(f"{url}/api/v1/query", data=form, headers=headers)


def active(url):
    found = HTTP.get(f"{url}/api/v1/status/active_queries", headers=ADMIN).json()
    return found["data"]["queries"]


def test_the_queue_is_bounded_and_fair_and_metadata_goes_past_it(service, gate):
    with served(service) as url, ThreadPoolExecutor(12) as clients:
        held = [clients.submit(ask, url, f"held{n}") for n in range(5)]
        within(20, lambda: len(active(url)) == 2)
        page = f"{url}/metrics"
        waiting = 'varve_query_waiting_requests{kind="queries"} 3.0'
        within(20, lambda: waiting in HTTP.get(page, headers=ADMIN).text)

        refused = ask(url, "held-too-many")
        guest = clients.submit(ask, url, "vector(1)", ADMIN)
        sent_away = within(20, lambda: [h for h in held if h.done()])
        labels = HTTP.get(f"{url}/api/v1/labels", headers=READER)
        gate.set()

        assert (refused.status_code, refused.json()["errorType"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert [h.result().status_code for h in sent_away] == [503]
        assert guest.result().status_code == 200
        assert labels.status_code == 200
        assert sorted(h.result().status_code for h in held) == [200, 200, 200, 200, 503]
        shed = 'varve_query_shed_requests_total{kind="queries"} 2.0'
        assert shed in HTTP.get(page, headers=ADMIN).text


def test_the_deadline_runs_while_a_request_waits_for_its_turn(service, gate):
    with served(service) as url, ThreadPoolExecutor(4) as clients:
        held = [clients.submit(ask, url, f"held{n}") for n in range(2)]
        within(20, lambda: len(active(url)) == 2)
        began = time.monotonic()

        late = ask(url, "1", timeout="500ms")

        assert (late.status_code, late.json()["errorType"]) == (503, "timeout")
        assert time.monotonic() - began < 10
        gate.set()
        assert [h.result().status_code for h in held] == [200, 200]


def test_what_a_client_asks_for_ends_when_it_leaves_not_when_somebody_looks(
    service, gate, monkeypatch
):
    """Of three clients that leave two have a place, and one waits for it."""
    monkeypatch.setattr(runner, "_LOOK_S", 3_600.0)
    with served(service) as url:
        host, port = url.removeprefix("http://").split(":")
        clients = [socket.create_connection((host, int(port))) for _ in range(3)]
        for number, client in enumerate(clients):
            client.sendall(
                b"GET /api/v1/query?query=held%d HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Authorization: Bearer r\r\n\r\n" % number
            )
        page = f"{url}/metrics"
        waiting = 'varve_query_waiting_requests{kind="queries"} %d.0'
        within(20, lambda: waiting % 1 in HTTP.get(page, headers=ADMIN).text)

        for client in clients:
            client.close()

        within(20, lambda: not active(url))
        within(20, lambda: waiting % 0 in HTTP.get(page, headers=ADMIN).text)
        assert not gate.is_set()


def test_a_client_that_leaves_within_its_request_is_no_error_of_the_service(service, caplog):
    with served(service) as url, caplog.at_level(logging.WARNING):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /api/v1/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n"
                b"Authorization: Bearer r\r\n\r\nquery="
            )
        counted = 'varve_query_requests_total{route="query",status="499"} 1.0'
        page = f"{url}/metrics"
        within(20, lambda: counted in HTTP.get(page, headers=ADMIN).text)

    assert not [line for line in caplog.records if line.exc_info]


def test_an_answer_comes_at_the_deadline_though_a_kernel_goes_on(service, monkeypatch):
    monkeypatch.setattr(runner, "_LOOK_S", 3_600.0)
    going_on = threading.Event()
    monkeypatch.setattr(query_endpoints, "evaluate", lambda *_: going_on.wait(60))
    with served(service) as url:
        late = ask(url, "1", timeout="100ms")
        going_on.set()

    assert (late.status_code, late.json()["errorType"]) == (503, "timeout")


def test_who_waits_for_a_snapshot_takes_no_turn(service, tables):
    service.threads, service.most_waiting = 1, 10
    arrived, newer = threading.Event(), service.options.newer_view

    def later(known):
        arrived.wait(30)
        return newer(known)

    service.options = replace(service.options, newer_view=later)
    tables.put([(1, NOW_MS, 1.0)])
    newest = service_over(tables).view().provenance.to_json()["snapshot"]
    with served(service) as url, ThreadPoolExecutor(8) as clients:
        waits = [clients.submit(ask, url, "1", at_least=newest) for _ in range(5)]
        assert ask(url, "2").json()["provenance"]["snapshot"] != newest
        assert not any(w.done() for w in waits)
        arrived.set()
        assert [w.result().json()["provenance"]["snapshot"] for w in waits] == [newest] * 5


def test_an_admin_sees_and_ends_a_query_and_slow_ones_are_logged(service, gate, caplog):
    service.slow_s = 0.001
    with served(service) as url, ThreadPoolExecutor(4) as clients, caplog.at_level(logging.WARNING):
        held = clients.submit(ask, url, "held")
        (one,) = within(20, lambda: active(url))
        seen = HTTP.get(f"{url}/api/v1/status/active_queries", headers=READER)
        forbidden = HTTP.post(f"{url}/-/cancel", data={"id": one["id"]}, headers=READER)
        ended = HTTP.post(f"{url}/-/cancel", data={"id": one["id"]}, headers=ADMIN)

        assert (one["query"], one["principal"], one["route"]) == ("held", "reader", "query")
        assert (seen.status_code, forbidden.status_code, ended.status_code) == (403, 403, 200)
        assert held.result().json()["errorType"] == "canceled"
        none = HTTP.post(f"{url}/-/cancel", data={"id": one["id"]}, headers=ADMIN)
        assert none.status_code == 404
    assert "query by reader: held" in caplog.text


def test_everything_may_be_below_a_prefix(service):
    service.route_prefix = "/varve"
    service.credentials = Credentials({}, {})
    with served(service) as url:
        assert HTTP.get(f"{url}/varve/-/ready").status_code == 200
        assert HTTP.get(f"{url}/varve/api/v1/query?query=1").json()["status"] == "success"
        assert HTTP.get(f"{url}/varve").headers["location"] == "/varve/"
        assert 'href="static/' in HTTP.get(f"{url}/varve/").text
        assert HTTP.get(f"{url}/varve/static/page.js").status_code == 200
        linked = HTTP.get(f"{url}/varve/graph?g0.expr=up")
        assert linked.headers["location"].startswith("/varve/?")
        for elsewhere in ("/api/v1/query?query=1", "/varvex/-/ready", "/metrics"):
            assert HTTP.get(url + elsewhere).status_code == 404


def test_every_evaluation_has_threads_of_its_own_kind():
    kinds = {endpoint.path: endpoint.pool for endpoint in ENDPOINTS}

    assert {path for path, kind in kinds.items() if kind == "queries"} == {
        *("query", "query_range", "explain", "read", "/federate")
    }
    assert kinds["sql"] == "sql"
