import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from varve.client import Producer, Sample, define
from varve.ingest.decoder import Decoder
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import Broker, free_port
from varve.model.clock import ManualClock
from varve.model.errors import BadRequest, TemporaryError
from varve.model.staleness import is_stale

pytestmark = pytest.mark.kafka

NOW_MS = 1_700_000_000_000
FOREVER_S = 3_600.0


def _topic(broker, name, partitions=3):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan(name, partitions)])
    admin.close()


def _messages(broker, topic):
    """Partition and bytes of every message there is."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
    partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    found = []
    while any(consumer.position(p) < ends[p] for p in partitions):
        for messages in consumer.poll(1_000).values():
            found += [(m.partition, m.value) for m in messages]
    consumer.close()
    return found


def _received(broker, topic):
    """(partition, series, ts, value) of every sample there is, as ingest reads them, in order;
    series as (metric, tags), a stale marker as None.
    """
    decoder = Decoder()
    blocks = [(p, decoder.samples(v, 2**24)) for p, v in _messages(broker, topic)]
    known = {}
    for _, block in blocks:
        assert not block.rejects
        known |= {d.series_id: d for d in (*block.owners, *block.definitions)}
    return [
        (partition, (known[i].metric, dict(known[i].tags)), ts, None if stale else value)
        for partition, b in blocks
        for i, ts, value, stale in zip(
            b.series_ids.tolist(), b.ts.tolist(), b.values.tolist(), is_stale(b.values), strict=True
        )
    ]


def _by_series(received):
    found = {}
    for _, (metric, tags), ts, value in received:
        found.setdefault((metric, *sorted(tags.items())), []).append((ts, value))
    return found


def _samples(first, last):
    return [
        Sample(define("produced_total", {"n": str(n % 50)}), NOW_MS + n, float(n))
        for n in range(first, last)
    ]


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_every_sample_arrives_once_and_each_series_in_one_partition(kafka_broker, form):
    topic = f"produced-{form}"
    _topic(kafka_broker, topic)
    with Producer(kafka_broker.bootstrap_servers, topic, format=form) as producer:
        assert producer.put(_samples(0, 5_000)) == 0
        assert producer.flush()
        counts = producer.counts()

    assert (counts.acknowledged, counts.lost, counts.waiting) == (5_000, 0, 0)
    records = _received(kafka_broker, topic)
    assert sorted(value for *_, value in records) == list(range(5_000))
    partitions = {}
    for partition, (_, tags), *_ in records:
        partitions.setdefault(tags["n"], set()).add(partition)
    assert all(len(p) == 1 for p in partitions.values())
    assert set.union(*partitions.values()) == {0, 1, 2}


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_what_is_recorded_arrives_and_closing_ends_every_series(kafka_broker, form):
    topic = f"recorded-{form}"
    _topic(kafka_broker, topic)
    clock = ManualClock(NOW_MS)
    producer = Producer(
        kafka_broker.bootstrap_servers,
        topic,
        tags={"job": "shop"},
        format=form,
        report_s=FOREVER_S,
        clock=clock,
    )
    producer.gauge("queue_length", 3, {"queue": "mail"}, help_text="Mails waiting.")
    producer.counter("orders_total", tags={"shop": "berlin"})
    producer.counter("orders_total", 2, {"shop": "berlin"})
    producer.counter_total("bytes_total", 500)
    producer.histogram("request_seconds", 0.1, buckets=[0.1, 1], unit="seconds")
    producer.histogram("request_seconds", 0.5, buckets=[0.1, 1])
    producer.summary("size", 7, quantiles=[0.5])
    producer.gauge("imported", 1.5, ts_ms=NOW_MS - 60_000)
    clock.advance(1_000)
    assert producer.flush()
    clock.advance(1_000)
    producer.report()
    clock.advance(1_000)
    counts = producer.close()

    job = ("job", "shop")
    t0, t1, t2, t3 = (NOW_MS + n * 1_000 for n in range(4))
    assert _by_series(_received(kafka_broker, topic)) == {
        # A gauge is sent as it is set, and repeated once a report does not find it set anew.
        ("queue_length", job, ("queue", "mail")): [(t0, 3), (t2, 3), (t3, 3), (t3 + 1, None)],
        # What adds up begins at 0 and is sent by reports.
        ("orders_total", job, ("shop", "berlin")): [
            *((t0, 0), (t1, 3), (t2, 3), (t3, 3), (t3 + 1, None))
        ],
        ("bytes_total", job): [(t1, 500), (t2, 500), (t3, 500), (t3 + 1, None)],
        ("request_seconds_bucket", job, ("le", "0.1")): [
            *((t0, 0), (t1, 1), (t2, 1), (t3, 1), (t3 + 1, None))
        ],
        ("request_seconds_bucket", job, ("le", "1.0")): [
            *((t0, 0), (t1, 2), (t2, 2), (t3, 2), (t3 + 1, None))
        ],
        ("request_seconds_bucket", job, ("le", "+Inf")): [
            *((t0, 0), (t1, 2), (t2, 2), (t3, 2), (t3 + 1, None))
        ],
        ("request_seconds_sum", job): [(t0, 0), (t1, 0.6), (t2, 0.6), (t3, 0.6), (t3 + 1, None)],
        ("request_seconds_count", job): [(t0, 0), (t1, 2), (t2, 2), (t3, 2), (t3 + 1, None)],
        ("size", job, ("quantile", "0.5")): [(t1, 7), (t2, 7), (t3, 7), (t3 + 1, None)],
        ("size_sum", job): [(t1, 7), (t2, 7), (t3, 7), (t3 + 1, None)],
        ("size_count", job): [(t1, 1), (t2, 1), (t3, 1), (t3 + 1, None)],
        # With a timestamp of the caller's own: once, and ended right after.
        ("imported", job): [(NOW_MS - 60_000, 1.5), (NOW_MS - 59_999, None)],
    }
    assert (counts.lost, counts.waiting) == (0, 0)
    assert counts.acknowledged == len(_received(kafka_broker, topic))


def test_samples_are_sent_after_they_lingered_and_reports_come_by_themselves(kafka_broker):
    _topic(kafka_broker, "lingering", 1)
    with Producer(
        kafka_broker.bootstrap_servers, "lingering", linger_ms=20, report_s=0.2
    ) as producer:
        producer.gauge("g", 1)
        producer.counter("c")
        deadline = time.monotonic() + 30
        # g once as it was set and once repeated, c as 0 and as 1 at least.
        while producer.counts().acknowledged < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_ended_metric_begins_anew_and_markers_may_be_left_out(kafka_broker):
    _topic(kafka_broker, "ended", 1)
    clock = ManualClock(NOW_MS)
    with Producer(
        kafka_broker.bootstrap_servers,
        "ended",
        report_s=FOREVER_S,
        stale_markers=False,
        clock=clock,
    ) as producer:
        producer.counter("c", 5)
        clock.advance(10)
        producer.end("c")
        producer.end("c")
        clock.advance(10)
        producer.counter("c", 1)
        clock.advance(10)

    assert _by_series(_received(kafka_broker, "ended")) == {
        ("c",): [
            *((NOW_MS, 0), (NOW_MS + 10, 5), (NOW_MS + 11, None)),
            *((NOW_MS + 20, 0), (NOW_MS + 30, 1)),
        ]
    }


def test_definitions_may_have_a_topic_of_their_own(kafka_broker):
    _topic(kafka_broker, "undefined", 2)
    _topic(kafka_broker, "definitions", 1)
    with Producer(
        kafka_broker.bootstrap_servers,
        "undefined",
        format="arrow",
        definitions_topic="definitions",
    ) as producer:
        for _ in range(2):
            producer.put(_samples(0, 100))
            assert producer.flush()

    decoder = Decoder()
    definitions = [
        d
        for _, value in _messages(kafka_broker, "definitions")
        for d in decoder.definitions(value, 2**24).definitions
    ]
    assert sorted(dict(d.tags)["n"] for d in definitions) == sorted(map(str, range(50)))
    blocks = [decoder.samples(value, 2**24) for _, value in _messages(kafka_broker, "undefined")]
    assert sum(map(len, blocks)) == 200
    assert not any(b.definitions for b in blocks)


def test_threads_share_a_producer_and_nothing_is_lost_between_them(kafka_broker):
    _topic(kafka_broker, "threads")
    producer = Producer(kafka_broker.bootstrap_servers, "threads", linger_ms=1, block_s=math.inf)

    def work(number):
        for n in range(2_000):
            producer.counter("increments_total")
            producer.gauge("g", n, {"thread": str(number)}, ts_ms=NOW_MS + n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = producer.close()

    series = _by_series(_received(kafka_broker, "threads"))
    assert (counts.lost, counts.waiting) == (0, 0)
    assert [v for _, v in series["increments_total",]][-2:] == [8_000, None]
    for number in range(4):
        values = [v for _, v in series["g", ("thread", str(number))]]
        assert values == [*range(2_000), None]


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
    blocked = threading.Thread(
        target=lambda: producer.put(_samples(5_000, 6_000), wait_s=math.inf), daemon=True
    )
    blocked.start()
    broker.start()
    blocked.join(60)
    assert producer.flush(60)
    counts = producer.close()

    assert refused > 0
    assert waiting > 0
    assert refused + waiting == 4_000
    assert (counts.acknowledged, counts.lost) == (10 + waiting + 1_000, refused)
    assert "no room" in counts.last_error
    assert len(_received(broker, "away")) == 10 + waiting + 1_000
    broker.stop()


def test_who_waits_for_room_when_a_producer_closes_is_let_go_and_counted_once(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    _topic(broker, "away", partitions=1)
    producer = Producer(broker.bootstrap_servers, "away", buffer_bytes=150_000)
    producer.put(_samples(0, 10))
    assert producer.flush()
    broker.kill()
    producer.put(_samples(10, 1_010))
    left = []
    blocked = threading.Thread(
        target=lambda: left.append(producer.put(_samples(2_000, 6_000), wait_s=math.inf)),
        daemon=True,
    )
    blocked.start()
    deadline = time.monotonic() + 60
    while producer.counts().waiting < 5_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    counts = producer.close(0.5)
    blocked.join(60)

    assert not blocked.is_alive()
    assert (counts.accepted, counts.acknowledged, counts.lost) == (5_010, 10, 5_000)
    assert producer.counts() == counts
    broker.stop()


def test_what_was_tried_too_long_is_lost_and_counted_and_what_comes_after_arrives(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    _topic(broker, "away", partitions=1)
    producer = Producer(broker.bootstrap_servers, "away", delivery_s=1.0)
    producer.put(_samples(0, 10))
    assert producer.flush()
    broker.kill()
    producer.put(_samples(10, 20))
    assert producer.flush(60)
    lost = producer.counts()
    broker.start()
    deadline = time.monotonic() + 60
    # Until it has found the broker again, what it is given is lost in its turn.
    while producer.counts().acknowledged == 10:
        assert time.monotonic() < deadline
        producer.put(_samples(20, 21))
        producer.flush(5)
    counts = producer.close()

    assert (lost.acknowledged, lost.lost, lost.waiting) == (10, 10, 0)
    assert counts.accepted == counts.acknowledged + counts.lost
    assert len(_received(broker, "away")) >= counts.acknowledged
    broker.stop()


def test_a_producer_goes_on_after_a_message_of_unknown_fate_was_tried_too_long(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    _topic(broker, "hangs", partitions=1)
    tried = {"delivery_s": 2.0, "options": {"request.timeout.ms": "300"}}
    producer = Producer(broker.bootstrap_servers, "hangs", **tried)
    producer.put(_samples(0, 10))
    assert producer.flush()
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        # It is sent, unanswered, and tried again until its time is over.
        producer.put(_samples(10, 20))
        assert producer.flush(60)
        lost = producer.counts().lost
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while producer.counts().acknowledged == 10:
        assert time.monotonic() < deadline
        producer.put(_samples(20, 21))
        producer.flush(5)
    counts = producer.close()

    assert lost == 10
    assert counts.accepted == counts.acknowledged + counts.lost
    broker.stop()


def _use_in_fork(producer, answers):
    try:
        producer.gauge("forked", 1)
    except BadRequest as err:
        answers.put(str(err))
    producer.close()


def test_a_fork_is_told_to_make_a_producer_of_its_own(kafka_broker):
    _topic(kafka_broker, "forked", 1)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with Producer(kafka_broker.bootstrap_servers, "forked") as producer:
        child = context.Process(target=_use_in_fork, args=(producer, answers))
        child.start()
        assert "make a producer here" in answers.get(timeout=60)
        child.join(60)
        assert child.exitcode == 0
        producer.gauge("parent", 1)
        assert producer.flush()

    assert {metric for _, (metric, _), *_ in _received(kafka_broker, "forked")} == {"parent"}


def test_a_producer_that_nobody_closed_is_closed_when_the_program_ends(kafka_broker):
    _topic(kafka_broker, "unclosed", 1)
    program = f"""
