"""How far input is complete, on a real broker and a real Spark with a clock that is set by hand."""

import json

import pytest

from tests.integration.ingest.test_ingest import Line, await_that, sample
from tests.plans import ingest_plan
from varve.ingest.batch_size import BatchLimits
from varve.kafka.client_options import Cluster
from varve.model.clock import ManualClock, SystemClock
from varve.spark.ingest import IngestQuery
from varve.storage.log import entries
from varve.storage.table import Table

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

HOUR_MS = 3_600_000


class TimedLine(Line):
    """A line whose queries go by one clock, and can be paused."""

    def __init__(self, spark, broker, folder):
        super().__init__(spark, broker, folder)
        self.clock = ManualClock(SystemClock().now_ms())

    def start(self, **changes):
        plan = ingest_plan(
            self.store,
            topics=(self.topic,),
            cluster=Cluster(self.broker.bootstrap_servers),
            trigger_s=0.2,
            complete_every_s=0.1,
            **changes,
        )
        query = Noting(self.spark.newSession(), plan, self.clock)
        self.queries.append(query)
        return query

    def send_sample(self, ts, partition=0):
        return self.send(json.dumps(sample(ts)).encode(), partition)

    def complete(self):
        return Table(self.store, "samples").position("complete:bulk")


class Noting(IngestQuery):
    """Counts how often it has noted how far input goes."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.notes = 0
        committer, note = self._committer, self._committer.note

        def counted(*of):
            note(*of)
            self.notes += 1

        committer.note = counted

    def await_notes(self, number):
        """Blocks until so many more have been taken, the first of them begun from now on."""
        wanted = self.notes + number + 1
        await_that(lambda: self.notes >= wanted or self.raise_failure())


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = TimedLine(spark, kafka_broker, tmp_path / "the tables")
    yield line
    line.close()


def test_it_moves_with_the_clock_while_input_is_idle(line):
    line.start()
    await_that(lambda: line.complete() == line.clock.now_ms())

    line.clock.advance(60_000)

    await_that(lambda: line.complete() == line.clock.now_ms())


def test_it_stands_still_while_the_query_is_paused_with_messages_to_read(line):
    query = line.start()
    await_that(lambda: line.complete() == line.clock.now_ms())
    with query._at_work:
        before = line.complete()
        line.send_sample(line.clock.now_ms())
        query.await_notes(1)
        line.clock.advance(60_000)
        query.await_notes(3)

        assert line.complete() == before

    await_that(lambda: line.complete() == line.clock.now_ms())
    assert len(line.rows("samples")) == 1


def test_it_stands_still_while_the_query_is_down_and_until_it_has_caught_up(line):
    query = line.start()
    await_that(lambda: line.complete() == line.clock.now_ms())
    line.stop(query)
    before = line.complete()
    for n in range(12):
        line.send_sample(line.clock.now_ms() + n, n % 2)
    line.clock.advance(60_000)
    assert line.complete() == before

    line.start(batch=BatchLimits(2, 10**6, 2**30))
    await_that(lambda: line.complete() == line.clock.now_ms())

    table, stored = Table(line.store, "samples"), 0
    for entry in entries(line.store, "samples", -1, table.version):
        stored += sum(f.rows for f in entry.adds)
        if entry.positions.get("complete:bulk", before) > before:
            assert stored == 12
    batches = [e for e in entries(line.store, "samples", -1, table.version) if e.adds]
    assert len(batches) >= 3


@pytest.mark.parametrize(
    ("allowed_ms", "table"), [(600_000, "quarantine"), (2 * HOUR_MS, "samples")]
)
def test_a_producer_an_hour_ahead_changes_nothing(line, allowed_ms, table):
    query = line.start(max_future_ms=allowed_ms)
    line.send_sample(line.clock.now_ms() + HOUR_MS)
    await_that(lambda: len(line.rows(table)) == 1)
    query.await_notes(3)

    assert line.complete() == line.clock.now_ms()
    line.clock.advance(60_000)
    await_that(lambda: line.complete() == line.clock.now_ms())
