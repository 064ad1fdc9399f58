"""A query service that is asked by hostile clients, beside one whose small queries must be served.

    python tests/benchmarks/soak_query.py [--minutes 10] [--series 200000] [--connections 10000]

The service has the settings it has by default, two tokens, and query.at_once_of_one = 1, so that
one of them never has all places. One token asks a small query 20 times a second; first alone, then
while clients with the other one send, for all of the time: matchers that nobody has sent before,
regular expressions over all values of a label, labels that were never seen, results of all series
over 11,000 steps, queries that end soon, and bodies of which a byte comes every 100 ms; and
connections lie idle. Prints what all were answered, the small queries' p50 and p99 in ms, and the
service's greatest resident memory. Exits 1 if the service has ended, has answered 500 or takes more
than 4 GiB, if a small query was refused, or if their p99 is more than twice what it is alone.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret
from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil
import pyarrow as pa

from tests.benchmarks.bench_first_query import service
from tests.benchmarks.bench_labels import METRICS, rows
from tests.benchmarks.bench_query import await_head, put
from tests.tables import QUERY
from varve.model.schema import table_schema
from varve.services.descriptors import use_all_descriptors
from varve.storage import positions
from varve.storage.store import Store
from varve.storage.table import create_tables

NOW_MS = 1_795_338_000_000
MOST_BYTES = 4 << 30
EVERY_S = 0.05
# Of the process that times small queries: the others take both cores, and it would be late itself.
_OF_THE_CLOCK = -10
SLOW_BODIES = 50
WITH_SAMPLES = 20_000
SAMPLES = 60
SMALL = {"query": 'sum(rate(metric_7_total{namespace="ns-5"}[5m]))', "time": f"{NOW_MS / 1000}"}
EVERYTHING = '{__name__!=""}'

Ask = Callable[[random.Random], tuple[str, dict[str, str]]]
Answers = Counter[tuple[str, int | str]]
"""How many by kind of request, and by status or error."""


def unique_matcher(r: random.Random) -> tuple[str, dict[str, str]]:
    return "query", {"query": f'metric_{r.randrange(METRICS)}_total{{pod="{r.getrandbits(64)}"}}'}


def regex(r: random.Random) -> tuple[str, dict[str, str]]:
    return "series", {"match[]": f'{{pod=~".*{r.getrandbits(32)}.*|pod-{r.randrange(99)}.+"}}'}


def unique_label(r: random.Random) -> tuple[str, dict[str, str]]:
    name = f"l{r.getrandbits(64):x}"
    text = f'count by ({name}) (label_replace({EVERYTHING}, "{name}", "$1", "pod", "(.*)"))'
    return "query", {"query": text}


def unknown_label(r: random.Random) -> tuple[str, dict[str, str]]:
    return "query", {"query": f'{{l{r.getrandbits(64):x}="x"}}'}


def huge_result(_: random.Random) -> tuple[str, dict[str, str]]:
    end = NOW_MS / 1000
    span = {"start": f"{end - 10_999 / 4:.3f}", "end": f"{end}", "step": "0.25"}
    return "query_range", {"query": EVERYTHING} | span


def given_up(r: random.Random) -> tuple[str, dict[str, str]]:
    text = f"quantile_over_time(0.{r.randrange(1, 9)}, {EVERYTHING}[1h])"
    return "query", {"query": text, "timeout": f"{r.random() / 2:.3f}"}


KINDS: tuple[Ask, ...] = (
    *(unique_matcher, regex, unique_label),
    *(unknown_label, huge_result, given_up),
)


class Load:
    """Clients that send until `stop` is set, and what they were answered by kind and status."""

    def __init__(self, url: str) -> None:
        self.address = url.removeprefix("http://")
        self.answers: Answers = Counter()
        self.stop = threading.Event()

    def send(self, ask: Ask, seed: int) -> None:
        r = random.Random(seed)
        connection = HTTPConnection(self.address, timeout=150)
        while not self.stop.is_set():
            path, given = ask(r)
            answered: int | str
            try:
                answered = posted(connection, path, {"time": f"{NOW_MS / 1000}"} | given, "hostile")
            except (OSError, HTTPException) as err:
                answered = type(err).__name__
                connection.close()
            self.answers[ask.__name__, answered] += 1

    def trickle(self) -> None:
        """Bodies that never come to their end."""
        head = "POST /api/v1/query HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer hostile\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9000000\r\n\r\n"
        host, _, port = self.address.partition(":")
        with contextlib.ExitStack() as stack:
            open_ones = []
            for _ in range(SLOW_BODIES):
                one = stack.enter_context(socket.create_connection((host, int(port)), 30))
                one.sendall(head.encode() + b"query=")
                open_ones.append(one)
            while not self.stop.wait(0.1):
                for one in open_ones:
                    with contextlib.suppress(OSError):
                        one.sendall(b"x")


def main() -> int:
    args = arguments()
    use_all_descriptors()
    settings = {
        "VARVE_QUERY__TOKENS__HOSTILE": "hostile",
        "VARVE_QUERY__TOKENS__GOOD": "good",
        "VARVE_QUERY__AT_ONCE_OF_ONE": "1",
        "VARVE_QUERY__MAX_CONNECTIONS": str(args.connections + 500),
    }
    with tempfile.TemporaryDirectory(prefix="varve-soak-query-") as folder:
        fill(Store(f"{folder}/tables"), args.series)
        before = {child.pid for child in psutil.Process().children()}
        with service(Path(folder), None, settings) as (url, ready_s):
            (pid,) = {child.pid for child in psutil.Process().children()} - before
            process = psutil.Process(pid)
            print(f"{args.series:,} series: ready in {ready_s:.1f} s", flush=True)
            await_head(HTTPConnection(url.removeprefix("http://"), timeout=60), "good")
            alone = small_ones(url, min(15.0, 20 * args.minutes), process)
            print(f"alone: {alone}", flush=True)
            with attacked(url, args.connections) as answers:
                beside = small_ones(url, 60 * args.minutes, process)
            print(f"beside: {beside}")
            for (kind, status), count in sorted(answers.items(), key=str):
                print(f"{count:9,} {kind}: {status}")
    broken = any(status in {500, "ConnectionRefusedError"} for _, status in answers)
    bad = broken or beside.refused or beside.peak_bytes > MOST_BYTES
    return int(bad or beside.p99_ms > 2 * alone.p99_ms)


class Small:
    """What the small queries were answered."""

    def __init__(self, took_ms: list[float], refused: int, peak_bytes: int) -> None:
        self.p50_ms, self.p99_ms = np.percentile(took_ms, [50, 99])
        self.count, self.refused, self.peak_bytes = len(took_ms), refused, peak_bytes

    def __str__(self) -> str:
        return (
            f"{self.count:,} small queries, {self.refused} refused, p50 {self.p50_ms:.1f} ms,"
            f" p99 {self.p99_ms:.1f} ms; resident {self.peak_bytes >> 20:,} MiB at most"
        )


def small_ones(url: str, seconds: float, process: psutil.Process) -> Small:
    """Sends one every EVERY_S; a late answer holds the next ones up, and counts for each."""
    with contextlib.suppress(OSError):  # needs privileges
        os.setpriority(os.PRIO_PROCESS, 0, _OF_THE_CLOCK)
    connection = HTTPConnection(url.removeprefix("http://"), timeout=150)
    took, refused, peak = [], 0, 0
    began = due = time.monotonic()
    while due < began + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        refused += posted(connection, "query", SMALL, "good") != 200
        took.append((time.monotonic() - due) * 1e3)
        peak = max(peak, process.memory_info().rss)
        due += EVERY_S
        if time.monotonic() > due + 1:  # what was due meanwhile has waited as well
            while due < time.monotonic():
                took.append((time.monotonic() - due) * 1e3)
                due += EVERY_S
    return Small(took, refused, peak)


@contextlib.contextmanager
def attacked(url: str, connections: int) -> Iterator[Answers]:
    """Clients that send from a process of their own, whose interpreter's lock is not that of who
    times small queries. What they were answered is there at the end.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    clients = context.Process(target=attack, args=(url, connections, there), daemon=True)
    clients.start()
    try:
        here.recv()  # all are connected
        answers: Answers = Counter()
        yield answers
        here.send("stop")
        answers.update(here.recv())
        clients.join()
    finally:
        clients.kill()


