"""Datadog's client sends by UDP and a Unix socket, and lines come by TCP: each counts once."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from datadog.dogstatsd import DogStatsd

from tests.unit.gateway.statsd.test_aggregation import flushed
from varve.gateway.statsd.aggregation import Aggregation
from varve.gateway.statsd.listener import Listener
from varve.local.broker import free_port
from varve.model.errors import NeedsOperator

DEADLINE_S = 30


async def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def send_all(client):
    client.increment("web.requests", 3, tags=["code:200"])
    client.gauge("depth", 7)
    client.histogram("size", 0.5)
    client.timing("latency", 320)
    client.distribution("spread", 2.5)
    client.set("users", "u1")
    client.event("deployed", "now")
    client.service_check("db.up", 0)
    client.flush()


def test_every_way_in_takes_every_kind(tmp_path):
    async def story():
        aggregation = Aggregation((1.0,))
        listener = Listener(lambda packet: aggregation.take(packet, 0))
        port, path = free_port(), tmp_path / "statsd.sock"
        await listener.open("127.0.0.1", port, str(path))
        clients = [
            DogStatsd("127.0.0.1", port, disable_telemetry=True),
            DogStatsd(socket_path=str(path), disable_telemetry=True),
        ]
        for client in clients:
            await asyncio.to_thread(send_all, client)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for part in (b"web.requests:4|c|#co", b"de:200\nweb.requests:5|c|#code:200"):
                connection.sendall(part)
        await until(lambda: aggregation.lines == 2 * 8 + 2)
        await listener.close()
        assert listener.dropped() == 0
        assert not path.exists()
        return aggregation

    aggregation = asyncio.run(story())

    found = flushed(aggregation)
    assert aggregation.rejected == 0
    assert found["web_requests", "200", 1000] == 3 + 3 + 4 + 5
    assert found["depth", 1000] == 7
    assert found["latency_sum", 1000] == pytest.approx(0.64)
    assert found["size_bucket", "1.0", 1000] == 2
    assert found["spread_bucket", "1.0", 1000] == 0
    assert found["spread_count", 1000] == 2
    assert found["users", 1000] == 1


def test_a_port_that_is_taken_is_named():
    async def story():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            await Listener(lambda _: None).open("127.0.0.1", taken.getsockname()[1])

    with pytest.raises(NeedsOperator, match="statsd_port"):
        asyncio.run(story())
