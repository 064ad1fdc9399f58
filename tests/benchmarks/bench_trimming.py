"""What a year of series that come and go leaves behind, with and without trimming.

    python tests/benchmarks/bench_trimming.py --days 365 --new 1000

Each day some series begin and live for that day, beside those that go on; a day of a series is a
row of rollup_1d, which is kept for `--kept` days.
"""

# ruff: noqa: T201 - what it prints is its output
from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.benchmarks.bench_labels import rows as labelled
from tests.plans import open_registry
from varve.maintenance.compaction import due_merges, merge_files
from varve.maintenance.series_trimming import Trimming
from varve.model.clock import ManualClock
from varve.model.schema import table_schema
from varve.model.window import DAY_MS
from varve.query.memory import INDEX, UNBOUNDED, MemoryBudget
from varve.query.series_index import COLUMNS, IndexBuilder
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

BEGIN = 1_800_057_600_000


class Home:
    """Tables over which days go by."""

    def __init__(self, root: str, kept_days: int, *, trims: bool) -> None:
        self.store, self.kept_ms, self.trims = Store(root), kept_days * DAY_MS, trims
        create_tables(self.store)
        self.clock = ManualClock(BEGIN)
        self.registry = open_registry(self.store, self.clock)
        self.trimmed, self.cpu_s, self.runs = 0, 0.0, 0

    def day(self, first: int, count: int, live: int) -> None:
        """A day with `count` new series, numbered from first on, and the first `live` ones."""
        self.clock.advance(DAY_MS)
        end = self.clock.now_ms()
        fresh = definitions(first, count, end)
        self.registry.register_rows(fresh)
        going_on = definitions(0, live, end).column("series_id").to_numpy()
        ids = np.unique(np.concatenate([going_on, fresh.column("series_id").to_numpy()]))
        table = Table(self.store, "rollup_1d", files=True)
        step = {"frontier:1d": Step(table.position("frontier:1d"), end)}
        commit(table, [write_file(self.store, "rollup_1d", day_rows(ids, end))], transactions=step)
        hours = Table(self.store, "rollup_1h")
        step = {"frontier:1h": Step(hours.position("frontier:1h"), end)}
        commit(hours, [], transactions=step)
        old = [
            Removal(f.path, f.size, rows_disappear=True)
            for f in table.live_files().values()
            if f.maximum["window_end"] <= end - self.kept_ms
        ]
        if old:
            rewrite(table, [], old)
        begun = time.process_time()
        if self.trims:
            job = Trimming(self.store)
            due = job.plan(end, {"series": snapshot(self.store, "series")})
            done = job.run(due)
            self.trimmed, self.runs = self.trimmed + done.series, self.runs + (done.series > 0)
        self.cpu_s += time.process_time() - begun
        for merge in due_merges(snapshot(self.store, "series"), end):
            merge_files(self.store, merge)

    def report(self) -> str:
        seen = snapshot(self.store, "series")
        nbytes, rows = sum(f.size for f in seen.files), sum(f.rows for f in seen.files)
        budget = MemoryBudget(UNBOUNDED)
        builder = IndexBuilder(budget)
        begun = time.process_time()
        builder.add(seen.scan(Bounds(), COLUMNS))
        builder.index()
        took = time.process_time() - begun
        self.registry.index.advance()
        return (
            f"{rows:>9,} rows {nbytes / 1e6:6.2f} MB in {len(seen.files):2} files;"
            f" ingest knows {len(self.registry.index):>9,};"
            f" query index {budget.used[INDEX] / 2**20:6.1f} MiB, made in {took:5.2f} CPU s;"
            f" {self.trimmed:,} trimmed in {self.runs} runs, {self.cpu_s:.1f} CPU s"
        )


def definitions(first: int, count: int, now_ms: int) -> pa.Table:
    """Rows of the table series as a producer defines them."""
    some = labelled(first, count)
    columns = {name: some.column(name) for name in some.column_names}
    columns |= {"check": pa.array(np.zeros(count, np.int32))}
    columns |= dict.fromkeys(("first_seen", "last_seen"), pa.array(np.full(count, now_ms)))
    schema = table_schema("series").arrow
    return pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema)


def day_rows(ids: np.ndarray, end_ms: int) -> pa.Table:
    schema = table_schema("rollup_1d").arrow
    row = {f.name: [] if pa.types.is_list(f.type) else 0 for f in schema}
    one = pa.Table.from_pylist([row], schema)
    every = one.take(pa.array(np.zeros(len(ids), np.int64)))
    for name, values in (("series_id", ids), ("window_end", np.full(len(ids), end_ms))):
        at = schema.get_field_index(name)
        every = every.set_column(at, schema.field(name), pa.array(values))
    return every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--new", type=int, default=1_000, help="series that begin each day")
    parser.add_argument("--live", type=int, default=2_000, help="series that go on all the time")
    parser.add_argument("--kept", type=int, default=30, help="days of retention")
    args = parser.parse_args()
    for trims in (True, False):
        with tempfile.TemporaryDirectory(prefix="varve-trimming-") as folder:
            home = Home(str(Path(folder) / "tables"), args.kept, trims=trims)
            home.day(0, args.live, args.live)
            for number in range(1, args.days + 1):
                home.day(args.live + (number - 1) * args.new, args.new, args.live)
                if number % 73 == 0 or number == args.days:
                    told = "trimmed" if trims else "not trimmed"
                    print(f"{told}, day {number:>3}: {home.report()}", flush=True)


if __name__ == "__main__":
    main()