def attack(url: str, connections: int, told: Connection) -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    use_all_descriptors()
    load = Load(url)
    host, _, port = load.address.partition(":")
    threads = [threading.Thread(target=load.send, args=(k, i)) for i, k in enumerate(KINDS)]
    threads.append(threading.Thread(target=load.trickle))
    with contextlib.ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(socket.create_connection((host, int(port)), 30))
        for thread in threads:
            thread.start()
        told.send("begun")
        told.recv()
        load.stop.set()
        for thread in threads:
            thread.join()
        told.send(load.answers)


def posted(connection: HTTPConnection, path: str, given: dict[str, str], token: str) -> int:
    """The status of an answer, which is read to its end."""
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": f"Bearer {token}",
    }
    connection.request("POST", f"/api/v1/{path}", urlencode(given), headers)
    response = connection.getresponse()
    while response.read(1 << 20):
        pass
    return response.status


def fill(store: Store, count: int) -> None:
    """So many series of pods, the first of which have an hour of samples, one a minute."""
    create_tables(store)
    schema = table_schema("series").arrow
    made = rows(0, count)
    columns = [
        made.column(field.name)
        if field.name in made.column_names
        else pa.array(np.zeros(count, dtype=np.int64)).cast(field.type)
        for field in schema
    ]
    ids = made.column("series_id").to_numpy()
    order = pa.array(np.argsort(ids))
    put(store, "series", [pa.table(columns, schema=schema).take(order)], {"registry": 0})
    living = np.sort(ids[:WITH_SAMPLES])
    ts = NOW_MS - 60_000 * np.arange(SAMPLES)[::-1]
    samples = pa.table(
        [
            pa.array(np.repeat(living, SAMPLES)),
            pa.array(np.tile(ts, len(living))),
            pa.array(np.tile(np.arange(SAMPLES) * 7.5, len(living))),
        ],
        schema=table_schema("samples").arrow,
    )
    put(store, "samples", [samples], {positions.complete(QUERY): NOW_MS})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--series", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=10_000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
