"""Kafka to tables on a real broker and a real Spark: bad input, definitions, rivals."""

import gzip
import json
import time
import uuid
from collections import Counter

import pyarrow as pa
import pytest
from kafka import KafkaAdminClient, KafkaProducer

from tests.plans import ingest_plan, open_registry
from varve.ingest import arrow_codec
from varve.ingest.batch import BatchCommitter
from varve.kafka.client_options import Cluster
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.maintenance.series_trimming import Trimming
from varve.model.clock import ManualClock, SystemClock
from varve.model.errors import Conflict
from varve.model.identity import define
from varve.spark.ingest import IngestQuery
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

DAY_MS = 86_400_000
DEADLINE_S = 120


class Line:
    """A topic of its own, tables of its own, and queries between them."""

    def __init__(self, spark, broker, folder, partitions=2):
        self.spark, self.broker = spark, broker
        self.topic = f"samples-{uuid.uuid4().hex[:8]}"
        self.definitions = f"{self.topic}-series"
        self.store = Store(str(folder))
        create_tables(self.store, ("samples", "series", "quarantine"))
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(self.topic, partitions), TopicPlan(self.definitions, 1)])
        admin.close()
        self.producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap_servers, max_request_size=15 * 2**20
        )
        self.queries = []

    def send(self, value, partition=0, topic=None):
        sent = self.producer.send(topic or self.topic, value, partition=partition)
        return sent.get(timeout=DEADLINE_S).offset

    def start(self, **changes):
        options = {
            "topics": (self.topic, self.definitions),
            "definition_topics": frozenset({self.definitions}),
            "cluster": Cluster(self.broker.bootstrap_servers),
            "trigger_s": 0.2,
            "complete_every_s": 0.3,
        }
        # A session has one query of a name.
        plan = ingest_plan(self.store, **options | changes)
        query = IngestQuery(self.spark.newSession(), plan)
        self.queries.append(query)
        return query

    def drain(self, **changes):
        """Everything sent so far into the tables."""
        query = self.start(available_now=True, **changes)
        await_that(lambda: query.done or query.raise_failure())
        query.raise_failure()
        self.stop(query)

    def stop(self, query):
        self.queries.remove(query)
        query.stop()

    def rows(self, table):
        return snapshot(self.store, table).scan(Bounds()).to_pylist()

    def close(self):
        for query in self.queries:
            query.stop()
        self.producer.close()


