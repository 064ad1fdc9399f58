"""The gateway with a million series, at half of its load, and with connections that send nothing.

    python tests/benchmarks/bench_gateway_load.py [--series 1000000] [--rounds 4] [--rate 500000]
        [--seconds 20] [--idle 10000]

Requests of remote write 1.0, 5,000 samples each, one a series and round. The first round, in which
all series are new to the gateway and to the tables, is told apart; the others go to Kafka and on
into the same tables, CPU as bench_gateway counts it. Then other rounds come at --rate samples a
second, each request timed from when it was due, without and with --idle connections that stay open.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_gateway import RequestsV1, RunningGateway, snappy
from tests.benchmarks.bench_ingest import Bench, say
from varve.local.broker import Broker
from varve.storage.store import Store
from varve.storage.table import create_tables

REQUEST = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--rate", type=float, default=500_000, help="samples a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--idle", type=int, default=10_000, help="connections")
    args = parser.parse_args()
    rounds = Rounds(args.series)
    folder = Path(tempfile.mkdtemp(prefix="bench-gateway-load-"))
    broker = Broker(folder / "kafka", heap_mb=1024)
    broker.start()
    try:
        bench = Bench(broker, folder, 10_000)
        with RunningGateway(broker, folder, "load") as gateway:
            bench.topic = "load"
            many_series(bench, gateway, rounds, args)
            bench.stop()
            steady(gateway, rounds, args)
    finally:
        broker.stop()
        shutil.rmtree(folder)


class Rounds:
    """Requests with a sample of each series, a second apart from one round to the next."""

    def __init__(self, series: int) -> None:
        self._writer = RequestsV1(_Labels())
        self._series = series
        self._ts = int(time.time() * 1000) - 600_000

    def next(self) -> list[bytes]:
        self._ts += 1_000
        found = []
        for first in range(0, self._series, REQUEST):
            ids = range(first, min(first + REQUEST, self._series))
            values = np.random.default_rng(first).normal(100, 10, len(ids))
            found.append(snappy(self._writer.write(ids, [self._ts] * len(ids), values)))
        return found


class _Labels(Mapping[int, Sequence[tuple[str, str]]]):
    """The labels of each series, made when they are asked for."""

    def __getitem__(self, n: int) -> Sequence[tuple[str, str]]:
        return [
            ("__name__", f"http_requests_total_{n % 500}"), ("code", "200"),
            ("handler", "/api/v1/query"), ("instance", f"host-{n // 500}:9100"),
            ("job", "node"), ("region", "eu-central-1"),
        ]  # fmt: skip

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def many_series(
    bench: Bench, gateway: RunningGateway, rounds: Rounds, args: argparse.Namespace
) -> None:
    store = Store(str(bench.folder / "tables"))
    create_tables(store, ("samples", "series", "quarantine"))
    for name, count in (("first sights", 1), ("known", args.rounds)):
        bodies = [body for _ in range(count) for body in rounds.next()]
        samples = args.series * count
        took, wall_s, _ = gateway.take(bodies)
        stored = bench.store_all(store, samples, name)
        ingest_s = stored["JVM CPU s"] + stored["Python CPU s"]
        each = samples / took, samples / ingest_s, samples / (took + ingest_s)
        gateway_m, ingest_m, together_m = (figure / 1e6 for figure in each)
        say(
            f"{name}: {args.series:,} series, {samples:,} samples: gateway"
            f" {gateway_m:.2f} M samples/CPU s at {samples / wall_s / 1e6:.2f} M/s, ingest"
            f" {ingest_m:.2f}, together {together_m:.2f};"
            f" gateway {gateway.memory() / 2**20:,.0f} MiB"
        )


def steady(gateway: RunningGateway, rounds: Rounds, args: argparse.Namespace) -> None:
    """Times of requests at a rate, alone and beside idle connections."""
    bodies: list[bytes] = []
    while len(bodies) < args.seconds * args.rate / REQUEST:
        bodies += rounds.next()
    bodies = bodies[: int(args.seconds * args.rate / REQUEST)]
    for idle in (0, args.idle):
        open_ones = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(idle)]
        took, wall_s, times = gateway.take(bodies, connections=32, every_s=REQUEST / args.rate)
        p50, p99, worst = (float(np.percentile(times, p)) * 1000 for p in (50, 99, 100))
        say(
            f"{args.rate:,.0f} samples/s beside {idle:,} idle connections: p50 {p50:.1f} ms, p99"
            f" {p99:.1f} ms, worst {worst:.0f} ms of {len(times):,} requests; {took / wall_s:.2f}"
            f" cores; gateway {gateway.memory() / 2**20:,.0f} MiB"
        )
        for one in open_ones:
            one.close()


if __name__ == "__main__":
    main()
