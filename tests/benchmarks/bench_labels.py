"""The index of series: what a million take, what matchers cost, and what churn costs dashboards.

    python tests/benchmarks/bench_labels.py --series 1000000

Series are those of pods: each new one has labels of its own beside those that all have. With churn
the living are the newest of `--days` days.
"""

# ruff: noqa: T201 - what it prints is its output
from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pyarrow as pa

from varve.model.schema import table_schema
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.memory import INDEX, MemoryBudget
from varve.query.series_index import COLUMNS, Among, IndexBuilder, SeriesIndex

METRICS = 500
RUNS = 20
AT_ONCE = 250_000
MATCHERS = {
    "a metric": [Matcher("__name__", MatchOp.EQUAL, "metric_7_total")],
    "a metric and a namespace": [
        Matcher("__name__", MatchOp.EQUAL, "metric_7_total"),
        Matcher("namespace", MatchOp.EQUAL, "ns-3"),
    ],
    "one pod": [Matcher("pod", MatchOp.EQUAL, "pod-4711")],
    "a regex over a metric": [
        Matcher("__name__", MatchOp.EQUAL, "metric_7_total"),
        Matcher("namespace", MatchOp.REGEX, "ns-1.*"),
    ],
    "a regex over all pods": [Matcher("pod", MatchOp.REGEX, "pod-12[0-9]+")],
}


def rows(first: int, count: int) -> pa.Table:
    """Rows of the table series; pods have a hundred series each."""
    number = np.arange(first, first + count)
    pod = number // 100
    own = number % 20 == 0  # one in twenty has a label of its metric alone
    names = ["namespace", "pod", "node", "job", "instance", "zone"]
    values = [
        np.char.add("ns-", (pod % 40).astype(str)),
        np.char.add("pod-", pod.astype(str)),
        np.char.add("node-", (pod % 300).astype(str)),
        np.char.add("job-", (pod % 25).astype(str)),
        np.char.add("10.0.0.", (pod % 3_000).astype(str)),
        np.char.add("zone-", (pod % 3).astype(str)),
    ]
    keys = np.tile(np.array([*names, ""], dtype="U12"), (count, 1))
    keys[:, 6] = np.char.add("label_", (number % METRICS).astype(str))
    items = np.stack([*(v.astype("U16") for v in values), np.full(count, "x", "U16")], axis=1)
    kept = np.ones(keys.shape, bool)
    kept[:, 6] = own
    offsets = np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int32)
    tags = pa.MapArray.from_arrays(
        pa.array(offsets), pa.array(keys[kept].tolist()), pa.array(items[kept].tolist())
    )
    metric = [f"metric_{n}_total" for n in (number % METRICS).tolist()]
    ids = number * 0x9E3779B1 % (1 << 61) - (1 << 60)
    schema = pa.schema([table_schema("series").arrow.field(name) for name in COLUMNS])
    nothing = [pa.nulls(count, schema.field(n).type) for n in ("type", "unit", "help")]
    return pa.table([pa.array(ids), pa.array(metric), tags, *nothing], names=list(COLUMNS))


def built(count: int) -> tuple[IndexBuilder, SeriesIndex, MemoryBudget]:
    budget = MemoryBudget(1 << 50)
    builder = IndexBuilder(budget)
    for first in range(0, count, AT_ONCE):
        builder.add(rows(first, min(AT_ONCE, count - first)))
    return builder, builder.index(), budget


def told_of_churn(builder: IndexBuilder, count: int) -> None:
    """Says what a hundred new series cost the index, and what is asked for after them."""
    grown, of_metric, of_other = [], [], []
    for turn in range(RUNS):
        first = count + 100 * turn
        fresh = rows(first, 100)
        began = time.perf_counter()
        builder.add(fresh)
        index = builder.index()
        grown.append(time.perf_counter() - began)
        for times, name in ((of_metric, "a metric"), (of_other, "one pod")):
            began = time.perf_counter()
            index.find(MATCHERS[name])
            times.append(time.perf_counter() - began)
    shown = (statistics.median(times) * 1000 for times in (grown, of_metric, of_other))
    print("100 new series: {:.1f} ms; then a metric {:.2f} ms, one pod {:.2f} ms".format(*shown))


def milliseconds(work: Callable[[], object]) -> Iterator[float]:
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        yield (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30, help="of churn; a day's are alive")
    given = parser.parse_args()
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.perf_counter()
    builder, index, budget = built(given.series)
    took = time.perf_counter() - began
    living = np.zeros(index.size, dtype=np.bool_)
    living[-index.size // given.days :] = True
    among = Among(living, b"living")
    print(f"{index.size:,} series, {len(index.labels.columns)} labels: made in {took:.1f} s")
    print(
        f"{'matchers':<28}{'series':>10}{'first ms':>10}{'p50 ms':>9}{'of living':>10}{'p50 ms':>9}"
    )
    for name, matchers in MATCHERS.items():

        def find(among: Among | None = None, matchers: list[Matcher] = matchers) -> int:
            return len(index._rows(matchers, lambda: None, among))

        began = time.perf_counter()
        found = find()
        first = (time.perf_counter() - began) * 1000
        every = statistics.median(milliseconds(find))
        alive = statistics.median(
            milliseconds(lambda m=matchers: index._select(index._rows(m, lambda: None, among)))
        )
        print(f"{name:<28}{found:>10,}{first:>10.1f}{every:>9.2f}{find(among):>10,}{alive:>9.2f}")
    told_of_churn(builder, given.series)
    rss = (process.memory_info().rss - before) / 2**20
    print(f"resident {rss:,.0f} MiB, counted {budget.used[INDEX] / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
