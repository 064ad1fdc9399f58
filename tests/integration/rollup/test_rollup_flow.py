"""Rollups beside ingest on real Kafka and Spark: neither waits for what it need not wait for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.rollup.deployment import Deployment
from tests.integration.rollup.driver import ALONE, HELD
from varve.client.messages import Sample
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS, window_end
from varve.storage.snapshot import snapshot

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

SERIES = define("m", {"lane": "1"}, metric_type="gauge")


@pytest.fixture
def deployment(kafka_broker, tmp_path):
    running = Deployment(kafka_broker.bootstrap_servers, tmp_path / "a home")
    yield running
    running.close()


def stored(deployment: Deployment) -> int:
    return sum(batch["stored"] for batch in deployment.batches())


def frontiers(deployment: Deployment) -> list[int | None]:
    return [state.frontier_ms for state in deployment.states()]


def test_rollups_fall_behind_without_holding_up_ingest_and_catch_up(deployment):
    now_ms = SystemClock().now_ms()
    deployment.start(HELD)
    for round_ in range(5):
        start = now_ms - (5 - round_) * HOUR_MS
        deployment.send(Sample(SERIES, start + k * 10_000, float(k)) for k in range(300))
        deployment.await_(lambda n=300 * (round_ + 1): stored(deployment) == n)
    assert frontiers(deployment) == [None] * len(TIERS)

    (deployment.home / "go").touch()
    deployment.await_(lambda: deployment.complete(now_ms))
    report = deployment.verify(now_ms)

    assert report.differences == []
    assert report.rows["1m"] >= 250


def test_while_ingest_is_dead_frontiers_stand_still_and_repairs_go_on(deployment):
    now_ms = SystemClock().now_ms()
    late_ms = now_ms - 2 * DAY_MS
    deployment.send([Sample(SERIES, late_ms, 1.0), Sample(SERIES, now_ms, 1.0)])
    never = {"ROLLUP__REPAIR_EVERY_S": "3600"}
    deployment.start(**never)
    deployment.await_(lambda: deployment.complete(now_ms - MINUTE_MS))
    deployment.send([Sample(SERIES, late_ms + 1, 2.0)])
    deployment.await_(lambda: stored(deployment) == 3)
    deployment.kill()
    reach, looks = deployment.reach(), deployment.looks()

    deployment.start(ALONE, 10 * MINUTE_MS)
    deployment.await_(
        lambda: (
            deployment.looks() >= looks + 3
            and not any(state.pending for state in deployment.states())
        )
    )

    assert frontiers(deployment) == reach
    for tier in TIERS:
        rows = [
            (row["revision"], row["count"], row["max"])
            for row in deployment.rows(tier.table)
            if row["window_end"] == window_end(late_ms, tier.width_ms)
        ]
        assert max(rows)[1:] == (2, 2.0), tier.name
        assert min(rows)[1:] == (1, 1.0), tier.name


def test_a_file_that_is_missing_or_damaged_ends_nothing_and_is_named(deployment):
    now_ms = SystemClock().now_ms()
    old_ms, other_ms = now_ms - 3 * DAY_MS, now_ms - 2 * DAY_MS
    deployment.send([Sample(SERIES, old_ms, 1.0)])
    deployment.start()
    deployment.await_(lambda: stored(deployment) == 1)
    deployment.send([Sample(SERIES, other_ms, 1.0)])
    deployment.await_(lambda: stored(deployment) == 2 and deployment.complete(now_ms - MINUTE_MS))
    for name, content in (("samples", None), ("rollup_1h", b"PAR1")):
        file = snapshot(deployment.store, name).files[0]
        path = Path(deployment.store.uri(name)) / file.path
        path.unlink() if content is None else path.write_bytes(content)

    deployment.send([Sample(SERIES, old_ms + 1, 2.0), Sample(SERIES, other_ms + 1, 2.0)])
    deployment.await_(lambda: stored(deployment) == 4)
    deployment.await_(lambda: newest(deployment, "rollup_1m", other_ms) == 2)
    now_ms = SystemClock().now_ms()
    deployment.await_(lambda: frontiers(deployment)[0] > now_ms)

    assert newest(deployment, "rollup_1m", old_ms) == 1
    assert not deployment.died()
    assert f"rollup_1m: samples/{lost_sample(deployment)} is missing" in deployment.log.read_text()


def newest(deployment: Deployment, table: str, ts: int) -> int:
    """Samples in the newest row of the 1m window that holds ts."""
    end = window_end(ts, MINUTE_MS)
    rows = [row for row in deployment.rows(table) if row["window_end"] == end]
    return max(((row["revision"], row["count"]) for row in rows), default=(0, 0))[1]


def lost_sample(deployment: Deployment) -> str:
    return snapshot(deployment.store, "samples").files[0].path
