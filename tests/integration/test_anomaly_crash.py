"""The detector killed ten times in the middle of its work: no event is lost, none counts twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from tests.tables import WrittenTables
from varve.anomaly.baseline_job import Baselines
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.maintenance.batch_job import execute
from varve.model.identity import define
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

BEGIN = 1_795_392_000_000
MINUTE, DAY = 60_000, 86_400_000
NOW = BEGIN + 2 * DAY
SERIES = [define("load", {"host": str(n)}, metric_type="gauge") for n in range(6)]
KILLS = 10
DEADLINE_S = 300
CHILD = Path(__file__).with_name("anomaly_crash.py")


class Child:
    def __init__(self, tables, broker, topics):
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), tables.store.root, broker.bootstrap_servers, *topics],
            stdout=subprocess.PIPE,
            text=True,
        )

    def lines(self, until):
        """Reads what it says, up to the first line for which `until` holds."""
        deadline = time.monotonic() + DEADLINE_S
        for line in self.process.stdout:
            assert time.monotonic() < deadline
            if until(line.strip()):
                return
        raise AssertionError("the detector has ended by itself")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def topics(kafka_broker):
    names = tuple(f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("anomalies", "alerts"))
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan(name, 2) for name in names])
    admin.close()
    return names


def everything(broker, topic):
    """All messages of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
    partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found = []
    while any(consumer.position(p) < ends[p] for p in partitions):
        for messages in consumer.poll(1_000).values():
            found += [json.loads(message.value) for message in messages]
    consumer.close()
    return found


def test_ten_kills_lose_no_event_and_no_event_is_in_the_table_twice(kafka_broker, topics, tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    tables.define(SERIES)
    noise = np.random.default_rng(3)
    tables.put(
        [
            (series.series_id, BEGIN + n * MINUTE - 1_000, float(10 + noise.normal()))
            for series in SERIES
            for n in range(1, 2 * 24 * 60 + 1)
        ],
        complete_ms=NOW,
    )
    tables.roll_up()
    execute(Baselines(tables.store), tables.store, 0)
    dice = random.Random(5)
    minute = 0

    def incident():
        """Some minutes in which some series are far off, and what closes their episodes."""
        nonlocal minute
        far = dice.sample(SERIES, 3)
        rows = []
        for n in range(minute + 1, minute + 31):
            for series in SERIES:
                value = 40.0 if series in far and n <= minute + 5 else 10.0
                rows.append((series.series_id, NOW + n * MINUTE - 1_000, value))
        minute += 30
        tables.put(rows, complete_ms=NOW + minute * MINUTE)
        tables.roll_up()

    for _ in range(KILLS):
        child = Child(tables, kafka_broker, topics)
        child.lines(lambda line: line == "started")
        incident()
        left = dice.randint(1, 6)

        def enough(_line):
            nonlocal left
            left -= 1
            return left == 0

        child.lines(enough)
        child.kill()
    child = Child(tables, kafka_broker, topics)
    child.lines(lambda line: line == f"told {NOW + minute * MINUTE}")
    child.kill()

    stored = snapshot(tables.store, "episodes").scan(Bounds(NOW)).to_pylist()
    ids = [row["event_id"] for row in stored]
    assert len(ids) == len(set(ids))
    opened = {row["episode_id"] for row in stored if row["event"] == "open"}
    closed = {row["episode_id"] for row in stored if row["event"] == "close"}
    assert len(opened) == KILLS * 3
    assert opened == closed
    told = {m["event_id"] for m in everything(kafka_broker, topics[0]) if m["starts_at"] > NOW}
    assert told == set(ids)
    alerts = everything(kafka_broker, topics[1])
    assert {m["state"] for m in alerts} <= {"firing", "resolved"}
