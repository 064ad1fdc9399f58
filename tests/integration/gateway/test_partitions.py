"""A producer notices partitions that are added to its topic."""

import time
import uuid

import pytest
from kafka import KafkaAdminClient

from varve.gateway.topic_producer import TopicProducer
from varve.kafka.topics import TopicPlan, ensure_topics

pytestmark = pytest.mark.kafka

DEADLINE_S = 60


def test_partitions_that_are_added_are_found_without_a_restart(kafka_broker):
    servers, topic = kafka_broker.bootstrap_servers, f"grows-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=servers)
    ensure_topics(admin, [TopicPlan(topic, 2)])
    producer = TopicProducer(
        servers, topic, {"metadata.max.age.ms": "200"}, compression="none", delivery_s=30.0
    )
    producer.connect()
    assert producer.look() == 2

    admin.create_partitions({topic: 5})
    admin.close()

    deadline = time.monotonic() + DEADLINE_S
    while producer.look() != 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    errors = []
    producer.send(4, b"key", b"value", errors.append)
    while not errors:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert errors == [None]
    producer.close(1.0)
