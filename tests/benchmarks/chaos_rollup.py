"""Kills the rollups again and again on real Kafka and Spark, then recomputes every row.

    python tests/benchmarks/chaos_rollup.py [--kills 10] [--rate 2000] [--late 0.05] [--seed N]

Live samples flow at --rate a second, --late of them up to --late-days old. The process that
ingests and rolls up dies by SIGKILL --kills times: at each point around a commit in turn, and in
between at random moments with repairs pending. Then input ends, everything settles, and every row
of every tier is compared with the samples. Prints the seed, what repairs cost, and exits 1 if
anything differs.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.integration.rollup.deployment import Deployment
from tests.integration.rollup.driver import POINTS
from varve.client.messages import Sample
from varve.model.identity import define
from varve.model.window import DAY_MS, TIERS
from varve.rollups.completeness import CompletenessReader
from varve.services.broker import Broker

SERIES = 1_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rate", type=int, default=2_000, help="samples a second")
    parser.add_argument("--late", type=float, default=0.05, help="share that comes late")
    parser.add_argument("--late-days", type=float, default=10.0)
    parser.add_argument("--repair-every", default="15", help="rollup.repair_every_s")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="varve-chaos-") as folder:
        broker = Broker(Path(folder) / "kafka")
        broker.start()
        running = Deployment(
            broker.bootstrap_servers,
            Path(folder) / "home",
            deadline_s=1_200,
            ROLLUP__REPAIR_EVERY_S=args.repair_every,
        )
        try:
            return chaos(running, args, chance)
        finally:
            running.close()
            broker.stop()


def chaos(running: Deployment, args: argparse.Namespace, chance: random.Random) -> int:
    ended = threading.Event()
    flow = threading.Thread(target=produce, args=(running, args, args.seed, ended))
    flow.start()
    try:
        for kill, point in zip(range(args.kills), itertools.cycle([*POINTS, "none"]), strict=False):
            running.start(point, chance.randint(2, 6) if "both" not in point else 1)
            begun = time.monotonic()
            most = chance.uniform(60, 120)
            while not running.died() and time.monotonic() - begun < most:
                time.sleep(0.2)
            running.kill()
            waiting = sum(len(s.pending) for s in CompletenessReader(running.store).refresh())
            print(f"kill {kill + 1}: {point}, {waiting} ranges pending", flush=True)
        running.start()
    finally:
        ended.set()
        flow.join()
    end_ms = time.time_ns() // 1_000_000
    running.await_(lambda: running.complete(end_ms))
    report = running.verify(end_ms)
    cost(running)
    for tier in TIERS:
        wrong = sum(d.tier == tier.name for d in report.differences)
        print(f"tier {tier.name}: {report.rows[tier.name]} rows compared, {wrong} differences")
    return 1 if report.differences else 0


def produce(
    running: Deployment, args: argparse.Namespace, seed: int, ended: threading.Event
) -> None:
    chance = random.Random(seed)
    series = [define("m", {"lane": str(k)}, metric_type="gauge") for k in range(SERIES)]
    sent, begun = 0, time.monotonic()
    while not ended.wait(0.5):
        now_ms = time.time_ns() // 1_000_000
        due = int((time.monotonic() - begun) * args.rate) - sent
        batch = []
        for _ in range(due):
            late = chance.random() < args.late
            age = chance.randrange(int(args.late_days * DAY_MS)) if late else chance.randrange(500)
            batch.append(Sample(chance.choice(series), now_ms - age, chance.gauss(0, 1)))
        running.send(batch)
        sent += due
    print(f"{sent} samples sent", flush=True)


def cost(running: Deployment) -> None:
    for tier in TIERS:
        steps = [s for s in running.accounting() if s["tier"] == tier.name and s["repaired"]]
        windows = sum(s["repaired"] for s in steps)
        if windows:
            files = sum(s["files"] for s in steps)
            seconds = sum(s["seconds"] for s in steps)
            print(
                f"tier {tier.name}: {windows} windows repaired in {len(steps)} commits,"
                f" {files} files, {1000 * seconds / windows:.2f} ms each"
            )


if __name__ == "__main__":
    sys.exit(main())
