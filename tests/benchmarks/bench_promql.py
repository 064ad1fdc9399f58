"""Runs the shared benchmark's queries on its dataset from memory, beside the peers' figures.

    python tests/benchmarks/bench_promql.py --data DIR [--shared ../shared] [--runs 30]

DIR has the files that `python shared/bench/dataset.py --out DIR` writes. A query is timed from
its text to the bytes of the answer, on one thread: p50 and p99 of elapsed time, and the median
of CPU time, which a busy machine disturbs less, whole and in its two parts, evaluating and
encoding. The peers were measured over HTTP (shared/bench/PEERS.md); the fixed loop tells one
machine's speed from another's. All in ms.
"""

# ruff: noqa: T201 - what it prints is its output

import argparse
import json
import math
import re
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from varve.promql import encode
from varve.promql.engine import Engine
from varve.promql.kernels import warm_up
from varve.promql.labels import LabelTable
from varve.promql.memory import MemoryStorage
from varve.promql.parser import parse
from varve.promql.values import QueryResult

WARM_UPS = 5


def main() -> int:
    args = arguments()
    started = time.perf_counter()
    count = warm_up()
    print(f"{count} kernels ready in {time.perf_counter() - started:.2f} s")
    print(f"fixed loop {fixed_loop():.1f} ms (CPU)")
    storage, end_ms = load(args.data)
    engine = Engine(storage)
    peers = peer_figures(args.shared / "bench" / "PEERS.md")
    sizes = peer_sizes(args.shared / "bench" / "PEERS.md")
    queries = json.loads((args.shared / "bench" / "queries.json").read_text())
    print(
        f"{'query':20}{'p50':>9}{'p99':>9}{'CPU':>9}{'eval':>9}{'encode':>9}{'peer':>9}{'ratio':>7}"
    )
    ratios = []
    over, wrong = [], []
    for query in queries:
        size = answer_size(run(engine, storage, query, end_ms)[0])
        if size != sizes[query["name"]]:
            wrong.append(f"{query['name']}: {size} where the peers have {sizes[query['name']]}")
        figures = measure(lambda query=query: run(engine, storage, query, end_ms), args.runs)
        peer = peers[query["name"]]
        ratio = figures["cpu"] / peer
        ratios.append(ratio)
        if ratio > 1:
            over.append(query["name"])
        shown = "".join(f"{figures[key]:9.3f}" for key in ("p50", "p99", "cpu", "eval", "encode"))
        print(f"{query['name']:20}{shown}{peer:9.2f}{ratio:7.2f}")
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean of CPU time to the better peer's p50: {mean:.3f}")
    print(f"over the better peer: {', '.join(over) or 'none'}")
    print("answers of another size (series, points): " + ("; ".join(wrong) or "none"))
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--runs", type=int, default=30)
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


def run(engine: Engine, storage: MemoryStorage, query: dict, end_ms: int) -> tuple[bytes, float]:
    """The answer, and the CPU time at which its values were known."""
    start = end_ms - query["span"] * 1000
    if query["kind"] == "label_values":
        values = storage.label_values(query["expr"], [], start, end_ms)
        known = time.thread_time()
        return encode.envelope(json.dumps(values).encode()), known
    if query["kind"] == "series":
        table = storage.series([parse(query["expr"]).matchers], start, end_ms)
        known = time.thread_time()
        return encode.envelope(encode.label_sets(table)), known
    result: QueryResult
    if query["kind"] == "instant":
        result = engine.instant(query["expr"], end_ms)
    else:
        result = engine.range(query["expr"], start, end_ms, query["step"] * 1000)
    known = time.thread_time()
    return encode.to_json(result), known


def answer_size(answer: bytes) -> tuple[int, int]:
    """Series (or values) and points of an answer."""
    data = json.loads(answer)["data"]
    if isinstance(data, list):
        return len(data), 0
    rows = data["result"]
    return len(rows), sum(len(row.get("values", "1")) for row in rows)


def measure(call, runs: int) -> dict[str, float]:
    elapsed, cpu, evaluating, encoding = [], [], [], []
    for i in range(WARM_UPS + runs):
        wall, started = time.perf_counter(), time.thread_time()
        _, known = call()
        ended, wall_ended = time.thread_time(), time.perf_counter()
        if i >= WARM_UPS:
            elapsed.append((wall_ended - wall) * 1e3)
            cpu.append((ended - started) * 1e3)
            evaluating.append((known - started) * 1e3)
            encoding.append((ended - known) * 1e3)
    return {
        "p50": float(np.median(elapsed)),
        "p99": float(np.percentile(elapsed, 99)),
        "cpu": float(np.median(cpu)),
        "eval": float(np.median(evaluating)),
        "encode": float(np.median(encoding)),
    }


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