from varve.client import Producer
Producer({kafka_broker.bootstrap_servers!r}, "unclosed", report_s=3600).counter("c", 7)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=_environment())

    ((_, values),) = _by_series(_received(kafka_broker, "unclosed")).items()
    assert [v for _, v in values] == [0, 7, None]


def _environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def test_a_closed_producer_says_so_and_closing_twice_does_no_harm(kafka_broker):
    _topic(kafka_broker, "closed", 1)
    producer = Producer(kafka_broker.bootstrap_servers, "closed")
    producer.gauge("g", 1)

    assert producer.close() == producer.close()
    with pytest.raises(BadRequest, match="closed"):
        producer.gauge("g", 1)


def test_bad_input_raises_and_records_nothing(kafka_broker):
    _topic(kafka_broker, "bad", 1)
    with Producer(kafka_broker.bootstrap_servers, "bad") as producer:
        for bad in (
            lambda: producer.gauge("", 1),
            lambda: producer.gauge("g", "1"),
            lambda: producer.counter("c", -1),
            lambda: producer.counter("c", math.nan),
            lambda: producer.histogram("h", 1, {"le": "1"}),
            lambda: producer.summary("s", 1, quantiles=[2]),
            lambda: producer.gauge("g", 1, ts_ms=1_700_000_000),
            lambda: producer.put([Sample(define("p", {}), 1_700_000_000, 1.0)]),
        ):
            with pytest.raises(BadRequest):
                bad()
        assert producer.counts().accepted == 0

    assert _messages(kafka_broker, "bad") == []


def test_a_format_that_is_none_is_named():
    with pytest.raises(BadRequest, match="avro"):
        Producer("127.0.0.1:1", format="avro")


def test_a_broker_that_is_not_there_is_named():
    server = f"127.0.0.1:{free_port()}"

    with pytest.raises(TemporaryError, match=server):
        Producer(server, "any", connect_s=1)


def test_a_topic_that_is_not_there_is_named(kafka_broker):
    with pytest.raises(TemporaryError, match="no-such-topic"):
        Producer(kafka_broker.bootstrap_servers, "no-such-topic", connect_s=2)
