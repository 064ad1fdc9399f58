"""Who may not write does not, and who misbehaves does not keep others from it. Without Kafka."""

from __future__ import annotations

import json
import socket
import ssl
import time

import httpx
import psutil
import pytest

from tests.certificates import write_certificates
from tests.integration.gateway.gateway_process import GatewayProcess
from tests.remote_writing import HEADERS_V1, snappy, write_request

NOBODY = "127.0.0.1:9"


def body():
    return snappy(write_request([({"__name__": "up"}, [(time.time_ns() // 1_000_000, 1.0)])]))


@pytest.fixture
def gateway(tmp_path):
    """A gateway that spools."""
    process = GatewayProcess(tmp_path, NOBODY)
    process.know_partitions(raw_metrics=4)
    process.start()
    yield process
    assert process.stop() == 0


def write(gateway, **options):
    return httpx.post(f"{gateway.url}/api/v1/write", content=body(), headers=HEADERS_V1, **options)


def connect(gateway):
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=30)


def test_heads_without_end_and_broken_ones_are_refused_and_others_served(gateway):
    with connect(gateway) as endless:
        endless.sendall(b"POST /api/v1/write HTTP/1.1\r\n" + b"x: " + b"y" * 70_000)
        assert endless.recv(100).startswith(b"HTTP/1.1 431")
    with connect(gateway) as many:
        many.sendall(b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000)
        assert many.recv(100).startswith(b"HTTP/1.1 431")
    with connect(gateway) as broken:
        broken.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert broken.recv(100).startswith(b"HTTP/1.1 400")

    assert write(gateway).status_code == 204


def test_a_thousand_idle_connections_and_slow_bodies_take_little_and_hold_up_nobody(gateway):
    assert write(gateway).status_code == 204
    before = psutil.Process(gateway.pid).memory_info().rss
    idle = [connect(gateway) for _ in range(500)]
    slow = [connect(gateway) for _ in range(500)]
    for connection in slow:
        connection.sendall(
            b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
            b"content-encoding: snappy\r\ncontent-length: 1000000\r\n\r\n" + b"z" * 1_000
        )

    for _ in range(10):
        assert write(gateway).status_code == 204
    grown = psutil.Process(gateway.pid).memory_info().rss - before
    for connection in (*idle, *slow):
        connection.close()

    assert grown < 50 * 2**20


def test_bombs_and_lies_take_no_memory(gateway):
    assert write(gateway).status_code == 204
    before = psutil.Process(gateway.pid).memory_info().rss
    bomb = snappy(bytes(200 * 2**20))
    lie = b"\xff\xff\xff\xff\x0f" + b"\0" * 100
    for content in (bomb, lie, body()[:-3], b"\0" * 1_000_000):
        for _ in range(5):
            answer = httpx.post(f"{gateway.url}/api/v1/write", content=content, headers=HEADERS_V1)
            assert answer.status_code in (400, 413)

    assert psutil.Process(gateway.pid).memory_info().rss - before < 100 * 2**20
    assert write(gateway).status_code == 204


def test_senders_prove_who_they_are_by_certificate_and_token(tmp_path):
    ca, server = tmp_path / "ca.pem", tmp_path / "server.pem"
    write_certificates(ca, server)
    gateway = GatewayProcess(
        tmp_path,
        NOBODY,
        cert_file=str(server),
        key_file=str(server),
        client_ca_file=str(ca),
        tokens__team="s3cret-token",
    )
    gateway.url = gateway.url.replace("http:", "https:")
    gateway.know_partitions(raw_metrics=4)
    trusting = ssl.create_default_context(cafile=str(ca))
    proving = ssl.create_default_context(cafile=str(ca))
    proving.load_cert_chain(str(server))
    gateway.start(verify=proving)
    login = {"authorization": "Bearer s3cret-token"}
    url = f"{gateway.url}/api/v1/write"

    with pytest.raises(httpx.TransportError):
        httpx.post(url, content=body(), headers=HEADERS_V1 | login, verify=trusting)
    with pytest.raises(httpx.TransportError):
        httpx.post(url.replace("https", "http"), content=body(), headers=HEADERS_V1 | login)
    assert httpx.post(url, content=body(), headers=HEADERS_V1, verify=proving).status_code == 401
    answer = httpx.post(url, content=body(), headers=HEADERS_V1 | login, verify=proving)
    assert answer.status_code == 204
    assert gateway.stop() == 0
    state = json.loads((tmp_path / "run" / "gateway.status.json").read_text())
    assert "s3cret" not in gateway.log + str(state)
