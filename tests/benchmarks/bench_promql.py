"""Runs the shared benchmark's queries on its dataset from memory, beside the peers' figures.

    python tests/benchmarks/bench_promql.py --data DIR [--shared ../shared] [--runs 30]

DIR has the files that `python shared/bench/dataset.py --out DIR` writes. A query is timed from
its text to the bytes of the answer, on one thread. Of elapsed time p50 and p99; of CPU time, which
a busy machine disturbs less, p50 and p99 of the whole and of its parts: kernels, all of the
evaluation, encoding. The peers were measured over HTTP (shared/bench/PEERS.md), and the ratio is
CPU time to the better one's p50. The fixed loop tells one machine's speed from another's. In ms.

Then the memory of each query: how much the resident set of a forked child grows at most while it
evaluates and encodes, caches warm, and that over the samples touched, each once for every window.
Then queries of two branches, on one thread and on two cores: elapsed time, and their ratio.

Exits 1 if an answer has another size than the peers', or a query of over 100,000 samples takes
more than --bytes a sample.
"""

# ruff: noqa: T201 - what it prints is its output

import argparse
import ctypes
import gc
import json
import math
import multiprocessing
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from varve.promql import result_json
from varve.promql.engine import Engine, Options
from varve.promql.evaluation.values import QueryResult
from varve.promql.evaluation.workers import Workers
from varve.promql.kernels import warm_up
from varve.promql.labels.label_table import LabelTable
from varve.promql.syntax.parser import parse
from varve.promql.testing import MemoryStorage

WARM_UPS = 5
MANY_SAMPLES = 100_000
PARTS = ("cpu", "kernel", "eval", "encode")

KERNELS = (
    ("varve.promql.evaluation.aggregation", "aggregate_matrix"),
    ("varve.promql.evaluation.aggregation", "aggregate_rows"),
    ("varve.promql.evaluation.aggregation", "quantile_matrix"),
    ("varve.promql.functions.histogram_quantiles", "bucket_quantiles"),
    ("varve.promql.evaluation.range_functions", "evaluate_rows"),
    ("varve.promql.evaluation.selection", "evaluate_rows"),
)
"""Where the evaluation calls its kernels."""

BRANCHED = {
    "two_rates": 'sum by (instance)(rate(node_cpu_seconds_total{mode=~"user|iowait|irq"}[5m]))'
    ' / sum by (instance)(rate(node_cpu_seconds_total{mode!~"user|iowait|irq"}[5m]))',
    "rate_and_p99": "sum(rate(node_cpu_seconds_total[5m])) / on () histogram_quantile(0.99,"
    " sum by (le)(rate(http_request_duration_seconds_bucket[5m])))",
    "three_ors": "avg by (instance)(node_hwmon_temp_celsius) or sum by (job)"
    " (rate(node_cpu_seconds_total[5m])) or sum by (le)"
    " (rate(http_request_duration_seconds_bucket[5m]))",
}
"""Queries with parts that do not depend on each other."""


def main() -> int:
    args = arguments()
    started = time.perf_counter()
    count = warm_up()
    print(f"{count} kernels ready in {time.perf_counter() - started:.2f} s")
    print(f"fixed loop {fixed_loop():.1f} ms (CPU)")
    storage, end_ms = load(args.data)
    engine = Engine(storage)
    queries = json.loads((args.shared / "bench" / "queries.json").read_text())
    wrong = speed(engine, storage, end_ms, queries, args)
    greedy = memory(engine, storage, end_ms, queries, args.bytes)
    branches(storage, end_ms, args.runs)
    return 1 if wrong or greedy else 0


