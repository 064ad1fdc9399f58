"""docs/operations.md: a copy taken table by table in its order, while all is written, is whole."""

import re
import shutil
from pathlib import Path

import pyarrow.compute as pc

from tests.unit.ingest.messages import as_json, record
from varve.ingest.batch import BatchCommitter
from varve.ingest.position import OffsetRange, Partition, rejects, starts
from varve.ingest.registry import Registry
from varve.ingest.task import Message, TaskPlan, run_task
from varve.model.clock import ManualClock
from varve.model.window import TIERS
from varve.rollups.task import run_task as roll_up
from varve.rollups.tier import TierPlan, TierWorker
from varve.storage.log import entries
from varve.storage.snapshot import Bounds, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
MINUTE_MS = 60_000
START_MS = 1_795_338_000_000
PARTITION = Partition("raw-metrics", "id", 0)
MESSAGES = 40


def _message(number):
    """A sample of now, a late one, a record that is refused; every tenth has a new series."""
    ts = START_MS + number * MINUTE_MS
    late = ts - 17 * MINUTE_MS
    value = [
        record(ts + 1, 1.0, series=str(number // 10)),
        record(late, float(number), series="late"),
        {"metric": "bad", "timestamp": ts},
    ]
    return Message("raw-metrics", 0, number, ts, as_json(value), None)


class Line:
    """Ingest and rollups over some tables, without Spark between them."""

    def __init__(self, root):
        self.store = Store(str(root))
        create_tables(self.store)
        first, end = {PARTITION: 0}, {PARTITION: MESSAGES}
        begin = starts(Table(self.store, "samples"), "bulk", first, end)
        self.next = begin[PARTITION].offset
        self.registry = Registry(self.store)
        self.committer = BatchCommitter(self.store, "bulk", begin)
        self.clock = ManualClock(START_MS)
        self.workers = [
            TierWorker(TierPlan(self.store, tier, ("bulk",), 0, 0, 1), self.clock) for tier in TIERS
        ]

    def ingest(self):
        """The next message, a batch of its own."""
        message = _message(self.next)
        plan = TaskPlan(
            self.store,
            "bulk",
            now_ms=message.ts,
            oldest_ms=0,
            newest_ms=message.ts + MINUTE_MS,
            late_ms=0,
            max_message_bytes=10_000,
            series_version=self.registry.known.version,
        )
        outcomes = list(run_task([message], plan))
        self.registry.register([d for o in outcomes for d in o.definitions])
        self.committer.note(message.ts, {PARTITION: self.next + 1})
        self.committer.commit({PARTITION: OffsetRange(self.next, self.next + 1)}, outcomes)
        self.next += 1

    def roll_up(self):
        """All that is due."""
        self.clock.advance(3_600_000)  # whatever rests between sweeps
        for worker in self.workers:
            while (work := worker.plan()) is not None:
                worker.commit(work, [f for f in map(roll_up, work.tasks) if f is not None])

    def finish(self):
        while self.next < MESSAGES:
            self.ingest()
        self.roll_up()

    def rows(self, table):
        return snapshot(self.store, table).scan(Bounds())

    def rolled_up(self, tier):
        """The newest revision of each row."""
        rows = {}
        for row in self.rows(tier.table).sort_by("revision").to_pylist():
            rows[row["series_id"], row["window_end"]] = (
                row["count"],
                row["sum"],
                row["last_value"],
            )
        return rows


def _order():
    text = OPERATIONS.read_text()
    return re.search(r"^    (rollup_1d .*)$", text, re.MULTILINE)[1].split()


def _copy(table, source, target):
    """The log, then the files, as documented; only what the copied log has may be needed."""
    shutil.copytree(source / table / "_delta_log", target / table / "_delta_log")
    shutil.copytree(
        source / table, target / table, dirs_exist_ok=True, ignore=lambda *_: ["_delta_log"]
    )


def test_a_copy_in_the_documented_order_goes_on_to_the_same_end(tmp_path):
    line = Line(tmp_path / "tables")
    for number in range(20):
        line.ingest()
        if number % 3 == 0:
            line.roll_up()
    for table in _order():
        _copy(table, tmp_path / "tables", tmp_path / "copy")
        line.ingest()
        line.roll_up()
    line.finish()
    assert {tier.table for tier in TIERS} | {"samples", "series", "quarantine", "repairs"} == set(
        _order()
    )

    copy = Store(str(tmp_path / "copy"))
    samples, quarantine = Table(copy, "samples"), Table(copy, "quarantine")
    # Nothing in it speaks of what is not there.
    ids = snapshot(copy, "series").scan(Bounds())["series_id"]
    assert pc.all(pc.is_in(snapshot(copy, "samples").scan(Bounds())["series_id"], ids)).as_py()
    assert quarantine.position(rejects("bulk")) >= samples.position(rejects("bulk"))
    for below, above in zip(("samples", *(t.table for t in TIERS)), TIERS, strict=False):
        read = [
            entry.metadata["version"]
            for entry in entries(copy, above.table, 0, Table(copy, above.table).version)
            if "version" in entry.metadata
        ]
        assert max(read, default=0) <= Table(copy, below).version

    restored = Line(tmp_path / "copy")
    assert 20 < restored.next < MESSAGES
    restored.finish()

    assert sorted(restored.rows("samples").to_pylist(), key=str) == sorted(
        line.rows("samples").to_pylist(), key=str
    )
    for tier in TIERS:
        assert restored.rolled_up(tier) == line.rolled_up(tier)
    refused = {(r["partition"], r["offset"]) for r in restored.rows("quarantine").to_pylist()}
    assert refused == {(0, number) for number in range(MESSAGES)}
