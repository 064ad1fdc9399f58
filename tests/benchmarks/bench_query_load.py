"""Queries over HTTP by many clients: percentiles of each, from memory and from files, of one query
service or several, and of a VictoriaMetrics beside them.

    python tests/benchmarks/bench_query_load.py --data DIR [--clients 1,8,32] [--seconds 20]
        [--only PART] [--cold] [--processes 2] [--ingest 100000] [--victoria PATH]

DIR is as for bench_query.py, whose tables of one day this uses, and writes if they are not there.
Clients are threads of one process that each ask on a connection of their own: all queries of
shared/bench in turn, each client from another one on, and note how long the answer took, from its
request to its last byte. No steps are kept. With --cold the service has memory for no sample, so
that all are read from files. With --processes there are so many services, each with the cores and
the memory that a share of the machine gives it, and clients ask them in turn. --victoria is the
program victoria-metrics: it is given the same samples, and keeps no answers. With --ingest all is
asked again while so many samples a second come, and 100 new series: to Varve through Kafka, by its
streams, to VictoriaMetrics by remote write; how soon a sample is answered is printed then, and the
program exits 1 if the slowest hundredth took over 5 s.

Printed are p50 and p99 in ms of each query, answers a second, and CPU seconds of the servers an
answer. Clients and servers share the machine.
"""

# ruff: noqa: T201 - what it prints is its output
from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from tests.benchmarks.bench_first_query import service
from tests.benchmarks.bench_query import await_head, elapsed_ms, written
from tests.benchmarks.beside_ingest import flowing, streams_over, writing

ROWS_A_FILE = 480_000
LOADING_S = 600.0
FRESH_S = 5.0
# What a number of clients takes at most beside its seconds: one round of all queries.
ROUND_S = 10.0


def main() -> int:
    args = arguments()
    root = written(args.data, 1, ROWS_A_FILE)
    ts = pq.read_table(args.data / "samples.parquet", columns=["ts"])["ts"].to_numpy()
    known = json.loads((args.shared / "bench" / "queries.json").read_text())
    queries = [query for query in known if args.only in query["name"]]
    end_ms = int(ts.max()) + 1
    with services(root, args) as (urls, processes):
        report("varve", urls, processes, queries, end_ms, args)
    is_late = args.ingest > 0 and late_beside_ingest(root, queries, end_ms, args)
    if args.victoria is not None:
        with victoria(args) as (url, process):
            report("VictoriaMetrics", [url], [process], queries, end_ms, args)
            if args.ingest:
                port = int(url.rpartition(":")[2])
                seconds = len(args.clients) * (args.seconds + ROUND_S)
                with writing(port, args.ingest, seconds):
                    name = f"VictoriaMetrics, beside {args.ingest:,} samples/s"
                    report(name, [url], [process], queries, end_ms, args)
    return int(is_late)


def late_beside_ingest(
    root: Path, queries: list[dict[str, Any]], end_ms: int, args: argparse.Namespace
) -> bool:
    """Reports while samples come; whether these are answered too late."""
    with (
        tempfile.TemporaryDirectory(prefix="varve-load-") as folder,
        streams_over(root, Path(folder)) as live,
        services(Path(live.store.root), args) as (urls, processes),
        flowing(live, args.ingest, urls[0]) as ended,
    ):
        name = f"varve, beside {args.ingest:,} samples/s"
        report(name, urls, processes, queries, end_ms, args)
        ages = ended()
    p50, p99, worst = np.percentile(ages, [50, 99, 100])
    print(
        f"produced to answered: p50 {p50:.2f} s, p99 {p99:.2f} s, worst {worst:.2f} s of"
        f" {len(ages):,} probes"
    )
    return bool(p99 > FRESH_S)


