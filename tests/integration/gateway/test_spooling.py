"""Without Kafka, what a gateway has acknowledged is in its spool, kill -9 or not."""

from __future__ import annotations

import random
import time

import pytest

from tests.integration.gateway.gateway_process import GatewayProcess, Sender
from tests.integration.gateway.spooled import spooled_samples

NOBODY = "127.0.0.1:9"


def spooled(home):
    """The samples in the spool, as senders name them."""
    named = [(dict(labels), ts, value) for labels, ts, value in spooled_samples(home)]
    return {
        (f"{labels['__name__']}/{labels['n']}/{labels['round']}", ts, value)
        for labels, ts, value in named
    }


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_point_it_has_all_that_it_acknowledged(tmp_path, kills):
    gateway = GatewayProcess(tmp_path, NOBODY)
    gateway.know_partitions(raw_metrics=4)
    rng = random.Random(kills)
    now_ms = time.time_ns() // 1_000_000
    gateway.start()
    senders = [Sender(gateway.url, f"s{n}", 1 + n % 2, now_ms) for n in range(4)]
    try:
        for _ in range(kills):
            before = sum(len(s.acknowledged) for s in senders)
            deadline = time.monotonic() + 60
            while sum(len(s.acknowledged) for s in senders) < before + 500:
                assert time.monotonic() < deadline, gateway.log[-2000:]
                time.sleep(0.005)
            time.sleep(rng.random() * 0.1)  # somewhere in the middle of it
            gateway.kill()
            gateway.start()
    finally:
        for sender in senders:
            sender.stop()
        gateway.kill()

    acknowledged = set().union(*(s.acknowledged for s in senders))
    found = spooled(tmp_path)
    assert len(acknowledged) > 500 * kills
    assert acknowledged - found == set()
    assert all(value > 0 for _, _, value in found)


def test_a_full_spool_is_503_and_the_metrics_add_up(tmp_path):
    gateway = GatewayProcess(tmp_path, NOBODY, spool_mb="1")
    gateway.know_partitions(raw_metrics=4)
    gateway.start()
    sender = Sender(gateway.url, "s", 1, time.time_ns() // 1_000_000, series=2_000)
    deadline = time.monotonic() + 60
    while not sender.refused:
        assert time.monotonic() < deadline, gateway.log[-2000:]
        time.sleep(0.01)
    sender.stop()

    found = gateway.metrics()
    assert gateway.stop() == 0

    assert found["varve_gateway_received_samples_total"] == (
        found["varve_gateway_spooled_samples_total"] + found["varve_gateway_refused_samples_total"]
    )
    assert found["varve_gateway_spool_bytes"] <= 1 << 20
    assert found["varve_gateway_kafka_up"] == 0
    assert found["varve_gateway_spooled_samples_total"] == len(sender.acknowledged)
    assert sender.acknowledged <= spooled(tmp_path)
