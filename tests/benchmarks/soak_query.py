"""A hostile mix before the query service: small queries are answered, and memory is bounded.

    python tests/benchmarks/soak_query.py [--minutes 10] [--series 200000] [--connections 5000]

A service of its own, at its default limits, holds many series of an hour. Small queries are timed
while nothing else is asked. Then, each class from a process of its own: matchers that nobody has
asked for before, regexes over all values, unknown label names, results of 11,000 steps, bodies that
come a byte at a time, connections that stay open, clients that leave in the middle. Small queries
go on being timed meanwhile. At last queries of each class are left at a random moment, and how long
the service works on is told.

Exits 1 if the service ended or answered 5xx that is none of 503, its resident set was over
--limit-mb, small queries took over twice as long as idle (p99), memory of queries was not given
back, or an abandoned query went on for more than --cancel-ms (p99).
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import resource
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from multiprocessing.queues import Queue
from pathlib import Path

import psutil

from tests.benchmarks.bench_first_query import service
from tests.tables import WrittenTables
from varve.model.identity import define

NOW_S = 1_795_338_000
STEP_S = 60
SMALL = 'hostile_total{pod="pod-7",n="1"}'
_PAUSE_S = 0.1
_HOST = b"Host: localhost\r\n"


def main() -> int:
    args = arguments()
    r = random.Random(args.seed)
    print(f"seed {args.seed}", flush=True)
    _raise_descriptors()
    with tempfile.TemporaryDirectory(prefix="varve-hostile-") as folder:
        started = time.monotonic()
        fill(WrittenTables(f"{folder}/tables"), args.series)
        print(f"{args.series:,} series written in {time.monotonic() - started:.0f} s", flush=True)
        settings = {"VARVE_QUERY__MAX_CONNECTIONS": str(args.max_connections)}
        with service(Path(folder), settings=settings) as (url, ready_s):
            print(f"ready in {ready_s:.1f} s", flush=True)
            return attacked(url, args, r)


def attacked(url: str, args: argparse.Namespace, r: random.Random) -> int:
    address = urllib.parse.urlsplit(url).netloc
    process = _listening(int(address.rpartition(":")[2]))
    wait_for_head(address)
    idle = small_ms(address, lambda: False, most=300)
    print(f"idle: small query p50 {_share(idle, 50):.1f} ms, p99 {_share(idle, 99):.1f} ms")
    counts: Queue[Counter[str]] = multiprocessing.Queue()
    attackers = [
        multiprocessing.Process(
            target=attack, args=(address, name, args, r.random(), counts), daemon=True
        )
        for name in CLASSES
    ]
    for one in attackers:
        one.start()
    peak = [0]
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(process, peak, over))
    watching.start()
    deadline = time.monotonic() + 60 * args.minutes
    busy = small_ms(address, lambda: time.monotonic() > deadline or not process.is_running())
    for one in attackers:
        one.join(60)
    statuses = sum((counts.get(timeout=60) for _ in attackers), Counter[str]())
    over.set()
    watching.join()
    print(f"busy: small query p50 {_share(busy, 50):.1f} ms, p99 {_share(busy, 99):.1f} ms")
    for name, count in sorted(statuses.items()):
        print(f"{count:>9,} {name}")
    left = cancelled_ms(address, args, r)
    failures = [
        f"resident set {peak[0] >> 20:,} MiB, over {args.limit_mb:,}"
        * (peak[0] >> 20 > args.limit_mb),
        "the service has ended" * (not process.is_running()),
        "small queries are over twice as slow" * (_share(busy, 99) > 2 * _share(idle, 99)),
        "an error of ours" * any(re.search(r" 5(?!03)\d\d$", name) for name in statuses),
        f"memory of queries is not given back: {held(address):,} bytes" * (held(address) > 0),
        "abandoned queries go on" * (_share(left, 99) > args.cancel_ms),
    ]
    print(f"resident set at most {peak[0] >> 20:,} MiB")
    print(f"abandoned: worked on for p50 {_share(left, 50):.0f} ms, p99 {_share(left, 99):.0f} ms")
    found = [failure for failure in failures if failure]
    print("; ".join(found) or "all bounds held")
    return 1 if found else 0


def fill(tables: WrittenTables, count: int) -> None:
    """Pods of twenty series each, a sample a minute for an hour."""
    series = [
        define("hostile_total", {"pod": f"pod-{i // 20}", "n": f"{i % 20}", "job": f"j{i % 7}"})
        for i in range(count)
    ]
    tables.define(series, NOW_S * 1000)
    for minute in range(60):
        ts = (NOW_S - STEP_S * (59 - minute)) * 1000
        tables.put(((one.series_id, ts, 60.0 * minute) for one in series), complete_ms=ts)


Request = tuple[str, dict[str, str]]


def unique_matchers(r: random.Random) -> Request:
    pod = r.randrange(10**9)
    return "query", {"query": f'sum(rate(hostile_total{{pod!="pod-{pod}",job="j{pod % 7}"}}[5m]))'}


def regexes(r: random.Random) -> Request:
    word = f"{r.randrange(10**6)}"
    pattern = r.choice((f".*{word}.*", f"(p|o|d|-|[0-9])*{word}?", f"(.*o){{9}}{word}|pod-.*9"))
    return "query", {"query": f'count(hostile_total{{pod=~"{pattern}"}})'}


def label_names(r: random.Random) -> Request:
    name = f"l{r.randrange(10**9)}"
    return r.choice(
        (
            ("query", {"query": f'count by ({name}) (hostile_total{{{name}=""}})'}),
            (f"label/{name}/values", {"match[]": "hostile_total"}),
        )
    )


def large_results(r: random.Random) -> Request:
    job = r.randrange(7)
    query = r.choice(
        (f'hostile_total{{job="j{job}"}}', f'hostile_total{{n="{job}"}} * {r.random()}')
    )
    span = {"start": f"{NOW_S - 11_000}", "end": f"{NOW_S}", "step": "1"}
    return "query_range", {"query": query, **span}


def dumps(r: random.Random) -> Request:
    """All label sets and all samples."""
    return r.choice(
        (("series", {"match[]": "hostile_total"}), ("query", {"query": "hostile_total[1h]"}))
    )


CLASSES: dict[str, Callable[[random.Random], Request] | None] = {
    "unique matchers": unique_matchers,
    "regexes": regexes,
    "label names": label_names,
    "large results": large_results,
    "dumps": dumps,
    "slow bodies": None,
    "open connections": None,
    "leavers": None,
}


def attack(
    address: str, name: str, args: argparse.Namespace, seed: float, counts: Queue[Counter[str]]
) -> None:
    """In a process of its own: requests of one class until the time is over; counts of statuses."""
    os.nice(5)
    r, found = random.Random(seed), Counter[str]()
    deadline = time.monotonic() + 60 * args.minutes
    make = CLASSES[name]
    held: list[socket.socket] = []
    while time.monotonic() < deadline:
        try:
            if make is not None:
                status = asked(address, make(r))[0]
            elif name == "leavers":
                status = left_in_the_middle(address, r)
            else:
                status = slowly(address, held, args.connections, is_body=name == "slow bodies")
            found[f"{name}: {status}"] += 1
        except (OSError, HTTPException) as err:
            found[f"{name}: {type(err).__name__}"] += 1
            time.sleep(_PAUSE_S)
    for one in held:
        one.close()
    counts.put(found)


def asked(address: str, request: Request, timeout_s: float = 150) -> tuple[int, bytes]:
    path, pairs = request
    connection = HTTPConnection(address, timeout=timeout_s)
    try:
        times = {} if "start" in pairs else {"time": f"{NOW_S}"} if path == "query" else {}
        text = urllib.parse.urlencode(pairs | times)
        connection.request("GET", f"/api/v1/{path}?{text}")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def head_of(request: Request) -> bytes:
    path, pairs = request
    pairs = pairs | ({"time": f"{NOW_S}"} if path == "query" else {})
    text = urllib.parse.urlencode(pairs)
    return f"GET /api/v1/{path}?{text} HTTP/1.1\r\n".encode() + _HOST + b"\r\n"


def left_in_the_middle(address: str, r: random.Random) -> str:
    host, _, port = address.rpartition(":")
    make = r.choice([one for one in CLASSES.values() if one is not None])
    with socket.create_connection((host, int(port)), timeout=30) as left:
        left.sendall(head_of(make(r)))
        time.sleep(r.random())
    return "left"


def slowly(address: str, held: list[socket.socket], most: int, *, is_body: bool) -> str:
    """Opens one more connection, and has the others send a byte each, or nothing."""
    host, _, port = address.rpartition(":")
    if len(held) < (most if not is_body else most // 10):
        one = socket.create_connection((host, int(port)), timeout=30)
        one.settimeout(5)
        held.append(one)
        if is_body:
            one.sendall(
                b"POST /api/v1/query HTTP/1.1\r\n" + _HOST + b"Content-Length: 9000000\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\nq"
            )
    elif is_body:
        for one in held[:]:
            try:
                one.sendall(b"q")
            except OSError:  # cut off, as it should be
                held.remove(one)
        time.sleep(1)
    else:
        time.sleep(_PAUSE_S)
    return "open"


def small_ms(address: str, is_over: Callable[[], bool], most: int = 10**9) -> list[float]:
    """How long each of some small queries takes, ms; one that fails counts as a minute."""
    took = []
    while len(took) < most and not is_over():
        started = time.perf_counter()
        try:
            status, _ = asked(address, ("query", {"query": SMALL}), 60)
        except (OSError, HTTPException):
            status = 0
        took.append((time.perf_counter() - started) * 1e3 if status == 200 else 60_000)
        time.sleep(0.02)
    return took


def cancelled_ms(address: str, args: argparse.Namespace, r: random.Random) -> list[float]:
    """How long the service works on queries of each class that are left at a random moment."""
    host, _, port = address.rpartition(":")
    took = []
    for make in (one for one in CLASSES.values() if one is not None):
        for _ in range(args.leave):
            request = make(r)
            with socket.create_connection((host, int(port)), timeout=30) as left:
                left.sendall(head_of(request))
                time.sleep(r.uniform(0.01, 0.5))
            started = time.monotonic()
            while under_way(address) and time.monotonic() < started + 60:
                time.sleep(0.01)
            took.append((time.monotonic() - started) * 1e3)
    return took


def under_way(address: str) -> bool:
    return b'"query":' in asked(address, ("status/active_queries", {}))[1]


def wait_for_head(address: str) -> None:
    """Until small queries are answered and the head does not grow any more."""
    before = -1.0
    while (now := _metric(address, 'varve_query_memory_bytes{use="head"}')) != before:
        before = now
        time.sleep(3)


def held(address: str) -> int:
    """Bytes that queries hold, when none is under way."""
    deadline = time.monotonic() + 10
    while (now := _metric(address, 'varve_query_memory_bytes{use="queries"}')) > 0:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return int(now)


def _metric(address: str, name: str) -> float:
    connection = HTTPConnection(address, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(next(line for line in text.splitlines() if line.startswith(name)).split()[-1])


def _listening(port: int) -> psutil.Process:
    """The process that has the port: our child, or a child of it."""
    for one in psutil.Process().children(recursive=True):
        if any(c.laddr.port == port for c in one.net_connections("tcp") if c.status == "LISTEN"):
            return one
    raise SystemExit("nobody listens")


def _watch(process: psutil.Process, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.2) and process.is_running():
        peak[0] = max(peak[0], process.memory_info().rss)


def _raise_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _share(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--series", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=5_000, help="of one client")
    parser.add_argument("--max-connections", type=int, default=2_048, help="of the service")
    parser.add_argument("--limit-mb", type=int, default=4_096, help="of its resident set")
    parser.add_argument("--cancel-ms", type=float, default=250)
    parser.add_argument("--leave", type=int, default=20, help="queries of each class to be left")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
