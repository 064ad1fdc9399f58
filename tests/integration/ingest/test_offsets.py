"""What Kafka does to topics under a query: messages expire, topics begin anew, partitions grow."""

import json
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from tests.integration.ingest.test_ingest import Line, await_that, sample
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.clock import SystemClock
from varve.model.errors import NeedsOperator, TemporaryError
from varve.storage.log import entries, list_versions
from varve.storage.table import Table

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


class OneTopic(Line):
    """A line whose messages hold one sample each, of the values 0, 1, 2, ..."""

    def __init__(self, spark, broker, folder):
        super().__init__(spark, broker, folder, partitions=1)
        self.now_ms = SystemClock().now_ms()
        self.sent = 0
        self.admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)

    def send_samples(self, count, partition=0):
        for _ in range(count):
            self.send(self.next_value(), partition)

    def next_value(self):
        record = sample(self.now_ms + self.sent, float(self.sent))
        self.sent += 1
        return json.dumps(record).encode()

    def expire(self, before):
        self.admin.delete_records({TopicPartition(self.topic, 0): before})

    def new_producer(self):
        self.producer.close()
        self.producer = KafkaProducer(bootstrap_servers=self.broker.bootstrap_servers)

    def make_anew(self):
        self.admin.delete_topics([self.topic])
        await_that(lambda: self.admin.describe_topics([self.topic])[0]["error_code"])
        ensure_topics(self.admin, [TopicPlan(self.topic, 1)])

    def values(self):
        return sorted(row["value"] for row in self.rows("samples"))

    def gaps(self):
        """Of every commit that has some."""
        versions = list_versions(self.store, "samples")
        found = entries(self.store, "samples", versions[0] - 1, versions[-1])
        return [gaps for entry in found if (gaps := entry.metadata.get("gaps"))]

    def positions(self):
        """Next offset to read, by the transaction that keeps it."""
        table = Table(self.store, "samples")
        return {
            name: position
            for name, position in table.positions().items()
            if name.startswith("bulk:")
        }

    def close(self):
        self.admin.close()
        super().close()


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = OneTopic(spark, kafka_broker, tmp_path)
    yield line
    line.close()


def failure(query):
    """What ends the query."""
    found = []

    def failed():
        try:
            query.raise_failure()
        except Exception as err:  # noqa: BLE001  # whatever it is, the test judges it
            found.append(err)
        return bool(found)

    await_that(failed)
    return found[0]


def test_offsets_that_expired_before_they_were_stored_stop_the_start_and_are_named(line):
    line.send_samples(5)
    line.drain()
    line.send_samples(5)
    line.expire(before=8)

    with pytest.raises(NeedsOperator) as caught:
        line.start()

    assert f"has dropped offsets 5 to 7 of {line.topic}-0" in str(caught.value)
    assert "ingest.on_expired_offsets" in str(caught.value)
    assert line.values() == [0, 1, 2, 3, 4]


def test_offsets_that_expired_may_be_counted_instead_and_are_once(line):
    line.send_samples(5)
    line.drain()
    line.send_samples(5)
    line.expire(before=8)

    line.drain(on_expired_offsets="count")
    line.send_samples(1)
    line.drain()

    assert line.values() == [0, 1, 2, 3, 4, 8, 9, 10]
    assert line.gaps() == [{f"{line.topic}-0": [5, 8]}]


def test_messages_that_expire_under_a_batch_end_the_query_and_the_next_start_says_so(line):
    query = line.start()
    line.send_samples(3)
    await_that(lambda: len(line.rows("samples")) == 3)
    with query._at_work:  # the batch is planned, and has read nothing
        line.send_samples(4)
        await_that(lambda: query.stream.status["isTriggerActive"])
        offsets = query._scratch.name + "/checkpoint/offsets"
        await_that(lambda: _last_offset(offsets, line.topic) > 3)
        line.expire(before=7)
        line.send_samples(1)

    failure(query)

    line.stop(query)
    with pytest.raises(NeedsOperator, match="has dropped offsets 3 to 6"):
        line.start()
    line.drain(on_expired_offsets="count")
    assert line.values() == [0, 1, 2, 7]


def _last_offset(folder, topic):
    last = max((f for f in Path(folder).iterdir() if f.name.isdigit()), key=lambda f: int(f.name))
    return json.loads(last.read_text().splitlines()[-1])[topic]["0"]


def test_a_topic_made_anew_is_read_from_its_first_message_and_old_positions_stay(line):
    line.send_samples(3)
    line.drain()
    (before,) = line.positions()
    line.make_anew()
    line.send_samples(2)

    line.drain()

    assert line.values() == [0, 1, 2, 3, 4]
    positions = line.positions()
    assert positions.pop(before) == 3
    assert list(positions.values()) == [2]


def test_a_topic_made_anew_under_a_batch_ends_the_query_and_nothing_is_mixed_up(line):
    query = line.start(complete_every_s=3_600)
    line.send_samples(3)
    await_that(lambda: len(line.rows("samples")) == 3)
    with query._at_work:
        line.send_samples(1)
        offsets = query._scratch.name + "/checkpoint/offsets"
        await_that(lambda: _last_offset(offsets, line.topic) > 3)
        line.make_anew()
        # The new topic has the offset that the batch is to read of the old one.
        line.send_samples(6)

    error = failure(query)

    line.stop(query)
    assert isinstance(error, TemporaryError)
    assert "was deleted and created again" in str(error)
    line.drain()
    # What nobody had read of the old topic went with it.
    assert line.values() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_a_topic_that_is_deleted_ends_the_query_that_reads_it(line):
    query = line.start()
    line.send_samples(1)
    await_that(lambda: len(line.rows("samples")) == 1)

    line.admin.delete_topics([line.topic])

    failure(query)
    line.stop(query)
    with pytest.raises(NeedsOperator, match=f"Kafka has no topic {line.topic}"):
        line.start()


def test_partitions_that_are_added_are_read_from_their_first_message_on(line):
    query = line.start(complete_every_s=0.3)
    line.send_samples(2)
    await_that(lambda: len(line.rows("samples")) == 2)

    line.admin.create_partitions({line.topic: 3})
    line.new_producer()  # the old one looks at partitions every five minutes
    line.send_samples(2, partition=2)
    await_that(lambda: query.raise_failure() or len(line.rows("samples")) == 4)
    line.send_samples(1, partition=1)
    line.send_samples(1, partition=2)
    await_that(lambda: query.raise_failure() or len(line.rows("samples")) == 6)
    sent_at = SystemClock().now_ms()
    await_that(
        lambda: (
            query.raise_failure()
            or (Table(line.store, "samples").position("complete:bulk") or 0) > sent_at
        )
    )

    query.raise_failure()
    line.stop(query)
    assert line.values() == [0, 1, 2, 3, 4, 5]
    assert sorted(line.positions().values()) == [1, 2, 3]
