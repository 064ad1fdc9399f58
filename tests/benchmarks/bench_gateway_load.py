"""The gateway under load, a part at a time.

    python tests/benchmarks/bench_gateway_load.py PART [options]

series       a million series, all new at first; CPU to stored samples as in bench_gateway
latency      requests at --rate samples a second, each timed from when it was due
freshness    from sent to answered by a query, beside --rate samples a second
storm        bulk samples at 20 times --rate beside critical ones, and nothing acknowledged is lost
connections  idle connections, slow bodies and bombs, beside a sender that must be served

Requests are of remote write 1.0, 5,000 samples each. Ends with status 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import gateway_connections, gateway_freshness, gateway_storm
from tests.benchmarks.bench_ingest import Bench, say
from tests.benchmarks.made_requests import Rounds
from tests.benchmarks.running_gateway import RunningGateway
from varve.local.broker import Broker
from varve.storage.store import Store
from varve.storage.table import create_tables

_SERIES_M_PER_CPU_S = 0.7
_P99_MS = 100.0

Part = Callable[[Path, argparse.Namespace], bool]
"""Runs a part in a folder and prints what came of it. Returns whether its bounds were kept."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS, metavar="PART")
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=10, help="of series, beyond the first")
    parser.add_argument("--rate", type=float, help="samples a second")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--idle", type=int, default=10_000, help="connections")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-gateway-load-"))
    try:
        kept = PARTS[args.part](folder, args)
    finally:
        shutil.rmtree(folder)
    say(f"{args.part}: {'within its bounds' if kept else 'A BOUND IS MISSED'}")
    return 0 if kept else 1


def _with_broker(part: Callable[[Broker, Path, argparse.Namespace], bool]) -> Part:
    def run(folder: Path, args: argparse.Namespace) -> bool:
        broker = Broker(folder / "kafka", heap_mb=1024)
        broker.start()
        try:
            return part(broker, folder, args)
        finally:
            broker.stop()

    return run


def series(broker: Broker, folder: Path, args: argparse.Namespace) -> bool:
    """First sights and known series, from a request to the tables."""
    rounds = Rounds(args.series)
    bench = Bench(broker, folder, 10_000)
    store = Store(str(folder / "tables"))
    create_tables(store, ("samples", "series", "quarantine"))
    together_m = 0.0
    with RunningGateway(broker, folder, "load") as gateway:
        bench.topic = "load"
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
    bench.stop()
    return together_m >= _SERIES_M_PER_CPU_S


def latency(broker: Broker, folder: Path, args: argparse.Namespace) -> bool:
    """Requests of 10,000 series at half of what two cores take."""
    rate = args.rate or 500_000
    bodies = Rounds(min(args.series, 10_000)).bodies(int(args.seconds * rate))
    with RunningGateway(broker, folder, "load") as gateway:
        gateway.take(bodies[:20])
        begun = time.monotonic()
        took, wall_s, times = gateway.take(
            bodies, connections=32, every_s=args.seconds / len(bodies)
        )
    p50, p99, worst = (float(np.percentile(times, p)) * 1000 for p in (50, 99, 100))
    say(
        f"{rate:,.0f} samples/s for {time.monotonic() - begun:.0f} s: p50 {p50:.1f} ms, p99"
        f" {p99:.1f} ms, worst {worst:.0f} ms of {len(times):,} requests;"
        f" {took / wall_s:.2f} cores of the gateway"
    )
    return p99 < _P99_MS


PARTS: dict[str, Part] = {
    "series": _with_broker(series),
    "latency": _with_broker(latency),
    "freshness": gateway_freshness.run,
    "storm": _with_broker(gateway_storm.run),
    "connections": _with_broker(gateway_connections.run),
}


if __name__ == "__main__":
    sys.exit(main())
