"""Whatever a producer sends is samples or quarantine: one message never stops ingest for good."""

import json
import re
import shlex

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from tests.integration.ingest.test_ingest import DEADLINE_S, Line, await_that, sample
from varve.cli.main import main
from varve.ingest import batch_size
from varve.ingest.batch_size import BatchLimits
from varve.model.clock import SystemClock
from varve.model.errors import NeedsOperator
from varve.storage.log import entries, list_versions

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


class OpenTopic(Line):
    """A line whose broker takes any timestamp, as brokers before Kafka 4.0 do by default."""

    def __init__(self, spark, broker, folder):
        super().__init__(spark, broker, folder, partitions=2)
        self.folder = folder
        self.now_ms = SystemClock().now_ms()
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        configs = {"message.timestamp.after.max.ms": str(2**63 - 1)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, self.topic, configs=configs)])
        admin.close()

    def value(self, number):
        return json.dumps(sample(self.now_ms + number, float(number))).encode()

    def send_value(self, number, partition=0, **options):
        sent = self.producer.send(self.topic, self.value(number), partition=partition, **options)
        return sent.get(timeout=DEADLINE_S).offset

    def values(self):
        return sorted(row["value"] for row in self.rows("samples"))

    def accounting(self):
        """Of every batch of the query."""
        versions = list_versions(self.store, "samples")
        found = entries(self.store, "samples", versions[0] - 1, versions[-1])
        return [entry.metadata for entry in found if "in" in entry.metadata]

    def varve(self, *arguments):
        """Exit status of a command over this line's tables."""
        settings = self.folder.parent / "varve.toml"
        settings.write_text(
            f"storage.root = {json.dumps(self.store.root)}\n[kafka]\n"
            f"bootstrap_servers = {json.dumps(self.broker.bootstrap_servers)}\n"
            f"[kafka.topics]\nraw = {json.dumps(self.topic)}\n"
            f"series = {json.dumps(self.definitions)}\n"
        )
        return main([*arguments, "--config", str(settings)])


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = OpenTopic(spark, kafka_broker, tmp_path / "the tables")
    yield line
    line.close()


def test_a_timestamp_that_spark_cannot_read_stops_nothing(line):
    query = line.start()
    line.send_value(0)
    line.send_value(1, timestamp_ms=line.now_ms * 1_000_000)
    line.send_value(2, headers=[("content-encoding", b"br")], timestamp_ms=2**63 - 1)
    line.send_value(3, partition=1)

    await_that(lambda: query.raise_failure() or len(line.rows("samples")) == 3)
    line.send_value(4, partition=1)
    await_that(lambda: query.raise_failure() or line.values() == [0, 1, 3, 4])

    (refused,) = line.rows("quarantine")
    assert (refused["offset"], refused["ts"], refused["value"]) == (2, 2**63 - 1, line.value(2))


def test_headers_of_any_bytes_stop_nothing(line):
    odd = [
        [("content-encoding", b"\xff\xfe")],
        [("content-type", b"\xff\xfe"), ("\u00e5\U0001f600", b"\x00\xff"), ("", b"")],
        [("content-type", b""), ("traceparent", b"")],
        [("content-type", b"application/vnd.apache.arrow.stream")],
        [("k", b"x" * 10_000)] * 30,
    ]
    for number, headers in enumerate(odd):
        line.send_value(number, headers=headers)

    line.drain()

    assert line.values() == [1, 2, 4]
    refused = {row["offset"]: row for row in line.rows("quarantine")}
    assert refused.keys() == {0, 3}
    assert r"\xff\xfe" in refused[0]["detail"]
    assert refused[0]["headers"] == [{"name": "content-encoding", "value": b"\xff\xfe"}]


def test_a_tombstone_is_no_sample_and_is_not_refused(line):
    line.send_value(0)
    line.producer.send(line.topic, None, key=b"k", partition=0).get(timeout=DEADLINE_S)

    line.drain()

    assert (line.values(), line.rows("quarantine")) == ([0], [])
    assert sum(batch["tombstones"] for batch in line.accounting()) == 1


def test_what_a_producer_has_aborted_is_not_stored(line):
    producer = KafkaProducer(
        bootstrap_servers=line.broker.bootstrap_servers, transactional_id=line.topic
    )
    producer.init_transactions()
    for number, commits in enumerate([True, False, True, False]):
        producer.begin_transaction()
        producer.send(line.topic, line.value(number), partition=0)
        producer.flush()
        if commits:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()

    query = line.start()
    await_that(lambda: query.raise_failure() or line.values() == [0, 2])
    sent_at = SystemClock().now_ms()
    # Completeness passes over what was aborted, too.
    await_that(lambda: (query._committer.state()[1] or 0) > sent_at)

    query.raise_failure()
    assert (line.values(), line.rows("quarantine")) == ([0, 2], [])


def failure(query):
    found = []

    def failed():
        try:
            query.raise_failure()
        except NeedsOperator as err:
            found.append(err)
        return bool(found)

    await_that(failed)
    return found[0]


@pytest.mark.parametrize("poison", [b"raise", b"die"])
def test_a_message_that_ends_its_task_is_named_and_can_be_parked(
    line, spark, monkeypatch, capsys, poison
):
    module = "tests.integration.ingest.poisoned_daemon"
    with Daemon(spark, module):
        for number in range(20):
            line.send_value(number)
        offset = line.send(poison)
        for number in range(20, 30):
            line.send_value(number)
        query = line.start()

        error = failure(query)

        line.stop(query)
        # All before it is stored, and nothing of it.
        assert line.values() == list(range(20))
        command = re.search(r"`varve (.*?)`", str(error))[1]
        assert f"--topic {line.topic} --partition 0 --offset {offset}" in command
        assert line.varve(*shlex.split(command)) == 0
        assert "goes on from offset 21" in capsys.readouterr().out
        line.drain()
        assert line.values() == list(range(30))
        (parked,) = line.rows("quarantine")
        assert (parked["reason"], parked["value"]) == ("skipped", poison)
        # It was the only one, and is not the next any more.
        assert line.varve(*shlex.split(command)) == 1
        assert "from offset 31 on" in capsys.readouterr().err


class Daemon:
    """Workers are forked from another module, in this session only."""

    def __init__(self, spark, module):
        self.conf, self.module = spark.sparkContext._jsc.sc().conf(), module

    def __enter__(self):
        self.before = self.conf.get("spark.python.daemon.module")
        self.conf.set("spark.python.daemon.module", self.module)

    def __exit__(self, *_):
        self.conf.set("spark.python.daemon.module", self.before)


def test_what_is_too_much_for_one_batch_is_stored_in_several_that_grow(line, monkeypatch):
    monkeypatch.setattr(batch_size, "_FIRST", 4)
    for number in range(25):
        line.send_value(number, number % 2)

    line.drain(batch=BatchLimits(messages=1_000, samples=8, bytes=2**20))

    assert line.values() == list(range(25))
    sizes = [batch["in"] for batch in line.accounting()]
    assert sum(sizes) == 25
    assert max(sizes[:1]) <= 4 < max(sizes) <= 8
