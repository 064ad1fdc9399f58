"""`varve serve query` for known people only: tokens, TLS, and bounds on who is slow or many."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest

from tests.certificates import write_certificates
from tests.integration.api_service import NOW_MS, fill, served, service_over
from tests.tables import WrittenTables
from varve.api.http_protocol import Bounds
from varve.cli.main import main
from varve.client.query import Query, QueryFailed
from varve.query.memory import MemoryBudget

ASK = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.1)
    return tables


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(environment):
    command = [sys.executable, "-m", "varve.cli", "serve", "query"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def within(deadline_s, condition):
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, "too late"
        time.sleep(0.05)
    return found


def test_commands_of_the_home_and_those_with_a_token_are_answered(
    tables, tmp_path, monkeypatch, capsys
):
    ca, server, secret = (tmp_path / name for name in ("ca.pem", "server.pem", "token"))
    write_certificates(ca, server)
    secret.write_text("s3cret-one\n")
    port = free_port()
    settings = {
        "VARVE_HOME": str(tmp_path / "home"),
        "VARVE_STORAGE__ROOT": tables.store.root,
        "VARVE_QUERY__PORT": str(port),
        "VARVE_QUERY__TOKENS__GRAFANA": f"file:{secret}",
        "VARVE_QUERY__TOKENS__OPS": "s3cret-ops",
        "VARVE_QUERY__ADMINS": "ops",
        "VARVE_QUERY__CERT_FILE": str(server),
        "VARVE_QUERY__KEY_FILE": str(server),
    }
    (tmp_path / "home").mkdir()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    url = f"https://127.0.0.1:{port}"
    trusting = ssl.create_default_context(cafile=str(ca))
    query = ["query", "sum(shop_requests_total)", "--at", str(NOW_MS // 1000)]

    def status(path, token=None, method="GET"):
        login = {"Authorization": f"Bearer {token}"} if token else {}
        with contextlib.suppress(httpx.TransportError):
            return httpx.request(method, url + path, headers=login, verify=trusting).status_code
        return None

    with running({**os.environ, **settings}) as process:
        within(180, lambda: status("/-/ready") == 200 or process.poll() is not None)

        # The service has left a token for who may read the home.
        assert main(query) == 0
        assert capsys.readouterr().out == "{}  86400\n"

        # One that names the service shows its own, and knows the CA as other programs do.
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        assert main([*query, "--url", url]) == 1
        assert "bearer token" in capsys.readouterr().err
        assert main([*query, "--url", url, "--token", f"file:{secret}"]) == 0
        monkeypatch.setenv("VARVE_QUERY__TOKEN", "s3cret-ops")
        assert main([*query, "--url", url]) == 0

        assert status("/api/v1/query?query=1") == 401
        assert status("/api/v1/query?query=1", "s3cret-one") == 200
        secret.write_text("s3cret-two")
        assert status("/-/reload", "s3cret-one", "POST") == 403
        assert status("/-/reload", "s3cret-ops", "POST") == 200
        assert status("/api/v1/query?query=1", "s3cret-one") == 401
        assert status("/api/v1/query?query=1", "s3cret-two") == 200
        shown = httpx.get(
            f"{url}/api/v1/status/config",
            headers={"Authorization": "Bearer s3cret-two"},
            verify=trusting,
        )
        assert "s3cret" not in shown.text

        # A notebook names the CA; nothing is sent to whom it does not know.
        at = {"at": NOW_MS / 1000}
        with Query(url, token="s3cret-two", verify=str(ca)) as asked:
            frame = asked.instant("sum(shop_requests_total)", **at)
            assert frame.to_pandas()["value"].tolist() == [86_400]
        monkeypatch.delenv("SSL_CERT_FILE")
        with (
            Query(url, token="s3cret-two") as asked,
            pytest.raises(QueryFailed, match=f"no answer of {url}.*certificate"),
        ):
            asked.instant("1", **at)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http") + "/-/ready")
        left = tmp_path / "home" / "run" / "query.token"
        assert left.stat().st_mode & 0o777 == 0o600
        state = json.loads((tmp_path / "home" / "run" / "query.status.json").read_text())
        assert left.read_text() not in json.dumps(state)


def test_nobody_listens_for_the_world_without_knowing_who_may(
    tables, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("VARVE_QUERY__HOST", "0.0.0.0")

    assert main(["serve", "query", "--home", str(tmp_path)]) == 78
    assert "set tokens, users or client_ca_file" in capsys.readouterr().err


def connect(url):
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def answer(connection):
    """The answer to ASK, whose body may come apart from its head."""
    connection.sendall(ASK)
    found = connection.recv(1 << 16)
    while found and not found.partition(b"\r\n\r\n")[2]:
        found += connection.recv(1 << 16)
    return found


@pytest.fixture(scope="module")
def service(tables):
    return service_over(tables)


def test_an_idle_connection_makes_room_for_a_new_one(service):
    with served(service, bounds=Bounds(connections=4)) as url, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(url)) for _ in range(4)]
        for one in idle:
            assert b"200 OK" in answer(one)

        new = stack.enter_context(connect(url))
        assert b"200 OK" in answer(new)

        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""
        assert b"200 OK" in answer(idle[3])


def test_who_finds_all_connections_busy_is_told_to_come_again(service):
    body = (
        b"POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\nquery="
    )
    with served(service, bounds=Bounds(connections=2)) as url, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(url)).sendall(body)

        def refused():
            with connect(url) as third:
                return (found := third.recv(1 << 16)).startswith(b"HTTP/1.1 503") and found

        assert b"retry-after" in within(30, refused)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", ASK + b"GET / HT"])
def test_a_head_that_does_not_come_ends_the_connection(service, sent):
    with (
        served(service, bounds=Bounds(head_s=0.5)) as url,
        connect(url) as slow,
    ):
        slow.sendall(sent)
        received = b"".join(iter(lambda: slow.recv(1 << 16), b""))

    assert (b"200 OK" in received) == sent.startswith(ASK)


def test_an_answer_that_nobody_reads_is_given_up_and_its_memory_is_free(service, monkeypatch):
    budget = MemoryBudget(1 << 30)
    monkeypatch.setattr(service, "memory", budget)
    start, end = NOW_MS / 1000 - 10_999, NOW_MS / 1000
    queries = " or ".join(f'label_replace(vector(time()), "n", "{n}", "", "")' for n in range(40))
    path = f"/api/v1/query_range?query={queries.replace(' ', '+')}&start={start}&end={end}&step=1"
    with served(service, bounds=Bounds(stalled_s=0.5)) as url, connect(url) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

        within(60, lambda: budget.used["queries"] > 8 << 20)
        within(60, lambda: budget.used["queries"] == 0)


def test_bodies_on_their_way_count_as_memory(service, monkeypatch):
    budget = MemoryBudget(40 << 20)
    monkeypatch.setattr(service, "memory", budget)
    large = b"query=1&x=" + b"x" * 9_000_000
    head = b"POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(large)
    head += b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"

    with served(service) as url, connect(url) as held, connect(url) as refused:
        sending = threading.Thread(target=held.sendall, args=(head + large[:-1],))
        sending.start()
        within(60, lambda: budget.used["queries"] > 26_000_000)
        sending.join()
        refused.sendall(head + large)
        status = refused.recv(1 << 16).partition(b"\r\n")[0]
        held.sendall(large[-1:])
        done = held.recv(1 << 16).partition(b"\r\n")[0]

    assert (status, done) == (b"HTTP/1.1 422 Unprocessable Entity", b"HTTP/1.1 200 OK")
    assert budget.used["queries"] == 0
