"""Brokers that give topics no ids, as those before Kafka 2.8."""

import uuid

import pytest
from kafka import KafkaAdminClient

from varve.kafka.client_options import Cluster
from varve.kafka.offsets import TopicOffsets
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.errors import NeedsOperator

pytestmark = pytest.mark.kafka


def test_brokers_without_topic_ids_are_refused_by_name(kafka_broker, monkeypatch):
    topic = f"old-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan(topic, 1)])
    admin.close()
    now = Cluster(kafka_broker.bootstrap_servers)
    assert len(TopicOffsets(now, [topic]).partitions()) == 1
    # The broker answers as those of that time did, to a client that speaks no newer language.
    options = now.python_options() | {"api_version": (2, 7)}
    monkeypatch.setattr(Cluster, "python_options", lambda _: options)

    with pytest.raises(NeedsOperator, match=f"topic {topic} no id.*older than 2.8"):
        TopicOffsets(now, [topic]).partitions()
