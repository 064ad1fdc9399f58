"""Many clients of one query service, and of several over the same tables: who waits, and for what.

    python tests/benchmarks/bench_query_clients.py --data DIR [--clients 1,8,32] [--services 1,2]

DIR is that of bench_query.py, whose tables of a day are made unless they are there. Each client
asks the queries of the shared benchmark in an order of its own, over one connection, once it is
answered; no steps are kept. With several services each has all samples in memory, and clients are
spread evenly: that is the most which workers in processes of their own could give. For each number
of both: answers a second, p50 and p99 in ms, CPU ms an answer, cores that the services used. Where
the lock of the interpreter binds, one service stays at one core while requests wait.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from tests.benchmarks.bench_first_query import service
from tests.benchmarks.bench_query import await_head, elapsed_ms, write
from varve.storage.store import Store

SETTINGS = {"VARVE_QUERY__STEP_CACHE_MB": "0"}


def main() -> int:
    args = arguments()
    root = args.data / "query" / "1-days-480000"
    if not (root / "complete").exists():
        write(Store(str(root), {}), args.data, 1, 480_000)
        (root / "complete").touch()
    end_ms = int(pq.read_table(args.data / "samples.parquet")["ts"].to_numpy().max()) + 1
    asked = json.loads((args.shared / "bench" / "queries.json").read_text())
    queries = [query for query in asked if args.only in query["name"]]
    columns = f"{'a second':>10}{'p50 ms':>9}{'p99':>9}{'CPU ms':>8}{'cores':>7}"
    print(f"{'services':>8}{'clients':>9}{columns}")
    for count in args.services:
        with several(root, count) as services:
            for clients in args.clients:
                line = measured(services, clients, queries, end_ms, args.seconds)
                print(f"{count:8}{clients:9}{line}", flush=True)
    return 0


@contextmanager
def several(root: Path, count: int) -> Iterator[list[tuple[str, psutil.Process]]]:
    """So many services over the tables: addresses without a scheme, and their processes."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="varve-query-"))
            before = set(psutil.Process().children())
            url, _ready_s = stack.enter_context(service(Path(folder), root, SETTINGS))
            (process,) = set(psutil.Process().children()) - before
            address = url.removeprefix("http://")
            await_head(HTTPConnection(address, timeout=60))
            found.append((address, process))
        yield found


def measured(
    services: Sequence[tuple[str, psutil.Process]],
    clients: int,
    queries: Sequence[dict[str, Any]],
    end_ms: int,
    seconds: float,
) -> str:
    """What so many clients get from the services, as the rest of a line."""
    times: Queue[list[float]] = multiprocessing.Queue()
    asking = [
        multiprocessing.Process(
            target=ask,
            args=(services[i % len(services)][0], queries, end_ms, seconds, i, times),
            daemon=True,
        )
        for i in range(clients)
    ]
    cpu_s, started = _cpu_s(services), time.monotonic()
    for one in asking:
        one.start()
    took = sorted(ms for _ in asking for ms in times.get(timeout=60 + 10 * seconds))
    elapsed_s, cpu_s = time.monotonic() - started, _cpu_s(services) - cpu_s
    for one in asking:
        one.join()
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    return (
        f"{len(took) / elapsed_s:10.1f}{p50:9.1f}{p99:9.1f}{1e3 * cpu_s / len(took):8.1f}"
        f"{cpu_s / elapsed_s:7.2f}"
    )


def ask(
    address: str,
    queries: Sequence[dict[str, Any]],
    end_ms: int,
    seconds: float,
    seed: int,
    times: Queue[list[float]],
) -> None:
    """A client, in a process of its own: asks until its time is over."""
    connection, order = HTTPConnection(address, timeout=60), random.Random(seed)
    found, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        found += [
            elapsed_ms(connection, query, end_ms)
            for query in order.sample(queries, len(queries))
            if time.monotonic() < deadline
        ]
    times.put(found)


def _cpu_s(services: Sequence[tuple[str, psutil.Process]]) -> float:
    return sum(sum(process.cpu_times()[:2]) for _, process in services)


def arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(one) for one in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--clients", type=numbers, default=[1, 8, 32])
    parser.add_argument("--services", type=numbers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--only", default="", help="part of the names of the queries to ask")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
