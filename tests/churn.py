"""Series that come and go over real tables: drivers judge and commit batches as in a query, rows
are rolled up and expire; a model says which series have rows in which table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from tests.plans import open_registry, task_plan
from tests.unit.ingest.messages import as_arrow
from tests.unit.maintenance.test_upkeep import row
from varve.ingest.batch import BatchCommitter, SeriesTrimmed
from varve.ingest.outcome import Outcome
from varve.ingest.plan import TaskPlan
from varve.ingest.start_offsets import starts
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.maintenance.compaction import Merge, merge_files
from varve.maintenance.row_removal import cut_file
from varve.maintenance.series_trimming import Trimmed, Trimming
from varve.model.clock import ManualClock
from varve.model.identity import SeriesDefinition
from varve.model.schema import table_schema
from varve.model.window import DAY_MS
from varve.spark.tasks import Numbers, run_tasks
from varve.storage.commit import Step, commit, rewrite
from varve.storage.files import write_file
from varve.storage.layout import CONDEMNED
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

BEGIN = 1_800_057_600_000
"""The start of a day."""


class Churn:
    """The tables, and the model `rows`: how many rows a series has, by table and series_id."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(str(folder / "tables"))
        create_tables(self.store)
        self.clock = ManualClock(BEGIN)
        self.rows: Counter[tuple[str, int]] = Counter()
        self.drivers = [Driver(self, "bulk"), Driver(self, "critical")]
        self.pass_time(0)

    def pass_time(self, ms: int) -> None:
        """The clock goes on, and all hours and days close."""
        self.clock.advance(ms)
        for tier in ("1h", "1d"):
            table, name = Table(self.store, f"rollup_{tier}"), f"frontier:{tier}"
            step = Step(table.position(name), self.clock.now_ms() // DAY_MS * DAY_MS)
            commit(table, [], transactions={name: step})

    def add(self, table: str, ids: Iterable[int]) -> None:
        """One row of each series, as a job appends what it has computed."""
        wanted = sorted(ids)
        if not wanted:
            return
        handle, at_ms = Table(self.store, table), self.clock.now_ms()
        rows = [row(table, 1, at_ms) | {"series_id": n} for n in wanted]
        file = write_file(self.store, table, pa.Table.from_pylist(rows, table_schema(table).arrow))
        held = handle.position("test")
        commit(handle, [file], transactions={"test": Step(held, (held or 0) + 1)})
        self.rows.update((table, n) for n in wanted)

    def remove(self, table: str, ids: Iterable[int]) -> None:
        """All rows of the series."""
        gone = np.array(sorted(ids), np.int64)
        seen = snapshot(self.store, table)
        for file in seen.files:
            cut = cut_file(seen, file, lambda series, _: np.isin(series, gone))
            if cut is not None:
                adds = [] if cut.rest is None else [cut.rest]
                rewrite(Table(self.store, table, files=True), adds, [cut.removal])
        for n in gone.tolist():
            del self.rows[table, n]

    def roll_up(self, table: str, above: str) -> None:
        """Everything in a table has a row above it, and then expires."""
        ids = [n for name, n in self.rows if name == table]
        self.add(above, ids)
        self.remove(table, ids)

    def merge_definitions(self) -> None:
        files = [f for f in snapshot(self.store, "series").files if not CONDEMNED.wrote(f.path)]
        if len(files) > 1:
            merge_files(self.store, Merge("series", (None, 0), tuple(files)))

    def trim(self) -> Trimmed:
        """Whatever is due, be it one series."""
        job = Trimming(self.store, least_share=0.0)
        now_ms = self.clock.now_ms()
        return job.run(job.plan(now_ms, {"series": snapshot(self.store, "series")}))

    def ids_in(self, table: str) -> set[int]:
        """The series of a table, as another reader finds them."""
        read = DeltaTable(f"{self.store.root}/{table}").to_pyarrow_table(columns=["series_id"])
        return set(read.column("series_id").to_pylist())

    def with_rows(self) -> set[int]:
        return {n for _, n in self.rows}

    def check(self) -> None:
        """Every row has its definition, and drivers know no series without one."""
        tables = {table for table, _ in self.rows}
        there = {table: self.ids_in(table) for table in sorted(tables)}
        defined = self.ids_in("series")
        for table, ids in there.items():
            assert ids == {n for name, n in self.rows if name == table}, table
            assert ids <= defined, f"{table} has rows without a definition"


class Driver:
    """A query without Kafka and Spark. What it has judged waits for its commit in `held`."""

    def __init__(self, churn: Churn, query: str) -> None:
        self.churn, self.query = churn, query
        self.partition = Partition("samples", f"id-{query}", 0)
        self.start()

    def start(self) -> None:
        """Starts, or starts anew after a death."""
        store = self.churn.store
        self.registry = open_registry(store, self.churn.clock)
        table = Table(store, "samples")
        begin = starts(table, self.query, {self.partition: 0}, {self.partition: 1 << 40})
        self.offset = begin[self.partition].offset
        self.committer = BatchCommitter(store, self.query, begin)
        self.held: tuple[list[Outcome], Mapping[str, int | None], Sequence[SeriesDefinition]] | None
        self.held = None

    def judge(self, series: Sequence[SeriesDefinition]) -> None:
        """Reads a sample of each series, with its definition, and registers what is new."""
        unmoved = self.committer.begin()
        self.registry.index.advance()
        now_ms = self.churn.clock.now_ms()
        plan = task_plan(
            self.churn.store,
            now_ms=now_ms,
            query=self.query,
            series_version=self.registry.index.version,
        )
        value = as_arrow([(s, now_ms - 1_000, 1.0) for s in series])
        message = Message("samples", 0, self.offset, now_ms, value)
        self.held = run_tasks(_Messages([message]), plan, self.registry), unmoved, series

    def commit(self) -> bool:
        """Commits what was judged. False if it has to be judged again, which it then is."""
        if self.held is None:
            return True
        outcomes, unmoved, series = self.held
        ranges = {self.partition: OffsetRange(self.offset, self.offset + 1)}
        try:
            self.committer.commit(ranges, outcomes, None, unmoved)
        except SeriesTrimmed:
            self.judge(series)
            return False
        self.offset, self.held = self.offset + 1, None
        self.churn.rows.update(("samples", s.series_id) for s in series)
        return True

    def send(self, series: Sequence[SeriesDefinition]) -> None:
        """Judges and commits, as often as it takes."""
        while not self.commit():
            pass
        self.judge(series)
        while not self.commit():
            pass


class _Messages:
    """A source of messages that are in memory."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def run(self, plan: TaskPlan, only: Numbers | None = None) -> list[Outcome]:
        del only  # there is one partition
        return list(run_task(self._messages, plan))
