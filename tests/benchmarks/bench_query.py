"""Times queries over tables on disk: the shared benchmark's, and 90 days of rollups.

    python tests/benchmarks/bench_query.py --data DIR [--shared ../shared] [--runs 5] [--days 90]

DIR has the files that `python shared/bench/dataset.py --out DIR` writes: 6 hours of samples of
10,000 series, which are stored here in files like those of ingest's batches, and fit in the head.
Before them lie rows of 1h and 1d for all series, made by the rollups' own kernels of four samples
an hour; of that time samples and finer rows have expired. Tables are written once, beneath
DIR/query.

A query is timed from its text to the bytes of its answer, in this process: elapsed ms and CPU
seconds of all threads, the first time and at the median after it; no steps are kept. With --refresh
the range queries over samples are asked again a step later each time, and steps are. With --http a
service of its own is asked over one connection, --runs times after two to warm up, and both are
printed: without kept steps, and of panels that are refreshed. The cache is what query.cache_mb is
by default, so that 90 days of hours never fit.
"""

# ruff: noqa: T201 - what it prints is its output

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.bench_first_query import service
from tests.tables import QUERY
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, HOUR_MS, TIERS, floor_to, window_end
from varve.promql import result_json
from varve.promql.evaluation.workers import Workers
from varve.promql.kernels import warm_up
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import MemoryBudget, Reservation
from varve.query.step_cache import StepCache
from varve.query.tables import Tables
from varve.rollups import algebra, kernel
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

CACHE_BYTES, MEMORY_BYTES = 512 << 20, 2_048 << 20
AIM_S = 5.0

LONG = (
    ("hours, avg of all", 'sum by (job)(avg_over_time({__name__!=""}[1h]))', HOUR_MS),
    ("hours, rate", "sum by (instance)(rate(node_cpu_seconds_total[1h]))", HOUR_MS),
    ("hours, gauges", 'sum by (job)({__name__!=""})', HOUR_MS),
    ("hours, week's max", "max by (job)(max_over_time(node_load1[7d]))", HOUR_MS),
    ("days, last of each", 'last_over_time({__name__!=""}[1d])', DAY_MS),
    ("days, rate", 'sum by (job)(rate({__name__=~".+_total"}[1d]))', DAY_MS),
    ("days, p95", "quantile_over_time(0.95, app_backend_latency_seconds[1d])", DAY_MS),
)
"""Over all days of rollups: name, expression, step."""


def main() -> int:
    args = arguments()
    print(f"{warm_up()} kernels ready")
    root = written(args.data, args.days, args.rows_a_file)
    store = Store(str(root), {})
    budget = MemoryBudget(MEMORY_BYTES)
    end_ms = int(pq.read_table(args.data / "samples.parquet")["ts"].to_numpy().max()) + 1
    queries = json.loads((args.shared / "bench" / "queries.json").read_text())
    if args.http:
        over_http(root, [q for q in queries if args.only in q["name"]], end_ms, args.runs)
        return 0
    started = time.perf_counter()
    tables = Tables(store, [QUERY], CACHE_BYTES, budget)
    while not tables.caught_up:
        tables.poll()
    print(f"open in {time.perf_counter() - started:.2f} s; in memory, MiB: {mib(budget)}")
    asked = [
        (q["name"], q["expr"], times_of(q, end_ms))
        for q in queries
        if q["kind"] in ("instant", "range")
    ]
    last = floor_to(end_ms - 6 * HOUR_MS, DAY_MS)
    for name, text, step in LONG:
        asked.append((name, text, Range(last - args.days * DAY_MS + step, last, step)))
    if args.refresh:
        refresh(tables, budget, queries, end_ms, args.runs)
        return 0
    heads = f"{'first ms':>10}{'CPU s':>8}{'median':>9}{'CPU s':>8}{'rows':>13}{'MiB':>7}"
    print(f"\n{'':24}{heads}  tiers")
    slow = []
    for name, text, times in (one for one in asked if args.only in one[0]):
        seconds = timed(tables, budget, name, text, times, args.runs)
        if any(name == long for long, *_ in LONG) and seconds > AIM_S:
            slow.append(name)
    print(f"over {AIM_S:g} s: {', '.join(slow) or 'none'}; in memory, MiB: {mib(budget)}")
    tables.close()
    return 1 if slow else 0


def shorter(query, steps: int):
    """The query over so many steps less, so that what is asked earlier has not expired."""
    return {**query, "span": query["span"] - steps * query["step"]}