def speed(engine, storage, end_ms, queries, args) -> list[str]:
    """Prints the table of times; returns which answers are of another size than the peers'."""
    peers = peer_figures(args.shared / "bench" / "PEERS.md")
    sizes = peer_sizes(args.shared / "bench" / "PEERS.md")
    heads = "".join(f"{name:>15}" for name in ("elapsed", *PARTS))
    print(f"\n{'p50 p99':20}{heads}{'peer':>9}{'ratio':>7}")
    ratios, over, wrong = [], [], []
    for query in queries:
        size = answer_size(run(engine, storage, query, end_ms)[0])
        if size != sizes[query["name"]]:
            wrong.append(f"{query['name']}: {size} where the peers have {sizes[query['name']]}")
        figures = measure(lambda query=query: run(engine, storage, query, end_ms), args.runs)
        peer = peers[query["name"]]
        ratio = figures["cpu"][0] / peer
        ratios.append(ratio)
        if ratio > 1:
            over.append(query["name"])
        shown = "".join(
            f"{figures[key][0]:8.3f}{figures[key][1]:7.2f}" for key in ("elapsed", *PARTS)
        )
        print(f"{query['name']:20}{shown}{peer:9.2f}{ratio:7.2f}", flush=True)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean of CPU time to the better peer's p50: {mean:.3f}")
    print(f"over the better peer: {', '.join(over) or 'none'}")
    print("answers of another size (series, points): " + ("; ".join(wrong) or "none"))
    return wrong


def memory(engine, storage, end_ms, queries, most: float) -> list[str]:
    """Prints peak memory; returns which queries of many samples take more a sample."""
    print(f"\n{'memory':20}{'samples':>12}{'peak KiB':>10}{'B/sample':>10}")
    greedy = []
    for query in queries:
        if query["kind"] not in ("instant", "range"):
            continue
        samples, peak = in_a_child(lambda query=query: run(engine, storage, query, end_ms))
        each = peak / max(1, samples)
        print(f"{query['name']:20}{samples:12,}{peak / 1024:10,.0f}{each:10.1f}", flush=True)
        if samples >= MANY_SAMPLES and each > most:
            greedy.append(query["name"])
    print(f"over {most:g} bytes a sample: {', '.join(greedy) or 'none'}")
    return greedy


def branches(storage, end_ms, runs: int) -> None:
    """Prints what branches on two cores gain."""
    engines = {"one": Engine(storage), "two": Engine(storage, Options(workers=Workers(2)))}
    print(f"\n{'branches, elapsed':20}{'one p50':>9}{'two p50':>9}{'one/two':>9}")
    for name, expression in BRANCHED.items():
        for span, step in ((3600, 15), (21600, 60)):
            query = {"kind": "range", "expr": expression, "span": span, "step": step}
            p50 = {
                cores: measure(lambda e=engine, q=query: run(e, storage, q, end_ms), runs)[
                    "elapsed"
                ][0]
                for cores, engine in engines.items()
            }
            ratio = p50["one"] / p50["two"]
            print(
                f"{name}_{span // 3600}h".ljust(20)
                + f"{p50['one']:9.2f}{p50['two']:9.2f}{ratio:9.2f}"
            )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--bytes", type=float, default=40.0, help="of memory a sample, at most")
    return parser.parse_args()


def fixed_loop() -> float:
    """Milliseconds of CPU that a fixed piece of work takes: the least of ten."""
    best = math.inf
    for _ in range(10):
        started = time.thread_time()
        total = 0
        for i in range(200_000):
            total += i * i % 7
        best = min(best, (time.thread_time() - started) * 1e3)
    return best


