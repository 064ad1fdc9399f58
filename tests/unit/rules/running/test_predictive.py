"""The rules of conf/predictive-alerts.yml over forecasts, capacity and scores, as they are run."""

import math

import pytest

from tests.unit.query.test_derived_series import append, capacity
from tests.unit.rules.running.world import START_MS, Process, World
from varve.model.identity import define
from varve.model.resources import conf_dir

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
RULES = (conf_dir() / "predictive-alerts.yml").read_text()
DISK = define("disk_used", {"host": "a", "volume": "data"})
LOAD = define("load", {"host": "a"})


@pytest.fixture
def world(tmp_path):
    found = World(str(tmp_path))
    for series in (DISK, LOAD):
        found.produce(series.metric, 1.0, **dict(series.tags))
    found.ingest()
    return found


def judge_capacity(store, at_ms, reaches_ms, probability):
    row = capacity(at_ms, reaches_ms, probability, series=DISK)
    append(store, "capacity", [row])


def forecast(store, trained_ms):
    rows = [
        {
            "series_id": DISK.series_id,
            "ts": trained_ms + hour * HOUR,
            "value": float(hour),
            "lower": hour - 1.0,
            "upper": hour + 2.0,
            "coverage": 0.8,
            "model": "m",
            "trained_until": trained_ms,
        }
        for hour in range(1, 7 * 24 + 1)
    ]
    append(store, "forecasts", rows)


def deviate(store, first_ms, minutes):
    rows = [
        {
            "series_id": LOAD.series_id,
            "window_end": first_ms + n * MINUTE,
            "value": 9.0,
            "expected": 1.0,
            "stddev": 1.0,
            "score": 8.0,
            "revision": 1,
            "detected_at": first_ms,
            "is_deviation": True,
            "rule": "default",
            "baseline_at": START_MS,
        }
        for n in range(minutes)
    ]
    append(store, "anomalies", rows)


def evaluate_until(world, process, end_ms):
    while world.now_ms < end_ms:
        world.now_ms += MINUTE
        world.ingest()
        process.tick()


def test_what_is_forecast_and_judged_fires_in_time_and_is_resolved(world):
    hour = START_MS - START_MS % HOUR
    judge_capacity(world.store, hour, hour + 2 * DAY, 0.9)
    forecast(world.store, hour)
    deviate(world.store, START_MS - START_MS % MINUTE + 2 * MINUTE, 12)
    process = Process(world, RULES)
    try:
        evaluate_until(world, process, START_MS + 20 * MINUTE)
        fired = {(name, state): at for at, state, name, _, _ in world.changes()}

        assert 0 < fired["RunsOutInThreeDays", "firing"] <= 120
        assert 600 <= fired["StaysUnusual", "firing"] <= 720
        labels = {
            tuple(sorted(e["labels"].items())) for e in world.events if e["state"] == "firing"
        }
        assert any(("metric", "disk_used") in one and ("volume", "data") in one for one in labels)
        ((recorded, points),) = world.samples("resource:forecast_ahead:3d").items()
        assert dict(recorded)["metric"] == "disk_used"
        assert dict(recorded)["ahead"] == "3d"
        assert all(
            value is None or math.isclose(value, 74, abs_tol=1.5) for value in points.values()
        )

        judge_capacity(world.store, world.now_ms, None, 0.0)
        evaluate_until(world, process, START_MS + 23 * MINUTE)
        resolved = {name for _, state, name, _, _ in world.changes() if state == "resolved"}
        assert resolved == {"RunsOutInThreeDays", "StaysUnusual"}
    finally:
        process.close()


def test_a_process_that_takes_over_neither_fires_again_nor_resolves_before_its_time(world):
    hour = START_MS - START_MS % HOUR
    judge_capacity(world.store, hour, hour + 2 * DAY, 0.9)
    first = Process(world, RULES)
    evaluate_until(world, first, START_MS + 3 * MINUTE)
    first.close()

    second = Process(world, RULES, name="b", gone=lambda _member: True)
    try:
        evaluate_until(world, second, START_MS + 6 * MINUTE)
        judge_capacity(world.store, world.now_ms, None, 0.0)
        evaluate_until(world, second, START_MS + 9 * MINUTE)
    finally:
        second.close()

    changes = [change for change in world.changes() if change[2] == "RunsOutInThreeDays"]
    assert [state for _, state, *_ in changes] == ["firing", "resolved"]
    assert changes[0][0] <= 180 < changes[1][0]
