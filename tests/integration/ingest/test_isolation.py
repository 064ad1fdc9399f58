"""Queries of one session: one that fails does not end another, and comes back by itself."""

import json
import threading

import pytest
from kafka import KafkaAdminClient

from tests.integration.ingest.test_ingest import Line, await_that, sample
from tests.plans import ingest_plan
from varve.kafka.client_options import Cluster
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.clock import SystemClock
from varve.services.query_supervision import Start, supervise
from varve.spark.ingest import IngestQuery

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = Line(spark, kafka_broker, tmp_path / "the tables")
    yield line
    line.close()


def test_a_query_without_its_topic_waits_for_it_while_another_one_stores(line, spark):
    now_ms, missing = SystemClock().now_ms(), f"{line.topic}-critical"
    stopping, states, ended = threading.Event(), [], []

    def start(query, topic):
        plan = ingest_plan(
            line.store,
            query=query,
            topics=(topic,),
            definition_topics=frozenset(),
            cluster=Cluster(line.broker.bootstrap_servers),
            trigger_s=0.2,
        )
        return Start(query, lambda session: IngestQuery(session.newSession(), plan))

    def run():
        try:
            starts = [start("critical", missing), start("bulk", line.topic)]
            supervise(spark, starts, stopping, on_change=states.append)
        except BaseException as err:  # noqa: BLE001  # the test judges it
            ended.append(err)

    def stored():
        assert not ended
        return sorted(row["ts"] for row in line.rows("samples"))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        line.send(json.dumps(sample(now_ms)).encode())
        await_that(lambda: stored() == [now_ms])
        assert f"Kafka has no topic {missing}" in states[-1]["critical"]
        assert states[-1]["bulk"] == ""

        admin = KafkaAdminClient(bootstrap_servers=line.broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(missing, 1)])
        admin.close()
        line.send(json.dumps(sample(now_ms + 1)).encode(), topic=missing)
        await_that(lambda: stored() == [now_ms, now_ms + 1])
        await_that(lambda: states[-1] == {"critical": "", "bulk": ""})
    finally:
        stopping.set()
        thread.join(60)
    assert not ended