@contextmanager
def services(root: Path, args: argparse.Namespace) -> Iterator[tuple[list[str], list[int]]]:
    """Query services whose head has all it has room for; their addresses and process ids."""
    cores = max(1, len(os.sched_getaffinity(0)) // args.processes)
    settings = {
        "VARVE_QUERY__STEP_CACHE_MB": "0",
        "VARVE_QUERY__CORES": str(cores),
        "VARVE_QUERY__AT_ONCE": str(max(1, args.at_once // args.processes)),
        "VARVE_QUERY__CACHE_MB": "16" if args.cold else "512",
        "VARVE_QUERY__MEMORY_MB": "2048",
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="varve-load-")))
        before = {child.pid for child in psutil.Process().children()}
        urls = [
            stack.enter_context(service(folder, root, settings))[0] for _ in range(args.processes)
        ]
        started = {child.pid for child in psutil.Process().children()} - before
        for url in urls:
            await_head(HTTPConnection(url.removeprefix("http://"), timeout=60))
        yield urls, sorted(started)


def report(
    name: str,
    urls: list[str],
    processes: list[int],
    queries: list[dict[str, Any]],
    end_ms: int,
    args: argparse.Namespace,
) -> None:
    """Prints a table of all numbers of clients."""
    print(f"\n{name}: {len(urls)} process(es)" + (", cold" if args.cold else ""), flush=True)
    columns: dict[str, list[str]] = defaultdict(list)
    rates = []
    for clients in args.clients:
        before = cpu_s(processes)
        took, elapsed_s = asked(urls, queries, end_ms, clients, args.seconds)
        answers = sum(map(len, took.values()))
        used_s = cpu_s(processes) - before
        rates.append(
            f"{clients} clients: {answers / elapsed_s:.1f}/s, {used_s / answers:.4f} CPU s"
        )
        for query in queries:
            times = sorted(took[query["name"]])
            shown = (median(times), times[len(times) * 99 // 100]) if times else (0.0, 0.0)
            columns[query["name"]].append("{:9.1f}{:9.1f}".format(*shown))
    print(f"{'':22}" + "".join(f"{f'p50, {n}':>9}{'p99':>9}" for n in args.clients))
    for query_name, shown_columns in columns.items():
        print(f"{query_name:22}{''.join(shown_columns)}")
    print("; ".join(rates), flush=True)


def asked(
    urls: list[str], queries: list[dict[str, Any]], end_ms: int, clients: int, seconds: float
) -> tuple[dict[str, list[float]], float]:
    """What each query took, ms, after one round that does not count; and the seconds of all."""
    took: dict[str, list[float]] = defaultdict(list)
    lock, failures = threading.Lock(), list[BaseException]()
    ready = threading.Barrier(clients + 1)
    until = [0.0]

    def ask(number: int) -> None:
        connection = HTTPConnection(urls[number % len(urls)].removeprefix("http://"), timeout=300)
        try:
            if number < len(urls):  # each service has answered all once
                for query in queries:
                    elapsed_ms(connection, query, end_ms)
            ready.wait(300)
            turn = number * 5
            while time.monotonic() < until[0]:
                query = queries[turn % len(queries)]
                ms = elapsed_ms(connection, query, end_ms)
                with lock:
                    took[query["name"]].append(ms)
                turn += 1
        except (OSError, SystemExit, threading.BrokenBarrierError) as err:
            failures.append(err)
            ready.abort()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    until[0] = float("inf")
    ready.wait(300)
    began = time.monotonic()
    until[0] = began + seconds
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"a client failed: {failures[0]!r}")
    return took, time.monotonic() - began


def cpu_s(processes: list[int]) -> float:
    times = (psutil.Process(pid).cpu_times() for pid in processes)
    return sum(used.user + used.system for used in times)


@contextmanager
def victoria(args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """A VictoriaMetrics with the samples, which stay in DIR/victoria; address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = args.data / "victoria"
    command = [str(args.victoria), f"-storageDataPath={folder}", "-retentionPeriod=12"]
    command += [f"-httpListenAddr=127.0.0.1:{port}", "-search.latencyOffset=0s"]
    command += ["-search.disableCache", "-loggerLevel=ERROR"]
    process = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + LOADING_S
        while not is_ready_at(f"127.0.0.1:{port}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("VictoriaMetrics does not start")
            time.sleep(0.05)
        if not (folder / "complete").exists():
            load(f"127.0.0.1:{port}", args.data)
            (folder / "complete").touch()
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


def is_ready_at(address: str) -> bool:
    """Whether a VictoriaMetrics answers there."""
    try:
        connection = HTTPConnection(address, timeout=5)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


def load(address: str, data: Path) -> None:
    """Sends all samples as lines of JSON, a series each."""
    series = pq.read_table(data / "series.parquet").to_pylist()
    samples = pq.read_table(data / "samples.parquet")
    ids, ts, values = (samples[name].to_numpy() for name in ("series_id", "ts", "value"))
    order = np.lexsort((ts, ids))
    ids, ts, values = ids[order], ts[order], values[order]
    lines: list[bytes] = []
    for number, one in enumerate(series, 1):
        low, high = np.searchsorted(ids, [one["series_id"], one["series_id"] + 1])
        there = ~np.isnan(values[low:high])
        line = {
            "metric": {"__name__": one["metric"], **dict(one["tags"])},
            "timestamps": ts[low:high][there].tolist(),
            "values": values[low:high][there].tolist(),
        }
        lines.append(json.dumps(line).encode())
        if len(lines) == 200 or number == len(series):
            post(address, "/api/v1/import", b"\n".join(lines))
            lines = []
    post(address, "/internal/force_flush", b"")
    post(address, "/internal/force_merge", b"")


def post(address: str, path: str, body: bytes) -> None:
    connection = HTTPConnection(address, timeout=LOADING_S)
    connection.request("POST", path, body)
    response = connection.getresponse()
    text = response.read()
    if response.status >= 300:
        raise SystemExit(f"{path}: {response.status} {text[:200]!r}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument(
        "--clients", type=lambda t: [int(n) for n in t.split(",")], default="1,8,32"
    )
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients")
    parser.add_argument("--only", default="", help="part of the names of the queries to ask")
    parser.add_argument("--cold", action="store_true", help="with memory for no sample")
    parser.add_argument("--processes", type=int, default=1, help="query services")
    parser.add_argument("--at-once", type=int, default=4, help="query.at_once of all together")
    parser.add_argument("--ingest", type=int, default=0, help="samples a second that come as well")
    parser.add_argument("--victoria", type=Path, help="the program victoria-metrics")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
