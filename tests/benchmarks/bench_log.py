"""Growth of the log: `python tests/benchmarks/bench_log.py [COMMITS] [ROOT]`.

By default 43,000 commits, a day of one every 2 s, of files that exist in name only, with a follower
beside. Prints what a commit and a refresh cost in each tenth of the way, and at the end what
opening and selecting cost. Exits with 1 if a target is missed: commit p99 under 0.1 s in every
tenth, opening under 1 s, select under 5 ms. Wall time, so on a machine that does nothing else; the
CPU time of a commit, checkpoints apart, is given for one that does.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time

import numpy as np

from varve.model.schema import table_schema
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile, fingerprint
from varve.storage.snapshot import Follower, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables


def file(i: int, schema: str) -> NewFile:
    low = {"series_id": -(2**62), "ts": 2_000 * i}
    high = {"series_id": 2**62, "ts": 2_000 * i + 9_000}
    nulls = {"series_id": 0, "ts": 0}
    return NewFile(
        "samples", f"part-{i:032x}.parquet", 5_000_000, 1_000_000, schema, low, high, nulls
    )


def timed(call, *args):
    started = time.perf_counter()
    result = call(*args)
    return time.perf_counter() - started, result


def main(commits: int, root: str) -> int:
    store = Store(root)
    create_tables(store, ("samples",))
    table, follower = Table(store, "samples"), Follower(store, "samples")
    schema, tenth, missed = fingerprint(table_schema("samples")), max(commits // 10, 1), False
    commit_s, cpu_s, refresh_s = [], [], []
    for i in range(commits):
        step = {"bulk:topic:0": Step(i or None, i + 1)}
        cpu = time.thread_time()
        took, _ = timed(lambda i=i, step=step: commit(table, [file(i, schema)], transactions=step))
        commit_s.append(took)
        cpu_s.append(time.thread_time() - cpu)
        if i % 10 < 2:
            took, _ = timed(follower.refresh)
            # The first reads nine commits, the second one.
            if i % 10 == 1:
                refresh_s.append(took)
        if (i + 1) % tenth == 0:
            p50, p99, top = 1_000 * np.quantile(commit_s, [0.5, 0.99, 1])
            seen = 1_000 * np.quantile(refresh_s, [0.5, 0.99])
            print(  # noqa: T201
                f"{i + 1:7} commits: ms a commit p50 {p50:.2f} p99 {p99:.1f} max {top:.0f},"
                f" CPU p50 {1_000 * np.median(cpu_s):.2f};"
                f" followed p50 {seen[0]:.2f} p99 {seen[1]:.2f}",
                flush=True,
            )
            missed |= p99 > 100
            commit_s, cpu_s, refresh_s = [], [], []
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join()
    positions_s, _ = timed(Table, store, "samples")
    open_s, opened = timed(Follower, store, "samples")
    bounds = Bounds(1_000 * commits, 1_000 * commits + 3_600_000, np.array([1, 2, 3]))
    first_s, _ = timed(opened.snapshot.select, bounds)
    select_s, chosen = timed(opened.snapshot.select, bounds)
    past_s, _ = timed(snapshot, store, "samples", commits // 2)
    print(  # noqa: T201
        f"open: positions {positions_s:.3f} s, with files {open_s:.3f} s,"
        f" as of half way {past_s:.3f} s; select: first {1_000 * first_s:.1f} ms,"
        f" then {1_000 * select_s:.2f} ms for {len(chosen)} files"
    )
    return int(missed or open_s > 1 or select_s > 0.005)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 43_000
    if len(sys.argv) > 2:
        sys.exit(main(count, sys.argv[2]))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(count, folder))
