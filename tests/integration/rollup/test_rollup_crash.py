"""Rollups on real Kafka and Spark: a process killed between its commits leaves no trace."""

from __future__ import annotations

import random

import pytest

from tests.integration.rollup.deployment import Deployment
from varve.client.messages import Sample
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.model.window import HOUR_MS, MINUTE_MS
from varve.storage.log import entries
from varve.storage.table import Table

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

SERIES = [define("m", {"lane": str(k)}, metric_type="gauge") for k in range(20)]


@pytest.fixture
def deployment(kafka_broker, tmp_path):
    running = Deployment(kafka_broker.bootstrap_servers, tmp_path / "a home")
    yield running
    running.close()


def history(rng: random.Random, start_ms: int, end_ms: int, step_ms: int) -> list[Sample]:
    return [
        Sample(series, ts + rng.randrange(step_ms), rng.choice([rng.gauss(0, 1), 1.0, None]))
        for series in SERIES
        for ts in range(start_ms, end_ms, step_ms)
    ]


def test_a_process_killed_between_its_commits_leaves_rows_exact_and_repairs_noted_once(deployment):
    rng = random.Random(5)
    now_ms = SystemClock().now_ms()
    deployment.send(history(rng, now_ms - 3 * HOUR_MS, now_ms - 10_000, 15_000))
    deployment.start("before the commit", 3)
    deployment.await_(deployment.died, dies=True)

    deployment.start("between the commits", 1)
    deployment.await_(lambda: closed(deployment, now_ms - HOUR_MS))
    deployment.send(history(rng, now_ms - 3 * HOUR_MS, now_ms - 2 * HOUR_MS, 600_000))
    deployment.await_(deployment.died, dies=True)

    deployment.start("after the commit", 2)
    deployment.send(history(rng, now_ms - 2 * HOUR_MS, now_ms - HOUR_MS, 600_000))
    deployment.await_(deployment.died, dies=True)

    deployment.start()
    deployment.await_(lambda: deployment.complete(now_ms))
    report = deployment.verify(now_ms)

    assert report.differences == []
    assert report.rows["1m"] > 1_000
    assert noted(deployment) == repaired(deployment)


def closed(deployment: Deployment, until_ms: int) -> bool:
    states = deployment.states()
    return bool(states) and (states[0].frontier_ms or 0) >= until_ms - MINUTE_MS


def noted(deployment: Deployment) -> int:
    rows = deployment.rows("repairs")
    return sum(r["windows"] for r in rows if r["tier"] == "1m" and r["status"] == "repaired")


def repaired(deployment: Deployment) -> int:
    newest = Table(deployment.store, "rollup_1m").version
    log = entries(deployment.store, "rollup_1m", -1, newest)
    return sum(entry.metadata.get("repaired", 0) for entry in log)
