import json

import pytest
from kafka import KafkaAdminClient, KafkaConsumer

from varve.client import Producer, Sample, define
from varve.model.errors import TemporaryError
from varve.services.broker import Broker, free_port
from varve.services.topics import TopicPlan, ensure_topics

pytestmark = pytest.mark.kafka


def _topic(broker, name, partitions=3):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan(name, partitions)])
    admin.close()


def _received(broker, topic, count):
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    records = []
    for message in consumer:
        records += [(message.partition, r) for r in json.loads(message.value)]
        if len(records) >= count:
            break
    consumer.close()
    return records


def _samples(first, last):
    return [
        Sample(define("produced_total", {"n": str(n % 50)}), 1_700_000_000_000 + n, float(n))
        for n in range(first, last)
    ]


def test_every_sample_arrives_once_and_each_series_in_one_partition(kafka_broker):
    _topic(kafka_broker, "produced")
    with Producer(kafka_broker.bootstrap_servers, "produced") as producer:
        assert producer.put(_samples(0, 5_000)) == 0
        assert producer.flush()
        counts = producer.counts()

    assert (counts.acknowledged, counts.lost, counts.waiting) == (5_000, 0, 0)
    records = _received(kafka_broker, "produced", 5_000)
    assert sorted(r["value"] for _, r in records) == list(range(5_000))
    partitions = {}
    for partition, record in records:
        partitions.setdefault(record["tags"]["n"], set()).add(partition)
    assert all(len(p) == 1 for p in partitions.values())
    assert set.union(*partitions.values()) == {0, 1, 2}


def test_what_finds_no_room_while_the_broker_is_away_is_counted_and_the_rest_arrives(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    _topic(broker, "away", partitions=1)
    producer = Producer(broker.bootstrap_servers, "away", buffer_bytes=150_000)
    producer.put(_samples(0, 10))
    assert producer.flush()
    broker.kill()

    refused = sum(producer.put(_samples(n, n + 1_000)) for n in range(1_000, 5_000, 1_000))
    waiting = producer.counts().waiting
    broker.start()
    assert producer.flush(60)
    counts = producer.close()

    assert refused > 0
    assert waiting > 0
    assert refused + waiting == 4_000
    assert (counts.acknowledged, counts.lost) == (10 + waiting, refused)
    assert "no room" in counts.last_error
    assert len(_received(broker, "away", 10 + waiting)) == 10 + waiting
    broker.stop()


def test_a_broker_that_is_not_there_is_named():
    server = f"127.0.0.1:{free_port()}"

    with pytest.raises(TemporaryError, match=server):
        Producer(server, "any", connect_s=1)


def test_a_topic_that_is_not_there_is_named(kafka_broker):
    with pytest.raises(TemporaryError, match="no-such-topic"):
        Producer(kafka_broker.bootstrap_servers, "no-such-topic", connect_s=2)
