"""What late samples cost: `python tests/benchmarks/bench_late.py [--days N]`.

Stands for 20,000 samples a second of which 5 % are late by up to ten days, at a hundredth of the
rate: 200 a second in a batch a minute, of 1,000 series, with WORTH_COMPACTING at a hundredth, too.
The tables are compacted after each batch, as `varve up` does it. Prints each four hours how many
files of late samples spread over several hours, how many an hour has, and what it takes to read
an hour of a metric: CPU ms, files opened, and the same once all are folded in.
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
from varve.model.compiled import warm_up  # noqa: E402
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS  # noqa: E402
from varve.storage.bounds import Bounds  # noqa: E402
from varve.storage.commit import Step, commit  # noqa: E402
from varve.storage.files import write_file  # noqa: E402
from varve.storage.snapshot import Follower, Snapshot, snapshot  # noqa: E402
from varve.storage.store import Store  # noqa: E402
from varve.storage.table import Table, create_tables  # noqa: E402

RATE = 200
LATE = 0.05
LATE_BY_MS = 10 * DAY_MS
METRICS, SERIES = 20, 50
BEGIN = 1_795_338_000_000 // HOUR_MS * HOUR_MS
SCALE = 100


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=float, default=1, help="days to simulate (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    pa.set_cpu_count(1)
    warm_up("varve.model.copies", "varve.storage.scaled_values")
    compaction.WORTH_COMPACTING //= SCALE
    compaction.MAX_ROWS //= SCALE
    with tempfile.TemporaryDirectory() as root:
        simulate(Store(root), np.random.default_rng(args.seed), round(args.days * 24 * 60))
    return 0


def simulate(store: Store, rng: np.random.Generator, minutes: int) -> None:
    create_tables(store, ("samples",))
    table, seen = Table(store, "samples"), Follower(store, "samples")
    ids = np.sort((np.arange(METRICS) << 52).repeat(SERIES) + rng.integers(0, 1 << 52, 1_000))
    stored = written = 0
    cpu, widest = 0.0, 0
    for minute in range(minutes):
        now = BEGIN + minute * MINUTE_MS
        files = []
        for rows in batch(ids, now, rng):
            files.append(write_file(store, "samples", rows))
            stored += rows.num_rows
        commit(table, files, transactions={"bench": Step(minute - 1 if minute else None, minute)})
        started = time.process_time()
        for merge in compaction.due_merges(seen.refresh(), now):
            done = compaction.merge_files(store, merge)
            written += done.rows if done else 0
        cpu += time.process_time() - started
        widest = max(widest, len(wide(seen.refresh())))
        if minute % 240 == 239:
            print(f"after {minute // 60 + 1:3} h: {state(seen.snapshot, now, ids)}", flush=True)
    print(
        f"at most {widest} files spread over hours; compaction wrote a sample"
        f" {written / stored:.2f} times, {stored / cpu / 1e6:.2f} M samples a CPU s"
    )
    folded(store)
    print(f"all folded in: {state(snapshot(store, 'samples'), now, ids)}")


def batch(ids: np.ndarray, now: int, rng: np.random.Generator) -> list[pa.Table]:
    """A minute's samples: those in time in one file, the late ones in another."""
    count = RATE * 60
    late = round(count * LATE)
    scraped = np.repeat(ids, count // len(ids))[: count - late]
    times = now - MINUTE_MS + 1 + rng.integers(0, MINUTE_MS, len(scraped))
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
    for back in (1, 3, 6, 24, 100, 200):
        start = now // HOUR_MS * HOUR_MS - back * HOUR_MS
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