def load(folder: Path) -> tuple[MemoryStorage, int]:
    """The samples, and the end of the data, exclusive, in ms: queries end there."""
    started = time.perf_counter()
    series = pq.read_table(folder / "series.parquet").to_pylist()
    samples = pq.read_table(folder / "samples.parquet")
    ids = samples["series_id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    series.sort(key=lambda row: row["series_id"])
    indptr = np.searchsorted(ids, [row["series_id"] for row in series] + [2**63 - 1])
    labels = [{**dict(row["tags"]), "__name__": row["metric"]} for row in series]
    storage = MemoryStorage.from_columns(
        LabelTable.of(labels),
        indptr.astype(np.int64),
        samples["ts"].to_numpy()[order],
        samples["value"].to_numpy()[order],
    )
    print(
        f"{len(ids):,} samples of {len(series):,} series in {time.perf_counter() - started:.1f} s"
    )
    return storage, int(samples["ts"].to_numpy().max()) + 1


def run(
    engine: Engine, storage: MemoryStorage, query: dict, end_ms: int
) -> tuple[bytes, float, int]:
    """The answer, the CPU time at which its values were known, and how many samples it touched."""
    start = end_ms - query["span"] * 1000
    if query["kind"] == "label_values":
        values = storage.label_values(query["expr"], [], start, end_ms)
        known = time.thread_time()
        return json.dumps(values).encode(), known, 0
    if query["kind"] == "series":
        table = storage.series([parse(query["expr"]).matchers], start, end_ms)
        known = time.thread_time()
        return result_json.label_sets(table), known, 0
    result: QueryResult
    if query["kind"] == "instant":
        result = engine.instant(query["expr"], end_ms)
    else:
        result = engine.range(query["expr"], start, end_ms, query["step"] * 1000)
    known = time.thread_time()
    return result_json.to_json(result), known, result.stats.samples_touched


def answer_size(answer: bytes) -> tuple[int, int]:
    """Series (or values) and points of an answer."""
    data = json.loads(answer)
    if isinstance(data, list):
        return len(data), 0
    rows = data["result"]
    return len(rows), sum(len(row.get("values", "1")) for row in rows)


def measure(call, runs: int) -> dict[str, tuple[float, float]]:
    """p50 and p99 in ms of elapsed time, and of CPU time by part."""
    taken = {part: [] for part in ("elapsed", *PARTS)}
    with timed_kernels() as spent:
        for i in range(WARM_UPS + runs):
            spent[0] = 0.0
            wall, started = time.perf_counter(), time.thread_time()
            known = call()[1]
            ended, wall_ended = time.thread_time(), time.perf_counter()
            if i >= WARM_UPS:
                taken["elapsed"].append(wall_ended - wall)
                taken["cpu"].append(ended - started)
                taken["kernel"].append(spent[0])
                taken["eval"].append(known - started)
                taken["encode"].append(ended - known)
    return {
        part: (float(np.median(s)) * 1e3, float(np.percentile(s, 99)) * 1e3)
        for part, s in taken.items()
    }


@contextmanager
def timed_kernels() -> Iterator[list[float]]:
    """The CPU seconds that this thread's evaluation spends in kernels add up in the first place."""
    spent = [0.0]

    def timed(kernel):
        def call(*arguments):
            started = time.thread_time()
            result = kernel(*arguments)
            spent[0] += time.thread_time() - started
            return result

        return call

    before = {}
    for module, name in KERNELS:
        place = sys.modules[module]
        before[place, name] = getattr(place, name)
        setattr(place, name, timed(before[place, name]))
    try:
        yield spent
    finally:
        for (place, name), kernel in before.items():
            setattr(place, name, kernel)


def in_a_child(call) -> tuple[int, int]:
    """Samples touched, and by how many bytes the resident set of a forked child grows at most."""

    def child(sender) -> None:
        samples = call()[2]  # caches are filled once
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        call()
        sender.send((samples, resident("VmHWM") - before))

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=child, args=(sender,))
    process.start()
    sender.close()
    figures = receiver.recv()
    process.join()
    return figures


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) << 10


def peer_figures(path: Path) -> dict[str, float]:
    """The better peer's p50 of each query, in ms."""
    rows = re.findall(
        r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \| [\d.]+ \|", path.read_text(), re.MULTILINE
    )
    return {name: min(float(one), float(other)) for name, one, other in rows}


def peer_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Series and points of each answer, the same from both."""
    rows = re.findall(
        r"^\| (\w+) \|(?: [\d.]+ \|){4} (\d+), (\d+) \|", path.read_text(), re.MULTILINE
    )
    return {name: (int(series), int(points)) for name, series, points in rows}


if __name__ == "__main__":
    sys.exit(main())
