"""What late samples cost: `python tests/benchmarks/bench_late.py [--days N] [--every MINUTES]`.

Stands for 20,000 samples a second of which 5 % are late by up to ten days, at a thousandth of the
rate: 20 a second, of 1,000 series, with the thresholds of compaction at a thousandth, too. The
tables are compacted after each commit, as `varve up` does it. Prints each day how many files of
late samples spread over several hours, how many an hour has, and what it takes to read an hour of a
metric, of hours of all the days that there are: CPU ms, files opened, and the same once all are
folded in. After ten days it is steady.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from varve.maintenance import compaction  # noqa: E402
from varve.maintenance.compaction import Compaction  # noqa: E402
from varve.model.compiled import warm_up  # noqa: E402
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS  # noqa: E402
from varve.storage.bounds import Bounds  # noqa: E402
from varve.storage.commit import Step, commit  # noqa: E402
from varve.storage.files import write_file  # noqa: E402
from varve.storage.snapshot import Follower, Snapshot, snapshot  # noqa: E402
from varve.storage.store import Store  # noqa: E402
from varve.storage.table import Table, create_tables  # noqa: E402

RATE = 20
LATE = 0.05
LATE_BY_MS = 10 * DAY_MS
METRICS, SERIES = 20, 50
BEGIN = 1_795_338_000_000 // DAY_MS * DAY_MS
SCALE = 1_000
HOURS = 24
"""How many hours are read each time, spread over the days that there are."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=float, default=10, help="days to simulate (default 10)")
    parser.add_argument("--every", type=float, default=10, help="minutes between commits")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    pa.set_cpu_count(1)
    warm_up("varve.model.copies", "varve.storage.scaled_values")
    compaction.WORTH_COMPACTING //= SCALE
    compaction.MAX_ROWS //= SCALE
    every_ms = round(args.every * MINUTE_MS)
    with tempfile.TemporaryDirectory() as root:
        count = round(args.days * DAY_MS / every_ms)
        simulate(Store(root), np.random.default_rng(args.seed), count, every_ms)
    return 0


def simulate(store: Store, rng: np.random.Generator, commits: int, every_ms: int) -> None:
    create_tables(store, ("samples",))
    table, seen = Table(store, "samples"), Follower(store, "samples")
    ids = np.sort((np.arange(METRICS) << 52).repeat(SERIES) + rng.integers(0, 1 << 52, 1_000))
    job, stored, written, merges, cpu, widest = Compaction(store), 0, 0, 0, 0.0, 0
    for number in range(commits):
        now = BEGIN + (number + 1) * every_ms
        files = []
        for rows in batch(ids, now, every_ms, rng):
            files.append(write_file(store, "samples", rows))
            stored += rows.num_rows
        commit(table, files, transactions={"bench": Step(number - 1 if number else None, number)})
        started = time.process_time()
        done = job.run(job.plan(now, {"samples": seen.refresh()}))
        written += sum(merged.rows for merged in done.merged)
        merges += len(done.merged)
        cpu += time.process_time() - started
        widest = max(widest, len(wide(seen.refresh())))
        at_ms = now - BEGIN
        if (at_ms % DAY_MS < every_ms and at_ms >= DAY_MS) or number == commits - 1:
            print(
                f"after {at_ms / HOUR_MS:4.0f} h: {state(seen.snapshot, now, ids)};"
                f" {time.process_time():.0f} CPU s",
                flush=True,
            )
    print(
        f"at most {widest} files spread over hours; compaction wrote a sample"
        f" {written / stored:.2f} times, in {merges:,} merges of {cpu / merges * 1e3:.1f} CPU ms"
    )
    folded(store)
    print(f"all folded in: {state(snapshot(store, 'samples'), now, ids)}")


def batch(ids: np.ndarray, now: int, every_ms: int, rng: np.random.Generator) -> list[pa.Table]:
    """The samples of a commit: those in time in one file, the late ones in another."""
    count = RATE * every_ms // 1_000
    late = round(count * LATE)
    scraped = rng.choice(ids, count - late)
    times = now - every_ms + 1 + rng.integers(0, every_ms, len(scraped))
    behind = now - rng.integers(0, LATE_BY_MS, late)
    return [rows_of(scraped, times), rows_of(rng.choice(ids, late), behind)]


def rows_of(ids: np.ndarray, ts: np.ndarray) -> pa.Table:
    order = np.lexsort((ts, ids))
    values = (ts % HOUR_MS // 100).astype(np.float64)
    return pa.table({"series_id": ids[order], "ts": ts[order], "value": values[order]})


def hours(minimum: int, maximum: int) -> range:
    return range((minimum - 1) // HOUR_MS, (maximum - 1) // HOUR_MS + 1)


def wide(held: Snapshot) -> list[range]:
    """The hours of each file that has several."""
    spans = [hours(f.minimum["ts"], f.maximum["ts"]) for f in held.files]
    return [span for span in spans if len(span) > 1]


def state(held: Snapshot, now: int, ids: np.ndarray) -> str:
    spans = [hours(f.minimum["ts"], f.maximum["ts"]) for f in held.files]
    own = Counter(span[0] for span in spans if len(span) == 1)
    wanted = ids[SERIES : 2 * SERIES]
    took, opened = [], []
    begun = max(BEGIN, now - LATE_BY_MS) // HOUR_MS
    for hour in np.linspace(begun + 1, now // HOUR_MS - 3, HOURS).astype(int).tolist():
        start = hour * HOUR_MS
        bounds = Bounds(start, start + HOUR_MS, series_ids=wanted)
        opened.append(sum(start // HOUR_MS in span for span in spans))
        runs = []
        for _ in range(3):
            started = time.process_time()
            held.scan(bounds, threads=1)
            runs.append(time.process_time() - started)
        took.append(min(runs) * 1e3)
    return (
        f"{len(spans):5} files, {sum(len(s) > 1 for s in spans):3} over several hours, an hour has"
        f" {statistics.median(own.values() or [0]):.0f} (at most {max(own.values(), default=0)});"
        f" an hour of a metric {statistics.median(took):.1f} ms (at most {max(took):.1f}),"
        f" of {statistics.median(opened):.0f} files (at most {max(opened)})"
    )


def folded(store: Store) -> None:
    """Deals out and merges all there is, however few rows a period has."""
    compaction.WORTH_COMPACTING, compaction.FANOUT = 1, 2
    for _ in range(10):
        due = compaction.due_merges(snapshot(store, "samples"), 1 << 42)
        if not due:
            break
        for merge in due:
            compaction.merge_files(store, merge)


if __name__ == "__main__":
    sys.exit(main())