def over_http(root: Path, queries, end_ms: int, runs: int) -> None:
    """Prints a line for each query: p50 and p99 in ms, and p50 of a refresh of a panel."""
    columns: dict[str, list[str]] = {query["name"]: [] for query in queries}
    for kept_mb in (0, 64):
        with (
            tempfile.TemporaryDirectory(prefix="varve-query-") as folder,
            service(Path(folder), root, {"VARVE_QUERY__STEP_CACHE_MB": str(kept_mb)}) as (url, _),
        ):
            connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
            await_head(connection)
            for query in queries:
                if kept_mb and query["kind"] != "range":
                    continue
                shift = 1000 if kept_mb else 0
                panel = shorter(query, runs + 2) if kept_mb else query
                times = [
                    elapsed_ms(connection, panel, end_ms - shift * run * query["step"])
                    for run in range(runs + 2, 0, -1)
                ][2:]
                shown = f"{median(times):9.2f}"
                if not kept_mb:
                    shown += f"{sorted(times)[len(times) * 99 // 100]:9.2f}"
                columns[query["name"]].append(shown)
    print(f"{'':24}{'p50 ms':>9}{'p99':>9}{'refresh':>9}")
    for name, shown in columns.items():
        print(f"{name:24}{''.join(shown)}")


def await_head(connection: HTTPConnection, token: str = "") -> None:
    """Waits until the head has what it has room for: until it does not grow for five seconds."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    held, since = "", time.monotonic()
    while time.monotonic() < since + 5:
        connection.request("GET", "/metrics", headers=headers)
        text = connection.getresponse().read().decode()
        now = next(line for line in text.splitlines() if 'memory_bytes{use="head"}' in line)
        if now != held:
            held, since = now, time.monotonic()
        time.sleep(0.2)


def elapsed_ms(connection: HTTPConnection, query, end_ms: int) -> float:
    """Of one request, from its first byte to the last of its answer."""
    end, begin = end_ms / 1000, end_ms / 1000 - query["span"]
    match query["kind"]:
        case "instant":
            path, asked = "query", {"query": query["expr"], "time": end}
        case "range":
            path, asked = "query_range", {"query": query["expr"], "step": query["step"]}
            asked |= {"start": begin, "end": end}
        case "series":
            path, asked = "series", {"match[]": query["expr"], "start": begin, "end": end}
        case _:
            path, asked = f"label/{query['expr']}/values", {"start": begin, "end": end}
    started = time.perf_counter()
    connection.request("GET", f"/api/v1/{path}?{urlencode(asked)}")
    response = connection.getresponse()
    body = response.read()
    took = (time.perf_counter() - started) * 1e3
    if response.status != 200:
        raise SystemExit(f"{query['name']}: {body.decode()}")
    return took


def refresh(tables, budget, queries, end_ms: int, runs: int) -> None:
    """Prints a line for each panel: how long it takes each time it is asked a step later."""
    options = Options(steps=StepCache(64 << 20, budget))
    print(f"{'':24}{'first ms':>10}{'median':>9}{'CPU ms':>9}{'kept':>7}")
    for query in (q for q in queries if q["kind"] == "range"):
        elapsed, cpu = [], []
        panel = shorter(query, runs)
        for left in range(runs, -1, -1):
            times = times_of(panel, end_ms - left * query["step"] * 1000)
            wall, used = time.perf_counter(), time.process_time()
            with Reservation(budget) as memory:
                asked = replace(options, memory=memory)
                answer = evaluate(tables.view, query["expr"], times, asked)
                result_json.to_json(answer.result)
            elapsed.append((time.perf_counter() - wall) * 1e3)
            cpu.append((time.process_time() - used) * 1e3)
        print(
            f"{query['name']:24}{elapsed[0]:10.1f}{median(elapsed[1:]):9.1f}{median(cpu[1:]):9.1f}"
            f"{answer.provenance.cached:7}",
            flush=True,
        )


def timed(tables, budget, name: str, text: str, times, runs: int) -> float:
    """Prints a line; returns the longest time, in seconds."""
    workers = Workers(2)
    elapsed, cpu = [], []
    for _ in range(runs + 1):
        wall, used = time.perf_counter(), time.process_time()
        with Reservation(budget) as memory:
            answer = evaluate(tables.view, text, times, Options(workers=workers, memory=memory))
            result_json.to_json(answer.result)
        elapsed.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
    said = answer.provenance.to_json()
    tiers = sorted({tier for use in said["selectors"] for tier in use["tiers"]})
    print(
        f"{name:24}{elapsed[0] * 1e3:10.1f}{cpu[0]:8.3f}{median(elapsed[1:]) * 1e3:9.1f}"
        f"{median(cpu[1:]):8.3f}{said['rows']:13,}{said['bytes'] >> 20:7,}  {', '.join(tiers)}",
        flush=True,
    )
    return max(elapsed)


def times_of(query, end_ms: int):
    if query["kind"] == "instant":
        return end_ms
    return Range(end_ms - query["span"] * 1000, end_ms, query["step"] * 1000)


def mib(budget: MemoryBudget) -> str:
    return ", ".join(f"{use} {held >> 20:,}" for use, held in budget.used.items())


def written(data: Path, days: int, rows_a_file: int) -> Path:
    """The root of the tables of so many days, which are written if no run has done so yet."""
    root = data / "query" / f"{days}-days-{rows_a_file}"
    if not (root / "complete").exists():
        _write(Store(str(root), {}), data, days, rows_a_file)
        (root / "complete").touch()
    return root


def _write(store: Store, data: Path, days: int, rows_a_file: int) -> None:
    """Writes the tables anew."""
    started = time.perf_counter()
    create_tables(store)
    series = pq.read_table(data / "series.parquet").to_pylist()
    rows = [
        {**row, "tags": dict(row["tags"]), "unit": "", "help": "", "first_seen": 0, "last_seen": 0}
        for row in sorted(series, key=lambda row: row["series_id"])
    ]
    made = pa.Table.from_pylist(rows, table_schema("series").arrow)
    put(store, "series", [made], {"registry": 0})
    samples = pq.read_table(data / "samples.parquet")
    samples = samples.take(pa.array(np.argsort(samples["ts"].to_numpy(), kind="stable")))
    order = [("series_id", "ascending"), ("ts", "ascending")]
    files = (
        samples.slice(begin, rows_a_file).sort_by(order).cast(table_schema("samples").arrow)
        for begin in range(0, len(samples), rows_a_file)
    )
    end_ms = int(samples["ts"].to_numpy().max()) + 1
    first_ms = floor_to(end_ms - 6 * HOUR_MS, HOUR_MS)
    last = floor_to(end_ms - 6 * HOUR_MS, DAY_MS)
    put(
        store,
        "samples",
        files,
        {positions.complete(QUERY): end_ms, positions.expired(): first_ms},
    )
    begin = last - days * DAY_MS
    # Of the hours there are all up to the samples; of the finer tiers nothing is left.
    hourly = [hours_of(series, day) for day in range(begin, window_end(first_ms, DAY_MS), DAY_MS)]
    put(store, "rollup_1h", (to_table(rows, first_ms) for rows in hourly), {
        positions.frontier("1h"): first_ms, positions.source("1h"): 0
    })  # fmt: skip
    daily = (kernel.merge(rows, np.arange(len(rows)), DAY_MS) for rows in hourly)
    put(store, "rollup_1d", (to_table(rows, last) for rows in daily), {
        positions.frontier("1d"): last, positions.source("1d"): 1
    })  # fmt: skip
    for tier in TIERS[:2]:
        put(store, tier.table, [], {positions.frontier(tier.name): begin,
                                    positions.source(tier.name): 1})  # fmt: skip
    print(f"tables of {days} days written in {time.perf_counter() - started:.0f} s")


def to_table(rows: algebra.Rows, until_ms: int) -> pa.Table:
    table = algebra.to_table(rows, 1)
    return table.filter(pa.array(rows.window_end <= until_ms))


def hours_of(series: list, day: int) -> algebra.Rows:
    """The hours of a day, of four samples each: counters grow, all else goes up and down."""
    ids = np.sort([row["series_id"] for row in series])
    is_counter = np.array(
        [row["type"] != "gauge" for row in sorted(series, key=lambda row: row["series_id"])]
    )
    every = HOUR_MS // 4
    ts = day + 1 + np.arange(0, DAY_MS, every)
    rng = np.random.default_rng(day % (1 << 32))
    noise = rng.random((len(ids), len(ts)))
    grown = (day / 1e6 + np.cumsum(noise, axis=1)) * is_counter[:, None]
    values = np.where(is_counter[:, None], grown, 50 + 10 * noise)
    return kernel.aggregate(
        np.repeat(ids, len(ts)), np.tile(ts, len(ids)), values.reshape(-1), HOUR_MS
    )


def put(store: Store, name: str, tables, steps: dict[str, int]) -> None:
    """One commit of a file for each table, with positions set."""
    files = [write_file(store, name, table) for table in tables if table.num_rows]
    table = Table(store, name)
    commit(table, files, transactions={k: Step(table.position(k), v) for k, v in steps.items()})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--http", action="store_true", help="ask a service over HTTP")
    parser.add_argument("--refresh", action="store_true", help="time panels that are refreshed")
    parser.add_argument("--rows-a-file", type=int, default=480_000, help="of samples")
    parser.add_argument("--only", default="", help="part of the names of the queries to run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
