"""From a sample sent to the gateway to the query that answers it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.benchmarks.bench_ingest import say
from tests.benchmarks.live import BULK, Live
from tests.benchmarks.made_requests import ManySeries, RequestsV1, Rounds, snappy
from tests.benchmarks.running_gateway import RunningGateway, sending, wait_until_ready
from varve.local.broker import free_port

_BOUND_S = 5.0
_RATE = 50_000.0
_REQUEST = 5_000
_WARM_S = 60.0
_PROBES_A_SECOND = 4
_DEADLINE_S = 120.0


def run(folder: Path, args: argparse.Namespace) -> bool:
    """Whether the slowest hundredth of probes was answered in time."""
    rate = args.rate or _RATE
    live = Live(folder)
    try:
        live.start()
        with (
            RunningGateway(live.broker, folder, BULK) as gateway,
            _query_service(live) as port,
        ):
            seconds = _WARM_S + args.seconds
            bodies = Rounds(10_000).bodies(int(seconds * rate))
            with sending(bodies, gateway.port, 1, 8, _REQUEST / rate) as answers:
                ages = _probed(gateway, port, seconds)
                statuses = {one.status for one in answers()}
    finally:
        live.close()
    p50, p99, worst = (float(np.percentile(ages, p)) for p in (50, 99, 100))
    say(
        f"beside {rate:,.0f} samples/s (answers {statuses}): sent to answered p50 {p50:.2f} s,"
        f" p99 {p99:.2f} s, worst {worst:.2f} s of {len(ages):,} probes"
    )
    return p99 <= _BOUND_S and statuses == {204}


def _probed(gateway: RunningGateway, query_port: int, seconds: float) -> list[float]:
    """Seconds from when each probe was sent until a query answered it or a later one, of those
    sent once all is warm. A probe is a sample whose value is its number.
    """
    writer = RequestsV1(ManySeries(probe="yes"))
    begun = time.monotonic()
    sent: dict[int, float] = {}
    ages: list[float] = []
    number = answered = 0
    while (now := time.monotonic()) < begun + seconds or answered < number:
        assert now < begun + seconds + _DEADLINE_S, f"{number - answered} probes are not answered"
        if begun + number / _PROBES_A_SECOND <= now < begun + seconds:
            number += 1
            ts = time.time_ns() // 1_000_000
            sent[number] = now
            gateway.take_one(snappy(writer.write([0], [ts], np.array([float(number)]))))
        newest = _newest(query_port)
        now = time.monotonic()
        seen = [sent[one] for one in range(answered + 1, newest + 1)]
        ages += [now - at for at in seen if at - begun >= _WARM_S]
        answered = max(answered, newest)
        time.sleep(0.02)
    return ages


def _newest(port: int) -> int:
    """The newest probe that a query answers; 0 if none is."""
    query = urllib.parse.urlencode({"query": 'http_requests_total_0{probe="yes"}'})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}") as answer:
        result = json.load(answer)["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


@contextmanager
def _query_service(live: Live) -> Iterator[int]:
    """The port of a query service over the tables."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "varve.cli", "serve", "query", "--home", str(live.home)],
        env=live.environment | {"VARVE_QUERY__PORT": str(port)},
    )
    try:
        wait_until_ready(port)
        yield port
    finally:
        process.terminate()
        process.wait(60)
