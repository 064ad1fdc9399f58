"""How long the first query after a start of the query service takes, and a small one later on.

    python tests/benchmarks/bench_first_query.py [--series 2000] [--hours 6] [--bound 300]

Writes tables, then starts `varve serve query` anew for each query, waits until it says that it is
ready, and asks: the first answer over HTTP, the second one to the same question, and for
comparison how long the start took. Then curl asks for a small answer 300 times on one connection.
Exits 1 if a first answer takes --bound ms or more, or the median small one --small-bound ms.
Compiled kernels must be on disk, as set-up leaves them.
"""

# ruff: noqa: T201 - what it prints is its output

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.tables import WrittenTables
from varve.model.identity import define

NOW_MS = 1_795_338_000_000
STEP_S = 60
BUCKETS = ("0.1", "1", "10", "+Inf")
DEADLINE_S = 60.0

QUERIES = (
    "requests_total",
    "sum by (job) (rate(requests_total[5m]))",
    "histogram_quantile(0.99, sum by (le) (rate(duration_seconds_bucket[5m])))",
    "topk(5, quantile_over_time(0.9, requests_total[1h]))",
    'label_replace(requests_total, "x", "$1", "instance", "h(.*)") > 1',
    "sum(rate(requests_total[5m])) / ignoring (le) sum(rate(duration_seconds_bucket[5m]))",
    "max_over_time(rate(requests_total[5m])[1h:5m])",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--hours", type=float, default=6)
    parser.add_argument("--bound", type=float, default=300, help="ms")
    parser.add_argument("--small-bound", type=float, default=3, help="ms")
    args = parser.parse_args()
    slow = []
    with tempfile.TemporaryDirectory(prefix="varve-first-") as folder:
        fill(WrittenTables(f"{folder}/tables"), args.series, args.hours)
        print(f"{'ready s':>8}{'first ms':>10}{'second ms':>11}  query")
        for query in QUERIES:
            with service(Path(folder)) as (url, ready_s):
                first, second = (answered(url, query, args.hours) for _ in range(2))
            print(f"{ready_s:8.2f}{first:10.1f}{second:11.1f}  {query}", flush=True)
            if first >= args.bound:
                slow.append(query)
        with service(Path(folder)) as (url, _):
            small = sorted(small_answers_ms(url))
    middle, late = small[len(small) // 2], small[len(small) * 99 // 100]
    print(f"small answers to curl, kept alive: median {middle:.2f} ms, 99 % in {late:.2f} ms")
    print(f"first answers of {args.bound:.0f} ms or more: {'; '.join(slow) or 'none'}")
    return 1 if slow or middle >= args.small_bound else 0


def fill(tables: WrittenTables, series: int, hours: float) -> None:
    """Counters, and histograms of four buckets, a sample a minute."""
    counters = [
        define("requests_total", {"job": f"j{i % 7}", "instance": f"h{i}"}, metric_type="counter")
        for i in range(series // 2)
    ]
    buckets = [
        define("duration_seconds_bucket", {"instance": f"h{i // 4}", "le": BUCKETS[i % 4]})
        for i in range(series // 2)
    ]
    tables.define([*counters, *buckets], NOW_MS)
    begin = NOW_MS - int(hours * 3_600_000)
    tables.put(
        (
            (one.series_id, ts, (ts - begin) / 1000 * (1 + i % 5))
            for i, one in enumerate([*counters, *buckets])
            for ts in range(begin, NOW_MS + 1, STEP_S * 1000)
        ),
        complete_ms=NOW_MS,
    )


@contextmanager
def service(
    folder: Path,
    tables: Path | None = None,
    settings: Mapping[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
) -> Iterator[tuple[str, float]]:
    """A query service over the tables, by default those in the folder, and the seconds until it was
    ready. settings: by the names of their variables. SystemExit if it is not in deadline_s.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = folder / f"home-{port}"
    environment = os.environ | {
        "VARVE_HOME": str(home),
        "VARVE_STORAGE__ROOT": str(tables or folder / "tables"),
        "VARVE_QUERY__PORT": str(port),
        "VARVE_TELEMETRY__PORT": "0",
        **(settings or {}),
    }
    started = time.perf_counter()
    command = [sys.executable, "-m", "varve.cli", "serve", "query"]
    process = subprocess.Popen(command, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_ready(url):
            if process.poll() is not None or time.perf_counter() - started > deadline_s:
                raise SystemExit(f"the query service is not ready: status {process.poll()}")
            time.sleep(0.005)
        yield url, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def answered(url: str, query: str, hours: float) -> float:
    """Milliseconds of a range query over all of the data."""
    end = NOW_MS // 1000
    asked = {"query": query, "start": end - hours * 3600, "end": end, "step": STEP_S}
    started = time.perf_counter()
    address = f"{url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(address, timeout=DEADLINE_S) as response:
        body = response.read()
    took = (time.perf_counter() - started) * 1e3
    answer = json.loads(body)
    if answer["status"] != "success" or not answer["data"]["result"]:
        raise SystemExit(f"{query} has no result: {body[:500]!r}")
    return took


def small_answers_ms(url: str, count: int = 300) -> list[float]:
    """Milliseconds that curl, which is no Python, waits for each of many answers of one series."""
    asked = urllib.parse.urlencode(
        {"query": 'requests_total{instance="h1"}', "time": NOW_MS // 1000}
    )
    addresses = [f"{url}/api/v1/query?{asked}"] * (count + 1)
    command = ["curl", "-sS", "--fail", "-w", "%{time_total}\n"]
    command += [word for address in addresses for word in ("-o", "/dev/null", address)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    # The first one opens the connection.
    return [float(line) * 1e3 for line in ran.stdout.splitlines()[1:]]


if __name__ == "__main__":
    sys.exit(main())
