"""Remote write to tables through a real gateway, broker and Spark, faults included."""

from __future__ import annotations

import random
import time
import uuid
from contextlib import contextmanager

import httpx
import pytest
from kafka import KafkaAdminClient

from tests.integration.gateway.gateway_process import GatewayProcess, Sender
from tests.plans import ingest_plan
from tests.remote_writing import HEADERS_V1, metadata_request, snappy
from varve.kafka.client_options import Cluster
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker
from varve.model.metadata import Metadata
from varve.spark.ingest import IngestQuery
from varve.storage.bounds import Bounds
from varve.storage.metric_metadata import MetricMetadata
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

DEADLINE_S = 120


def until(condition, gateway):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, gateway.log[-3000:]
        time.sleep(0.02)


@contextmanager
def ingesting(spark, servers, topic, store):
    """Stores the topic's messages in the tables meanwhile."""
    create_tables(store, ("samples", "series", "quarantine"))
    cluster = Cluster(servers)
    plan = ingest_plan(store, topics=(topic,), cluster=cluster, trigger_s=0.2)
    query = IngestQuery(spark, plan)
    yield query
    query.raise_failure()
    query.stop()


def stored(store):
    """The samples in the tables."""
    names = {
        row["series_id"]: "/".join(
            [row["metric"], *(v for _, v in sorted(dict(row["tags"]).items()))]
        )
        for row in snapshot(store, "series").scan(Bounds()).to_pylist()
    }
    return {
        (names[row["series_id"]], row["ts"], row["value"])
        for row in snapshot(store, "samples").scan(Bounds()).to_pylist()
    }


def test_kafka_and_the_gateway_are_killed_and_every_sample_is_stored(spark, tmp_path):
    topic = f"gateway-{uuid.uuid4().hex[:8]}"
    rng = random.Random(1)
    with Broker(tmp_path / "kafka") as broker:
        servers = broker.bootstrap_servers
        admin = KafkaAdminClient(bootstrap_servers=servers)
        ensure_topics(admin, [TopicPlan(topic, 3)])
        admin.close()
        gateway = GatewayProcess(tmp_path / "home", servers, ack_s="1")
        gateway.environment["VARVE_KAFKA__TOPICS__RAW"] = topic
        gateway.start()
        now_ms = time.time_ns() // 1_000_000 - 60_000
        senders = [Sender(gateway.url, f"s{n}", 1 + n % 2, now_ms) for n in range(3)]

        def count():
            return sum(len(s.acknowledged) for s in senders)

        def more(samples):
            goal = count() + samples
            until(lambda: count() >= goal, gateway)

        try:
            more(1_000)
            broker.kill()
            more(1_000)  # into the spool
            assert gateway.metrics()["varve_gateway_spool_bytes"] > 0
            time.sleep(rng.random() * 0.1)
            gateway.kill()
            gateway.start()  # without Kafka
            more(1_000)
            broker.start()
            until(lambda: gateway.metrics()["varve_gateway_spool_bytes"] == 0, gateway)
            more(1_000)
            gateway.kill()
            gateway.start()
            more(500)
        finally:
            for sender in senders:
                sender.stop()
        until(lambda: gateway.metrics()["varve_gateway_spool_bytes"] == 0, gateway)
        found = gateway.metrics()
        acknowledged = set().union(*(s.acknowledged for s in senders))
        store = Store(str(tmp_path / "tables"))
        with ingesting(spark, servers, topic, store) as query:
            deadline = time.monotonic() + DEADLINE_S
            # A sample that has overtaken its definition is stored once that has come.
            while not acknowledged <= (in_tables := stored(store)):
                query.raise_failure()
                assert time.monotonic() < deadline, len(acknowledged - in_tables)
                time.sleep(0.5)
            # What is said of a metric once its series are registered.
            body = snappy(metadata_request([("s0_0", 1, "seconds", "How long.")]))
            url = f"{gateway.url}/api/v1/write"
            assert httpx.post(url, content=body, headers=HEADERS_V1).status_code == 204
            said = MetricMetadata(store)
            while not (said.look() and said.known):
                query.raise_failure()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert gateway.stop() == 0

    assert said.known == {"s0_0": Metadata("counter", "seconds", "How long.")}
    assert in_tables <= set().union(*(s.sent for s in senders))
    assert found["varve_gateway_received_samples_total"] == sum(
        found[f"varve_gateway_{fate}_samples_total"]
        for fate in ("acknowledged", "spooled", "refused")
        if f"varve_gateway_{fate}_samples_total" in found
    )
