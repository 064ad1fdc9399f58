"""Kills the rollups again and again on real Kafka and Spark, then recomputes every row.

    python tests/benchmarks/chaos_rollup.py [--kills 3] [--rate 2000] [--late 0.05] [--seed N]

Live samples flow at --rate a second, --late of them up to --late-days old. The process that ingests
and rolls up, Python and JVM alike, dies by SIGKILL

- --kills times at each point around the commits of a tier and of the table repairs: two points are
  in every gap between two commits, at its beginning and at its end,
- five times while repairs have been pending for 60 s, which the next one finds again,

then ingest stays dead while rollups alone go on by a clock that is ten minutes ahead: no frontier
may move, and what is pending is repaired though input idles. Then all runs on, input ends,
everything settles, and every row of every tier is compared with the samples. Prints the seed, what
repairs cost, and exits 1 if anything is not as it must be.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.rollup.deployment import Deployment
from tests.integration.rollup.driver import ALONE, POINTS
from varve.client.messages import Sample
from varve.local.broker import Broker
from varve.model.clock import SystemClock
from varve.model.identity import SeriesDefinition, define
from varve.model.window import DAY_MS, MINUTE_MS, TIERS, window_end
from varve.storage.table import Table

SERIES = 1_000
PENDING_MS = 60_000
KILLS_WHILE_PENDING = 5
DOWN_MS = 10 * MINUTE_MS
PROBE = define("probe", {}, metric_type="gauge")
# Longer than the whole run takes.
NEVER = {"ROLLUP__REPAIR_EVERY_S": "3600", "ROLLUP__REPAIR_KEYS": str(10**9)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3, help="at each point")
    parser.add_argument("--rate", type=int, default=2_000, help="samples a second")
    parser.add_argument("--late", type=float, default=0.05, help="share that comes late")
    parser.add_argument("--late-days", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="varve-chaos-") as folder:
        broker = Broker(Path(folder) / "kafka")
        broker.start()
        running = Deployment(
            broker.bootstrap_servers,
            Path(folder) / "home",
            deadline_s=600,
            ROLLUP__REPAIR_EVERY_S="2",
        )
        try:
            return Chaos(running, args).run()
        finally:
            running.close()
            broker.stop()


class Chaos:
    def __init__(self, running: Deployment, args: argparse.Namespace) -> None:
        self.running, self.args = running, args
        self.chance = random.Random(args.seed)
        self.begun = time.monotonic()
        self.sent = 0
        self.wrong: list[str] = []
        self._sending = threading.Lock()

    def run(self) -> int:
        ended = threading.Event()
        flow = threading.Thread(target=self.produce, args=(ended,), daemon=True)
        flow.start()
        # One sample of a window of its own in every tier; its second comes when input idles.
        probed_ms = SystemClock().now_ms() - 3 * DAY_MS
        self.send([Sample(PROBE, probed_ms, 1.0)])
        for number in range(self.args.kills):
            for point in POINTS:
                self.kill_at(point, number)
        self.kill_while_pending()
        self.ingest_is_dead(probed_ms)
        self.running.start()
        ended.set()
        flow.join()
        self.say("input has ended; all of it settles")
        end_ms = SystemClock().now_ms()
        self.running.await_(lambda: self.running.complete(end_ms))
        return self.verdict(end_ms)

    def kill_at(self, point: str, number: int) -> None:
        # There are fewer commits to repairs than to the tiers.
        times = 1 + self.chance.randrange(2 if "both" in point or "between" in point else 6)
        self.running.start(point, times)
        self.running.await_(self.running.died, dies=True)
        self.say(f"kill {number + 1}/{self.args.kills} {point} (passed {times} times)")

    def kill_while_pending(self) -> None:
        for number in range(KILLS_WHILE_PENDING):
            before = Table(self.running.store, "rollup_1m").version
            self.running.start(**NEVER)
            # It has come so far as to close, so it has derived what is pending.
            self.running.await_(
                lambda old=before: (
                    Table(self.running.store, "rollup_1m").version > old
                    and self.running.waits_ms() >= PENDING_MS
                )
            )
            time.sleep(self.chance.uniform(0, 2))
            self.running.kill()
            waited = self.running.waits_ms() / 1000
            self.say(f"kill {number + 1}/{KILLS_WHILE_PENDING}, repairs pending for {waited:.0f} s")

    def ingest_is_dead(self, probed_ms: int) -> None:
        late = Sample(PROBE, probed_ms + 1, 2.0)
        self.running.start(**NEVER)
        self.send([late])
        self.running.await_(lambda: len(self.probes()) == 2)
        self.running.kill()
        reach = self.running.reach()
        looks = self.running.looks()
        self.running.start(ALONE, DOWN_MS)
        self.running.await_(
            lambda: (
                self.running.looks() >= looks + 3
                and not any(state.pending for state in self.running.states())
            )
        )
        self.running.kill()
        self.must(
            "while ingest is dead for 10 min no frontier passes what it has stored",
            holds=self.frontiers() == reach,
        )
        for tier in TIERS:
            end = window_end(probed_ms, tier.width_ms)
            revisions = sorted(
                (row["revision"], row["count"])
                for row in self.running.rows(tier.table)
                if row["series_id"] == PROBE.series_id and row["window_end"] == end
            )
            self.must(
                f"the row of {tier.name} repaired while input idled wins",
                holds=revisions[-1][1] == 2 and revisions[0][1] == 1,
            )

    def probes(self) -> list[int]:
        return [
            row["ts"] for row in self.running.rows("samples") if row["series_id"] == PROBE.series_id
        ]

    def frontiers(self) -> list[int | None]:
        return [state.frontier_ms for state in self.running.states()]

    def produce(self, ended: threading.Event) -> None:
        chance = random.Random(self.args.seed)
        series = [define("m", {"lane": str(k)}, metric_type="gauge") for k in range(SERIES)]
        begun = time.monotonic()
        while not ended.wait(0.5):
            due = int((time.monotonic() - begun) * self.args.rate) - self.sent
            self.send([self.sample(series, chance) for _ in range(due)])
            self.sent += due

    def sample(self, series: list[SeriesDefinition], chance: random.Random) -> Sample:
        is_late = chance.random() < self.args.late
        age = chance.randrange(int(self.args.late_days * DAY_MS) if is_late else 500)
        return Sample(chance.choice(series), SystemClock().now_ms() - age, chance.gauss(0, 1))

    def send(self, samples: list[Sample]) -> None:
        with self._sending:
            self.running.send(samples)

    def verdict(self, end_ms: int) -> int:
        begun = time.monotonic()
        report = self.running.verify(end_ms)
        self.say(f"compared with {self.sent:,} samples in {time.monotonic() - begun:.0f} s")
        print("tier  rows compared  differences  repaired  commits  files  ms each")
        steps = self.running.accounting()
        for tier in TIERS:
            differing = sum(d.tier == tier.name for d in report.differences)
            repairs = [s for s in steps if s["tier"] == tier.name and s["repaired"]]
            windows = sum(s["repaired"] for s in repairs)
            files = sum(s["files"] for s in repairs)
            ms_each = 1000 * sum(s["seconds"] for s in repairs) / max(windows, 1)
            print(
                f"{tier.name:<4}  {report.rows[tier.name]:13,}  {differing:11,}  {windows:8,}"
                f"  {len(repairs):7}  {files:5}  {ms_each:7.2f}"
            )
        self.must("every row equals its recomputation", holds=not report.differences)
        self.must("no range is left out", holds=not any(report.left_out.values()))
        return 1 if self.wrong else 0

    def must(self, what: str, *, holds: bool) -> None:
        self.say(f"{'ok' if holds else 'WRONG'}: {what}")
        if not holds:
            self.wrong.append(what)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:6.0f} s  {self.sent:9,} sent  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
