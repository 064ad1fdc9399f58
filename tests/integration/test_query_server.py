"""The HTTP server as clients on a socket see it: latency, limits, idle connections."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import statistics
import subprocess
import time
from urllib.parse import unquote_plus

import pytest

from tests.integration.api_service import NOW_MS, fill, served, service_over
from tests.tables import WrittenTables
from varve.api import server
from varve.api.http_protocol import MAX_HEAD_BYTES

NOW = NOW_MS // 1000


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.02)
    return service_over(tables)


@pytest.fixture(scope="module")
def url(service):
    with served(service) as url:
        yield url


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_small_answers_on_a_kept_connection_do_not_wait_for_an_acknowledgement(url):
    addresses = [f"{url}/api/v1/query?query=1&time={NOW}"] * 60
    quiet = [word for address in addresses for word in ("-o", "/dev/null", address)]
    told = "%{num_connects} %{time_total}\\n"

    ran = subprocess.run(
        ["curl", "-sS", "-w", told, *quiet],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [connects for connects, _ in lines] == ["1"] + ["0"] * 59
    # With Nagle's algorithm on, each but the first few takes 40 ms at least.
    assert statistics.median(float(seconds) for _, seconds in lines[30:]) < 0.03


def address(url):
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def request_of(size, kind):
    """The head of a valid request, `size` bytes long."""
    start = f"GET /api/v1/query?time={NOW}&query="
    if kind == "address":
        end = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        return (start + "1" * (size - len(start) - len(end)) + end).encode()
    head = f"{start}1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: "
    return (head + "x" * (size - len(head) - 4) + "\r\n\r\n").encode()


def answered(url, head, piece):
    """Status and body of the answer to a head that is sent in pieces."""
    with socket.create_connection(address(url), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(head), piece):
            connection.sendall(head[start : start + piece])
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.getheader("content-type"), response.read()


@pytest.mark.parametrize("word", ["Köln", "K%C3%B6ln", "内存", "a+b", "%26%3D"])
@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_bytes_of_a_request_are_utf_8_escaped_or_not(url, word, piece):
    wanted = unquote_plus(word)
    query = f'query="{word}"&time={NOW}'.encode()
    in_address = b"GET /api/v1/query?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % query
    in_form = (
        b"POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n%s" % (len(query), query)
    )

    for request in (in_address, in_form):
        status, _, body = answered(url, request, piece)
        assert (status, json.loads(body)["data"]["result"][1]) == (200, wanted)


@pytest.mark.parametrize("piece", [1 << 14, 100_003, 1 << 22])
@pytest.mark.parametrize("kind", ["address", "header"])
def test_a_head_has_one_limit_however_it_is_cut(url, kind, piece):
    status, _, _ = answered(url, request_of(MAX_HEAD_BYTES, kind), piece)
    over = answered(url, request_of(MAX_HEAD_BYTES + 1, kind), piece)
    far_over = answered(url, request_of(3 * MAX_HEAD_BYTES, kind), piece)

    assert status in (200, 400)  # a number of a million digits need not be one
    for status, content_type, body in (over, far_over):
        assert status == 431
        assert content_type == "application/json"
        assert json.loads(body)["status"] == "error"
        assert "by POST" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "head", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
)
def test_what_is_no_request_is_refused_in_json(url, head):
    status, content_type, body = answered(url, head, 1 << 16)

    assert (status, content_type) == (400, "application/json")
    assert "no HTTP/1.1" in json.loads(body)["error"]


def test_the_connection_after_a_refusal_serves_others(url):
    answered(url, request_of(MAX_HEAD_BYTES + 1, "header"), 1 << 16)

    status, _, _ = answered(url, request_of(1_000, "header"), 1 << 16)

    assert status == 200


def test_an_idle_connection_is_kept_for_its_time_and_then_closed(service, monkeypatch):
    assert server.KEEP_ALIVE_S > 90  # Go's client keeps one for that long
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 1)

    with served(service) as url, socket.create_connection(address(url), timeout=30) as connection:
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        response.read()
        idle = time.monotonic()
        closed = connection.recv(1)

    assert closed == b""
    assert 0.5 < time.monotonic() - idle < 20
