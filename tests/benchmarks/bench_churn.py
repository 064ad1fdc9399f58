"""What series that have ended cost dashboards of those that live, until they are trimmed.

    python tests/benchmarks/bench_churn.py [--live 1000000] [--days 30] [--each 100000]

Tables with the living series alone, then with those of so many days of churn before them, each in a
process of its own: what it takes to open them, resident memory, and CPU ms in the median of what a
dashboard asks of this hour, from text to bytes, no steps kept. Exits 1 if any of it takes over 1.5
times as long with the dead as without, and over a millisecond more.
"""

# ruff: noqa: T201 - what it prints is its output
from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np
import psutil
import pyarrow as pa

from tests.benchmarks.bench_labels import AT_ONCE, rows
from tests.tables import QUERY, WrittenTables
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS, MINUTE_MS, TIERS
from varve.promql import result_json
from varve.promql.kernels import warm_up
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import INDEX, MemoryBudget
from varve.query.reader import Reader
from varve.query.tables import Tables
from varve.query.view import View
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.table import Table

END_MS = 1_795_338_000_000 // HOUR_MS * HOUR_MS + 20 * MINUTE_MS
RUNS = 25
MOST = 1.5
METRIC = [Matcher("__name__", MatchOp.EQUAL, "metric_7_total")]
HOUR = Range(END_MS - HOUR_MS, END_MS, MINUTE_MS)
Figures = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--live", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--each", type=int, default=100_000, help="new series a day")
    args = parser.parse_args()
    without, with_dead = (measured(args.live, dead) for dead in (0, args.days * args.each))
    print(f"\n{args.live:,} live series; and {args.days * args.each:,} dead ones beside them")
    print(f"{'':38}{'alone':>10}{'with dead':>11}{'ratio':>7}")
    for name, figure in without.items():
        print(f"{name:38}{figure:10,.2f}{with_dead[name]:11,.2f}{with_dead[name] / figure:7.2f}")
    slow = [
        name
        for name, figure in without.items()
        if name.endswith(" CPU ms") and with_dead[name] > max(MOST * figure, figure + 1)
    ]
    print(f"over {MOST:g} times as long: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


def measured(live: int, dead: int) -> Figures:
    """In a process of its own."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="varve-churn-") as folder,
        get_context("spawn").Pool(1) as pool,
    ):
        write(folder, live, dead)
        print(f"{live + dead:,} series written: {time.perf_counter() - began:.0f} s", flush=True)
        return pool.apply(figures, (folder,))


def write(folder: str, live: int, dead: int) -> None:
    """The dead were registered first. The living have a sample in each of the last hours."""
    tables = WrittenTables(folder)
    store = tables.store
    schema = table_schema("series").arrow
    ids = []
    for first in range(0, dead + live, AT_ONCE):
        some = rows(first, min(AT_ONCE, dead + live - first))
        number = pa.array(np.arange(first, first + some.num_rows))
        for name in ("check", "first_seen", "last_seen"):
            column = number.cast(schema.field(name).type)
            some = some.append_column(schema.field(name), column)
        ids.append(some["series_id"].to_numpy())
        ordered = some.select(schema.names).sort_by("series_id")
        series = Table(store, "series")
        step = Step(series.position("registry"), first)
        commit(series, [write_file(store, "series", ordered)], transactions={"registry": step})
    living = np.sort(np.concatenate(ids)[dead:])
    samples = table_schema("samples").arrow
    table = Table(store, "samples")
    for number, at_ms in enumerate(range(END_MS - 2 * HOUR_MS, END_MS + 1, 20 * MINUTE_MS)):
        columns = [
            pa.array(living),
            pa.array(np.full(len(living), at_ms)),
            pa.array(np.arange(len(living), dtype=np.float64) * (number + 1)),
        ]
        file = write_file(store, "samples", pa.table(columns, schema=samples))
        steps = {
            "test:0": Step(table.position("test:0"), number),
            f"complete:{QUERY}": Step(table.position(f"complete:{QUERY}"), at_ms),
        }
        commit(table, [file], transactions=steps)
    tables.roll_up(TIERS[:3])


def figures(folder: str) -> Figures:
    """What it takes to open the tables, and what a dashboard asks of them."""
    warm_up()
    process = psutil.Process()
    before, budget = process.memory_info().rss, MemoryBudget(1 << 50)
    began = time.process_time()
    tables = Tables(WrittenTables(folder).store, [QUERY], 512 << 20, budget)
    while not tables.caught_up:
        tables.poll()
    found = {"opened, CPU s": time.process_time() - began}
    view = tables.view
    for name, work in asked(view).items():
        work()
        found[f"{name}, CPU ms"] = statistics.median(timed(work) for _ in range(RUNS)) * 1_000
    found["of the index, MiB"] = budget.used[INDEX] / 2**20
    found["resident, MiB"] = (process.memory_info().rss - before) / 2**20
    tables.close()
    return found


def asked(view: View) -> dict[str, Callable[[], object]]:
    """By name, what a dashboard asks."""

    def query(text: str, times: int | Range) -> Callable[[], object]:
        return lambda: result_json.to_json(evaluate(view, text, times, Options()).result)

    namespace = 'metric_7_total{namespace="ns-3"}'
    return {
        "a namespace of a metric now": query(namespace, END_MS),
        "sum by node of a metric now": query("sum by (node) (metric_7_total)", END_MS),
        "its rate over an hour": query("sum(rate(metric_7_total[40m]))", HOUR),
        "a regex over all pods": query('sum(metric_7_total{pod=~"pod-3.*7"})', END_MS),
        "names of its namespaces": lambda: Reader(view).label_values(
            "namespace", [METRIC], HOUR.start_ms, END_MS
        ),
        "its series": lambda: Reader(view).series([METRIC], HOUR.start_ms, END_MS),
    }


def timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
