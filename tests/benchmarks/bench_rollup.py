"""Speed of the rollups.

    python tests/benchmarks/bench_rollup.py --data DIR [--batch 2] [--rows 6000000] [--late 60000]

DIR has the files that `python ../shared/bench/dataset.py --out DIR` writes; `make bench-rollup`
makes them. Puts the samples into a table in the shape of a live one: a file for every --batch
seconds of arrival, each its own commit with statistics, one sample in a thousand stored twice and
one in 2,000 a staleness marker. Then closes all windows of all tiers as the job does, in this
process, and prints M samples (rows of the tier below) a CPU second, by stage, and bytes a row.
Then come --late samples, each to a series and time of its own by chance, in 30 commits, and their
windows are repaired. CPU seconds include the threads of Arrow. No Spark: for that see bench_live.py
and bench_pipeline.py.
"""

# ruff: noqa: T201 - what it prints is its output
from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varve.model import compiled, copies
from varve.model.clock import ManualClock
from varve.model.staleness import STALE_NAN, to_column
from varve.model.window import DAY_MS, TIERS, floor_to
from varve.rollups import algebra, kernel, task, window_keys
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import TierPlan
from varve.storage import files
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

STAGES = {
    "read": (task, "read"),
    "order": (copies, "merge"),
    "newest": (window_keys, "newest_revisions"),
    "aggregate": (kernel, "aggregate"),
    "merge": (kernel, "merge"),
    "from_table": (algebra, "from_table"),
    "to_table": (algebra, "to_table"),
    "write": (task, "write_file"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=float, default=2.0, help="seconds of arrival in a file")
    parser.add_argument("--rows", type=int, default=6_000_000, help="samples at most")
    parser.add_argument("--late", type=int, default=60_000, help="late samples, to be repaired")
    args = parser.parse_args()
    compiled.warm_up()
    with tempfile.TemporaryDirectory(prefix="varve-bench-") as root:
        store = Store(root)
        create_tables(store)
        stored = fill(store, args.data / "samples.parquet", int(args.batch * 1000), args.rows)
        print(f"{stored:,} samples in {len(snapshot(store, 'samples').files)} files")
        print("tier  M rows below/CPU s  CPU s  rows  bytes/row  of which CPU s")
        for tier in TIERS:
            spent, total, below, _ = roll_up(store, tier)
            made = snapshot(store, tier.table)
            rows, size = sum(f.rows for f in made.files), sum(f.size for f in made.files)
            shares = ", ".join(f"{k} {v:.2f}" for k, v in spent.items() if v > total / 100)
            print(
                f"{tier.name:<4}  {below / total / 1e6:18.2f}  {total:5.2f}  {rows:,}"
                f"  {size / max(rows, 1):.1f}  {shares}"
            )
        come_late(store, args.late)
        print(f"{args.late:,} late samples in 30 commits")
        print("tier  repaired windows  CPU ms each  CPU s  of which CPU s")
        for tier in TIERS if args.late else ():
            spent, total, _, repaired = roll_up(store, tier)
            shares = ", ".join(f"{k} {v:.2f}" for k, v in spent.items() if v > total / 100)
            print(
                f"{tier.name:<4}  {repaired:16,}  {1000 * total / max(repaired, 1):11.4f}"
                f"  {total:5.2f}  {shares}"
            )


def fill(store: Store, path: Path, batch_ms: int, most: int) -> int:
    """Commits the samples batch by batch, all of whole days complete; how many."""
    rng = np.random.default_rng(1)
    samples = pq.read_table(path).slice(0, most)
    ts = samples.column("ts").to_numpy()
    edges = np.searchsorted(ts, np.arange(ts[0], ts[-1] + batch_ms, batch_ms))
    table = Table(store, "samples")
    stored = 0
    for begin, end in pairwise(edges):
        if begin == end:
            continue
        again = rng.integers(max(begin - 50_000, 0), end, (end - begin) // 1_000)
        chosen = np.concatenate([np.arange(begin, end), again])
        ids, times = (samples.column(c).to_numpy()[chosen] for c in ("series_id", "ts"))
        values = samples.column("value").to_numpy()[chosen].copy()
        values[rng.integers(0, len(values), len(values) // 2_000)] = STALE_NAN
        ids, times, values = copies.merge(ids, times, values)
        rows = pa.table({"series_id": ids, "ts": times, "value": to_column(values)})
        file = files.write_file(store, "samples", rows)
        step = Step(table.position("offset"), stored + len(ids))
        commit(table, [file], transactions={"offset": step})
        stored += len(ids)
    complete = floor_to(int(ts[-1]), DAY_MS) + 2 * DAY_MS
    commit(table, [], transactions={"complete:bulk": Step(None, complete)})
    return stored


def come_late(store: Store, count: int) -> None:
    """Commits so many late samples, a millisecond beside ones that are there."""
    rng = np.random.default_rng(2)
    there = snapshot(store, "samples").scan(Bounds(), ["series_id", "ts"])
    table = Table(store, "samples")
    for chosen in np.array_split(rng.integers(0, there.num_rows, count), 30) if count else ():
        ids, times = (there.column(c).to_numpy()[chosen] for c in ("series_id", "ts"))
        ids, times, values = copies.merge(ids, times + 1, rng.random(len(chosen)))
        rows = pa.table({"series_id": ids, "ts": times, "value": values})
        held = table.position("offset")
        file = files.write_file(store, "samples", rows)
        commit(table, [file], transactions={"offset": Step(held, held + len(ids))})


def roll_up(store: Store, tier) -> tuple[dict[str, float], float, int, int]:
    """CPU seconds by stage and in all, the rows of the table below, and the windows repaired."""
    below = sum(f.rows for f in snapshot(store, tier.source).files)
    plan = TierPlan(store, tier, ("bulk",), 0, 0, 1)
    spent: dict[str, float] = {}
    repaired = 0
    begun = time.process_time()
    with timed(spent):
        worker = TierWorker(plan, ManualClock())
        while (planned := worker.plan()) is not None:
            written = [task.run_task(part) for part in planned.tasks]
            worker.commit(planned, [file for file in written if file is not None])
            repaired += len(planned.repaired.keys)
    return spent, time.process_time() - begun, below, repaired


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Counts the CPU seconds of the stages while it lasts."""
    originals = {name: getattr(*where) for name, where in STAGES.items()}

    def counting(name, function):
        def run(*args, **kwargs):
            begun = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - begun

        return run

    for name, (owner, attribute) in STAGES.items():
        setattr(owner, attribute, counting(name, originals[name]))
    try:
        yield
    finally:
        for name, (owner, attribute) in STAGES.items():
            setattr(owner, attribute, originals[name])


if __name__ == "__main__":
    main()
