"""Anomalies and forecasts on real Spark and Kafka: an incident is told once, through a restart."""

from __future__ import annotations

import json
import time
import uuid

import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaConsumer

from tests.tables import WrittenTables
from varve.anomaly.baseline_job import Baselines
from varve.anomaly.rules import Rules
from varve.forecast.forecast_job import FitTask, fit_here
from varve.forecast.hourly import Hourly
from varve.forecast.rows import to_json
from varve.kafka.client_options import Cluster
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.maintenance.batch_job import execute
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

BEGIN = 1_795_392_000_000
MINUTE, DAY = 60_000, 86_400_000
NOW = BEGIN + 2 * DAY
LOAD = define("load", {"job": "web"}, metric_type="gauge")
DEADLINE_S = 120


@pytest.fixture
def topics(kafka_broker):
    names = tuple(f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("anomalies", "alerts"))
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan(name, 2) for name in names])
    admin.close()
    return names


def close(tables, minutes, load):
    """Closes minutes after NOW, each with one sample."""
    rows = [(LOAD.series_id, NOW + n * MINUTE - 1_000, load) for n in minutes]
    tables.put(rows, complete_ms=NOW + max(minutes) * MINUTE)
    tables.roll_up()


def until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_an_incident_is_told_once_on_both_topics_through_a_restart(
    spark, kafka_broker, topics, tmp_path
):
    from varve.spark.anomalies import AnomalyPlan, AnomalyQuery

    tables = WrittenTables(str(tmp_path / "tables"))
    tables.define([LOAD])
    random = np.random.default_rng(3)
    history = [
        (LOAD.series_id, BEGIN + n * MINUTE - 1_000, float(10 + random.normal()))
        for n in range(1, 2 * 24 * 60 + 1)
    ]
    tables.put(history, complete_ms=NOW)
    tables.roll_up()
    execute(Baselines(tables.store), tables.store, 0)
    frontiers = []
    plan = AnomalyPlan(
        tables.store,
        Cluster(kafka_broker.bootstrap_servers),
        Rules,
        topic=topics[0],
        alerts_topic=topics[1],
        trigger_s=0.2,
        on_look=lambda frontier_ms, _waiting: frontiers.append(frontier_ms),
    )
    clock = ManualClock(NOW)

    query = AnomalyQuery(spark, plan, clock)
    until(lambda: frontiers and frontiers[-1] == NOW, "history is not judged")
    close(tables, range(1, 6), 30.0)
    until(lambda: frontiers[-1] == NOW + 5 * MINUTE, "minutes are not judged")
    query.stop()
    close(tables, range(6, 25), 10.0)
    query = AnomalyQuery(spark, plan, clock)
    until(lambda: frontiers[-1] == NOW + 24 * MINUTE, "it does not go on after a restart")
    query.raise_failure()
    assert query.problems() == []
    query.stop()

    events = [m for m in read(kafka_broker, topics[0], 2) if m["starts_at"] > NOW]
    assert [(m["event"], m["series"][0]["tags"]) for m in events] == [
        ("open", {"job": "web"}),
        ("close", {"job": "web"}),
    ]
    assert events[1]["ends_at"] == NOW + 5 * MINUTE
    assert [m["state"] for m in read(kafka_broker, topics[1], 2)] == ["firing", "resolved"]
    stored = snapshot(tables.store, "episodes").scan(Bounds(NOW))["event_id"].to_pylist()
    assert sorted(stored) == sorted(m["event_id"] for m in events)


def read(broker, topic, count):
    """Messages of a topic, at least so many, in order of their key's partition."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    found = []
    for message in consumer:
        found.append(json.loads(message.value))
        if len(found) == count:
            break
    consumer.close()
    return found


def test_series_are_forecast_on_spark_as_they_are_here(spark):
    pytest.importorskip("prophet")
    from varve.spark.forecast import fit_on

    random = np.random.default_rng(4)
    tasks = []
    for number in range(3):
        at = np.arange(24 * 8)
        values = 50 + number * at + 10 * np.sin(at / 24 * 6.283) + random.normal(0, 1, len(at))
        values[5:9] = np.nan
        tasks.append(FitTask(number + 1, Hourly(NOW, values), cap=2_000.0 if number else None))

    spark.sparkContext.setJobGroup("fits", "")
    there = {outcome.series_id: outcome for outcome in fit_on(spark)(tasks)}
    spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)

    # Parts that were jobs of their own would wait for each other.
    tracker = spark.sparkContext.statusTracker()
    parts = [
        tracker.getStageInfo(stage).numTasks
        for job in tracker.getJobIdsForGroup("fits")
        for stage in tracker.getJobInfo(job).stageIds
        if tracker.getStageInfo(stage) is not None
    ]
    assert max(parts) == 3
    for outcome in fit_here(tasks):
        same = json.loads(to_json(there[outcome.series_id]))
        here = json.loads(to_json(outcome))
        for text in (same, here):
            del text["seconds"]
        assert same == here
