"""What the head of rules costs beside that of a query service: memory, and CPU of each commit.

    make bench-rules-head ARGS="--commits 12"

Tables of 200 metrics with 100 series each, every commit five samples of each series; rules select
five of the metrics.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa

from tests.tables import QUERY, WrittenTables
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.head_series import HeadSeries
from varve.query.tables import Tables
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.table import Table

METRICS, SERIES_A_METRIC, SAMPLES_A_COMMIT, STEP_MS = 200, 100, 5, 1_000
SELECTED = 5
START_MS = 1_800_000_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commits", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        written = WrittenTables(root)
        series = [
            define(f"metric_{m}", {"i": f"h{i}"})
            for m in range(METRICS)
            for i in range(SERIES_A_METRIC)
        ]
        written.define(series)
        selectors = tuple(
            (Matcher("__name__", MatchOp.EQUAL, f"metric_{m}"),) for m in range(SELECTED)
        )
        ids = np.array(sorted(one.series_id for one in series), dtype=np.int64)
        followers = {
            "all series": follower(written, None),
            f"{SELECTED} metrics": follower(written, HeadSeries(selectors, 3_600_000)),
        }
        took: dict[str, list[float]] = {name: [] for name in followers}
        for number in range(args.commits):
            put(written, ids, number)
            for name, tables in followers.items():
                began = time.process_time()
                settle(tables)
                took[name].append(time.process_time() - began)
        print(f"{len(ids):,} series, {args.commits} commits of {len(ids) * SAMPLES_A_COMMIT:,}")
        for name, tables in followers.items():
            held = sum(run.nbytes for run in tables.view.head)
            print(
                f"head of {name}: {held / (1 << 20):.1f} MiB, a commit"
                f" median {1000 * statistics.median(took[name][1:]):.1f} ms of CPU"
            )
            tables.close()
    return 0


def follower(written: WrittenTables, held: HeadSeries | None) -> Tables:
    return Tables(written.store, (QUERY,), 512 << 20, head_series=held)


def put(written: WrittenTables, ids: np.ndarray, number: int) -> None:
    """A commit of samples of all series, complete with it."""
    table = Table(written.store, "samples")
    first_ms = START_MS + number * SAMPLES_A_COMMIT * STEP_MS
    ts = first_ms + np.tile(np.arange(SAMPLES_A_COMMIT) * STEP_MS, len(ids))
    values = np.random.default_rng(number).random(len(ts))
    columns = [pa.array(np.repeat(ids, SAMPLES_A_COMMIT)), pa.array(ts), pa.array(values)]
    file = write_file(
        written.store, "samples", pa.table(columns, schema=table_schema("samples").arrow)
    )
    name = positions.complete(QUERY)
    commit(table, [file], transactions={name: Step(table.position(name), int(ts[-1]))})


def settle(tables: Tables) -> None:
    tables.poll()
    while not tables.caught_up:
        tables.poll()


if __name__ == "__main__":
    sys.exit(main())
