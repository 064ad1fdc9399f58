"""A stream whose batch is large gets on, one that hangs does not."""

import threading
import time
from contextlib import contextmanager

import pytest

from varve.spark.listener import StreamListener
from varve.spark.stream_progress import StreamProgress
from varve.telemetry.metrics import StreamMetrics
from varve.telemetry.registry import Telemetry

pytestmark = pytest.mark.spark


@pytest.fixture
def listener(spark):
    listener = StreamListener(StreamMetrics(Telemetry()))
    spark.streams.addListener(listener)
    yield listener
    spark.streams.removeListener(listener)


@contextmanager
def streaming(spark, tmp_path, name, batch):
    rows = spark.readStream.format("rate").option("rowsPerSecond", 1).load()
    stream = (
        rows.writeStream.queryName(name)
        .option("checkpointLocation", str(tmp_path / name))
        .trigger(processingTime="100 milliseconds")
        .foreachBatch(batch)
        .start()
    )
    try:
        yield stream
    finally:
        stream.stop()


@contextmanager
def closing_with(free):
    """A stream can be stopped once its batch may end."""
    try:
        yield
    finally:
        free()


def _until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_stream_that_hangs_is_not_hidden_by_another_that_gets_on(spark, listener, tmp_path):
    stuck, release = threading.Event(), threading.Event()

    def hang(_rows, number):
        if number == 1:
            stuck.set()
            release.wait()

    with (
        streaming(spark, tmp_path, "quick", lambda _rows, _number: None) as quick,
        streaming(spark, tmp_path, "stuck", hang) as slow,
        closing_with(release.set),
    ):
        _until(stuck.is_set)
        _until(lambda: listener.events[str(slow.runId)] == 1)  # of the batch before
        progress = StreamProgress(spark, [quick, slow], listener.events)
        progress.advanced()  # from here on
        before = listener.events[str(quick.runId)]
        _until(lambda: listener.events[str(quick.runId)] > before + 2)
        assert not progress.advanced()

        release.set()

        _until(progress.advanced)


def test_a_batch_under_way_gets_on_with_each_of_its_tasks(spark, listener, tmp_path):
    gates = [tmp_path / f"gate {n}" for n in range(3)]
    begun = threading.Event()

    def open_all():
        for gate in gates:
            gate.touch()

    def task(batches):
        for batch in batches:
            for number in batch.column("id").to_pylist():
                while not gates[number].exists():
                    time.sleep(0.05)
            yield batch

    def run_tasks(_rows, number):
        if number == 1:
            begun.set()
            spark.range(0, 3, 1, 3).mapInArrow(task, "id long").collect()

    with streaming(spark, tmp_path, "large", run_tasks) as large, closing_with(open_all):
        _until(begun.is_set)
        progress = StreamProgress(spark, [large], listener.events)
        progress.advanced()
        progress.advanced()
        assert not progress.advanced()

        gates[0].touch()
        _until(progress.advanced)
        gates[1].touch()
        _until(progress.advanced)

        assert large.lastProgress["batchId"] == 0  # it is under way all the while
        gates[2].touch()
        _until(lambda: large.lastProgress["batchId"] >= 1)