def await_that(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = Line(spark, kafka_broker, tmp_path / "the tables")
    yield line
    line.close()


def sample(ts, value=1.0, metric="requests", **tags):
    return {"metric": metric, "value": value, "timestamp": ts, "tags": tags}


def arrow(definition, stamps, values, *, defined):
    table = pa.Table.from_arrays(
        [
            pa.array([definition.series_id] * len(stamps)),
            pa.array([definition.check] * len(stamps), pa.int32()),
            pa.array(stamps, pa.int64()),
            pa.array(values, pa.float64()),
        ],
        schema=arrow_codec.wire_schema("samples"),
    )
    return arrow_codec.write(table, [definition] if defined else [])


def test_every_bad_message_is_in_quarantine_and_the_good_samples_beside_it_are_stored(line):
    now = SystemClock().now_ms()
    good = json.dumps(sample(now, 0.0)).encode()
    bad = {
        b"\x80\x04garbage\xff\x13\x37": "malformed",
        json.dumps(sample(now) | {"value": True}).encode(): "malformed",
        json.dumps(sample(now) | {"metric": 7}).encode(): "malformed",
        json.dumps(sample(now) | {"tags": ["a"]}).encode(): "malformed",
        b'{"metric":"m","value":NaN,"timestamp":%d}' % now: "malformed",
        b"": "malformed",
        b"\x00\x00\x00\x00\x07framed": "malformed",
        b'{"metric":"m\xff","value":1,"timestamp":%d}' % now: "malformed",
        b'{"metric":"m","value":1,"timestamp":%d,"tags":{"a":"\xc3("}}' % now: "malformed",
        json.dumps(sample(now * 1000)).encode(): "malformed",
        json.dumps([sample(now, "x" * 10**7)]).encode(): "message_too_large",
        json.dumps(sample(now + 365 * DAY_MS)).encode(): "too_far_in_future",
        json.dumps(sample(86_400)).encode(): "too_old",
        json.dumps(sample(now, __name__="other")).encode(): "invalid_label",
        json.dumps(sample(now, metric="")).encode(): "invalid_label",
    }
    line.send(good)
    offsets = {line.send(value): reason for value, reason in bad.items()}
    line.send(json.dumps([sample(now + 1), sample(now + 2, 3.0)]).encode())

    line.drain()

    assert sorted(r["ts"] for r in line.rows("samples")) == [now, now + 1, now + 2]
    rejected = line.rows("quarantine")
    assert {r["offset"]: r["reason"] for r in rejected} == offsets
    assert {(r["topic"], r["partition"], r["query"]) for r in rejected} == {(line.topic, 0, "bulk")}
    assert all(r["detail"] and r["samples"] == 1 for r in rejected)
    by_offset = {r["offset"]: r["value"] for r in rejected}
    malformed = dict(zip(offsets, bad, strict=True))
    for offset, reason in offsets.items():
        if reason.startswith(("malformed", "message", "invalid")):
            assert by_offset[offset] == malformed[offset].removeprefix(b"[").removesuffix(b"]") or (
                by_offset[offset] == malformed[offset]
            )


def test_the_query_goes_on_after_bad_messages_and_says_how_far_input_is_complete(line):
    query = line.start()
    line.send(b"no sample at all")
    await_that(lambda: len(line.rows("quarantine")) == 1)
    sent_at = SystemClock().now_ms()
    line.send(json.dumps(sample(sent_at)).encode())

    await_that(lambda: [r["ts"] for r in line.rows("samples")] == [sent_at])
    await_that(lambda: (Table(line.store, "samples").position("complete:bulk") or 0) > sent_at)

    query.raise_failure()


def test_completeness_moves_while_input_is_idle_and_stands_still_while_the_query_is_down(line):
    def complete():
        return Table(line.store, "samples").position("complete:bulk") or 0

    query = line.start()
    await_that(lambda: complete() > 0)
    before = complete()
    await_that(lambda: complete() > before)
    line.stop(query)
    at_stop = complete()

    restarted_at = SystemClock().now_ms()
    assert complete() == at_stop
    line.start()

    await_that(lambda: complete() >= restarted_at)


def test_arrow_and_json_samples_of_one_series_meet(line):
    now = SystemClock().now_ms()
    series = define("temperature", {"room": "attic"}, metric_type="gauge", unit="celsius")
    line.send(arrow(series, [now, now + 1], [1.5, None], defined=True))
    line.send(json.dumps(sample(now + 2, "+Inf", "temperature", room="attic")).encode(), 1)

    line.drain()

    rows = sorted(line.rows("samples"), key=lambda r: r["ts"])
    assert [(r["series_id"], r["value"]) for r in rows] == [
        (series.series_id, 1.5),
        (series.series_id, None),
        (series.series_id, float("inf")),
    ]
    assert len(line.rows("series")) == 1


def test_a_definition_in_another_partition_of_the_batch_is_enough(line):
    now = SystemClock().now_ms()
    series = define("temperature", {"room": "cellar"})
    line.send(arrow(series, [now], [1.0], defined=False), 0)
    line.send(arrow_codec.write_definitions([series]), topic=line.definitions)

    line.drain()

    assert [r["ts"] for r in line.rows("samples")] == [now]
    assert line.rows("quarantine") == []
    assert [(r["metric"], r["tags"]) for r in line.rows("series")] == [
        ("temperature", [("room", "cellar")])
    ]


def test_samples_without_a_definition_wait_in_quarantine_as_a_message(line):
    now = SystemClock().now_ms()
    series = define("temperature", {"room": "garden"})
    line.send(arrow(series, [now, now + 1], [1.0, 2.0], defined=False))

    line.drain()

    (row,) = line.rows("quarantine")
    assert (row["reason"], row["samples"]) == ("unknown_series", 2)
    block = arrow_codec.read(row["value"])
    assert (block.ts.tolist(), block.values.tolist()) == ([now, now + 1], [1.0, 2.0])


def test_samples_are_stored_when_their_definition_comes_later(line):
    now = SystemClock().now_ms()
    series = define("temperature", {"room": "hall"})
    query = line.start()
    line.send(arrow(series, [now, now + 1], [1.0, 2.0], defined=False))
    await_that(lambda: len(line.rows("quarantine")) == 1)

    line.send(
        json.dumps({"metric": "temperature", "tags": {"room": "hall"}}).encode(),
        topic=line.definitions,
    )

    await_that(lambda: sorted(r["ts"] for r in line.rows("samples")) == [now, now + 1])
    await_that(lambda: line.rows("quarantine") == [])
    query.raise_failure()


def test_a_batch_that_meets_a_trimming_is_judged_again_and_defines_what_has_gone(line, monkeypatch):
    now = SystemClock().now_ms()
    series = define("temperature", {"room": "loft"})
    create_tables(line.store)
    hours = {"frontier:1h": Step(None, now)}
    commit(Table(line.store, "rollup_1h"), [], transactions=hours)
    open_registry(line.store, ManualClock(0)).register([(series, 0)])
    plain, trimmed = BatchCommitter.commit, []

    def late(self, *args):
        if not trimmed:
            job = Trimming(line.store, least_share=0.0)
            trimmed.append(
                job.run(job.plan(now, {"series": snapshot(line.store, "series")})).series
            )
        return plain(self, *args)

    monkeypatch.setattr(BatchCommitter, "commit", late)
    line.send(arrow(series, [now], [1.0], defined=True))

    line.drain()

    assert trimmed == [1]
    assert [(r["series_id"], r["ts"]) for r in line.rows("samples")] == [(series.series_id, now)]
    (row,) = line.rows("series")
    assert (row["series_id"], row["first_seen"]) == (series.series_id, now)


def test_a_message_may_have_headers_that_say_nothing_to_us(line):
    now = SystemClock().now_ms()
    query = line.start()
    line.producer.send(
        line.topic,
        json.dumps(sample(now)).encode(),
        headers=[("traceparent", b"00-1-1-01"), ("__TypeId__", b"x")],
        partition=0,
    ).get(timeout=DEADLINE_S)

    await_that(lambda: len(line.rows("samples")) == 1)

    query.raise_failure()


def test_compressed_messages_and_limits_that_change_while_the_query_runs(line, tmp_path):
    now, limits = SystemClock().now_ms(), tmp_path / "limits.toml"
    query = line.start(limits_files=(limits,))
    body = json.dumps([sample(now, host=str(n)) for n in range(3)]).encode()
    headers = [("traceparent", b"00-1-1-01"), ("Content-Encoding", b"gzip")]
    line.producer.send(line.topic, gzip.compress(body), headers=headers, partition=0).get(
        timeout=DEADLINE_S
    )
    await_that(lambda: len(line.rows("samples")) == 3)

    limits.write_text("[default]\nseries = 4")
    line.send(json.dumps([sample(now + 1, float(n), host=str(n)) for n in range(6)]).encode())
    await_that(lambda: len(line.rows("quarantine")) == 1)

    assert len(line.rows("samples")) == 7
    assert len(line.rows("series")) == 4
    (row,) = line.rows("quarantine")
    assert (row["reason"], row["samples"]) == ("cardinality_limit", 2)
    query.raise_failure()


def test_of_two_drivers_on_one_query_one_stops_and_nothing_is_lost_or_doubled(line):
    first, second = line.start(), line.start()
    now = SystemClock().now_ms()
    failed = []

    def one_failed():
        for query in (first, second):
            try:
                query.raise_failure()
            except Conflict as err:
                failed.append((query, err))
        return bool(failed)

    sent = 0
    deadline = time.monotonic() + DEADLINE_S
    while not one_failed():
        assert time.monotonic() < deadline
        line.send(json.dumps(sample(now + sent, float(sent))).encode(), sent % 2)
        sent += 1
    line.send(json.dumps(sample(now + sent, float(sent))).encode())
    survivor = second if failed[0][0] is first else first

    await_that(lambda: len(line.rows("samples")) > sent)

    survivor.raise_failure()
    assert Counter(r["value"] for r in line.rows("samples")) == Counter(
        float(n) for n in range(sent + 1)
    )
