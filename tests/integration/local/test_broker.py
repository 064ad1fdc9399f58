from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from varve.kafka.connection import answers
from varve.kafka.topics import Bounds, TopicPlan, ensure_topics
from varve.local.broker import Broker, free_port
from varve.model.errors import NeedsOperator

pytestmark = pytest.mark.kafka

BOUNDS = Bounds(retention_ms=7_200_000, retention_bytes=1_000_000_000)


@pytest.fixture
def admin(kafka_broker):
    client = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    yield client
    client.close()


def test_topics_are_created_once_with_the_partitions_asked_for(admin):
    plans = [TopicPlan("made", 3, 0.7), TopicPlan("made-too", 1, 0.3)]

    assert ensure_topics(admin, plans, bounds=BOUNDS) == ["made", "made-too"]
    assert ensure_topics(admin, plans, bounds=BOUNDS) == []
    topics = admin.describe_topics(["made", "made-too"])
    assert [len(t["partitions"]) for t in topics] == [3, 1]


def test_an_existing_topic_keeps_its_partitions(admin):
    ensure_topics(admin, [TopicPlan("kept", 2, 0.5)])
    ensure_topics(admin, [TopicPlan("kept", 8, 0.5)], bounds=BOUNDS)

    (topic,) = admin.describe_topics(["kept"])
    assert len(topic["partitions"]) == 2


def test_topic_ids_and_messages_survive_an_orderly_stop_and_a_kill(tmp_path):
    broker = Broker(tmp_path / "with space, comma and ü")
    seen = []
    for stop in (broker.stop, broker.kill, broker.stop):
        broker.start()
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan("lasting", 1, 1.0)], bounds=BOUNDS)
        seen.append(admin.describe_topics(["lasting"])[0]["topic_id"])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        seen.append(producer.send("lasting", b"x").get(30).offset)
        producer.close()
        stop()

    assert seen[0] == seen[2] == seen[4]
    assert seen[1::2] == [0, 1, 2]


def test_a_message_of_ten_megabytes_passes(kafka_broker, admin):
    ensure_topics(admin, [TopicPlan("large", 4, 0.1, 2**24)], bounds=BOUNDS)
    producer = KafkaProducer(
        bootstrap_servers=kafka_broker.bootstrap_servers, max_request_size=2**24
    )
    producer.send("large", b"x" * 10_000_000).get(30)
    producer.close()

    consumer = KafkaConsumer(bootstrap_servers=kafka_broker.bootstrap_servers)
    ends = consumer.end_offsets([TopicPartition("large", p) for p in range(4)])
    assert sum(ends.values()) == 1
    consumer.close()


def test_a_broker_that_cannot_start_says_why_in_its_own_words(kafka_broker, tmp_path):
    rival = Broker(tmp_path, port=kafka_broker.config.port)

    with pytest.raises(NeedsOperator, match="Address already in use"):
        rival.start()


def test_a_free_port_is_none_that_an_outgoing_connection_gets():
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text().split()[0]) if given.exists() else 49_152

    assert all(free_port() < first for _ in range(20))


def test_nobody_answers_on_a_free_port():
    assert not answers(f"127.0.0.1:{free_port()}")
