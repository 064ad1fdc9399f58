"""Ingest and rollups as `varve up` runs them, in one Spark JVM, under a steady flow from Kafka.

    python tests/benchmarks/bench_live.py --rate 20000 --late 0.05 --history 500 --minutes 4
    python tests/benchmarks/bench_live.py --rate 100000 --series 500000 --minutes 6

The flow comes from a process of its own (flow.py); --late of it is up to --late-days old and falls
into windows of --history series that have a sample a minute all along. A reader polls the log of
rollup_1m as the query service does, and notes when the rows of --probes series are there for each
window. Then the flow ends, everything settles and, with --late or --verify, every row of every tier
is compared with the samples.

Prints, of the time in between: how long after its end a 1m window is visible; seconds and CPU of
ingest and of each tier; what a repaired window costs; the share of time that repairs took. CPU of a
tier is that of its tasks. Fails if a row differs.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.flow import Series
from tests.integration.rollup.deployment import Deployment
from varve.local.broker import Broker
from varve.model.clock import SystemClock
from varve.model.window import MINUTE_MS, TIERS, Window, floor_to, window_end
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Follower, snapshot

POLL_S = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=20_000, help="samples a second, late ones too")
    parser.add_argument("--series", type=int, default=100_000, help="live ones")
    parser.add_argument("--late", type=float, default=0.0, help="share that comes late")
    parser.add_argument("--late-days", type=float, default=10.0)
    parser.add_argument("--history", type=int, default=0, help="series with a history")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--probes", type=int, default=200, help="series whose windows are timed")
    parser.add_argument("--repair-every", default="60", help="rollup.repair_every_s")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--scratch", type=Path, help="folder for broker and tables")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="varve-live-", dir=args.scratch) as folder:
        broker = Broker(Path(folder) / "kafka", heap_mb=1024)
        broker.start()
        running = Deployment(
            broker.bootstrap_servers,
            Path(folder) / "home",
            deadline_s=900,
            INGEST__TRIGGER_S="2",
            INGEST__COMPLETE_EVERY_S="2",
            ROLLUP__TRIGGER_S="5",
            ROLLUP__GRACE_S="10",
            ROLLUP__REPAIR_EVERY_S=args.repair_every,
        )
        live = Live(running, broker.bootstrap_servers, args)
        try:
            return live.run()
        finally:
            live.flow.kill()
            running.close()
            broker.stop()


class Live:
    def __init__(self, running: Deployment, brokers: str, args: argparse.Namespace) -> None:
        self.running, self.args = running, args
        self.begun = time.monotonic()
        self.flow = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("flow.py"))]
            + ["--brokers", brokers, "--topic", running.topic]
            + [
                f"--{name.replace('_', '-')}={getattr(args, name)}"
                for name in ("rate", "series", "late", "late_days", "history")
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self) -> int:
        self.expect("history")
        self.say("history is in Kafka")
        self.running.start()
        full_ms = int(self.expect("at").split()[1])
        self.say(f"all {self.args.series:,} series flow")
        # What has piled up while all this started is closed before the clock runs.
        self.running.await_(lambda: self.frontier() >= floor_to(full_ms, MINUTE_MS) + MINUTE_MS)
        reader = Reader(self.running, self.args)
        reader.start()
        begin = Mark(self.running)
        self.say("measuring")
        end_s = time.monotonic() + 60 * self.args.minutes
        while time.monotonic() < end_s:
            time.sleep(min(20, max(end_s - time.monotonic(), 0)))
            assert not self.running.died(), self.running.log.read_text()[-5000:]
            self.progress()
        end = Mark(self.running)
        reader.stop()
        self.flow.stdin.close()
        sent = self.expect("sent")
        self.report(begin, end, reader)
        if not (self.args.late or self.args.verify):
            return 0
        self.say(f"{sent}; all of it settles")
        until_ms = SystemClock().now_ms()
        self.running.await_(lambda: self.running.complete(until_ms))
        self.repairs(self.running.accounting())
        self.say("settled; every row is computed again")
        report = self.running.verify(until_ms)
        for tier in TIERS:
            wrong = sum(d.tier == tier.name for d in report.differences)
            self.say(f"{tier.name}: {report.rows[tier.name]:,} rows compared, {wrong} differences")
        self.say(f"{report.differences[:3]} {report.left_out}")
        return 1 if report.differences or any(report.left_out.values()) else 0

    def expect(self, word: str) -> str:
        line = self.flow.stdout.readline().strip()
        assert line.startswith(word), line
        return line

    def frontier(self) -> int:
        return Follower(self.running.store, "rollup_1m").position(positions.frontier("1m")) or 0

    def progress(self) -> None:
        behind = (SystemClock().now_ms() - self.frontier()) / 1000
        files = len(snapshot(self.running.store, "samples").files)
        self.say(f"the 1m frontier is {behind:.0f} s old, samples has {files} files")

    def report(self, begin: Mark, end: Mark, reader: Reader) -> None:
        wall = end.at_s - begin.at_s
        batches = self.running.batches()[begin.batches : end.batches]
        stored = sum(b["stored"] for b in batches)
        assert not any(b["rejected"] for b in batches), [b["rejected"] for b in batches][-1]
        seconds = sorted(b["seconds"] for b in batches if b["stored"])
        self.say(
            f"{stored / wall:,.0f} samples/s stored over {wall:.0f} s; CPU, of 2 cores:"
            f" {(end.jvm_s - begin.jvm_s) / wall:.2f} JVM,"
            f" {(end.python_s - begin.python_s) / wall:.2f} Python"
        )
        self.say(
            f"ingest batches: p50 {np.quantile(seconds, 0.5):.2f} s,"
            f" p99 {np.quantile(seconds, 0.99):.2f} s, max {seconds[-1]:.2f} s"
        )
        if reader.waits:
            late = np.array(reader.waits) / 1000
            p50, p99 = np.quantile(late, [0.5, 0.99])
            self.say(
                f"a 1m window is visible {p50:.1f} s (p50), {p99:.1f} s (p99), {late.max():.1f} s"
                f" (max) after its end: {reader.windows} windows x {self.args.probes} series,"
                f" {reader.missing} missing"
            )
        steps = self.running.accounting()[begin.steps : end.steps]
        repairs = sum(s["seconds"] for s in steps if s["repaired"])
        self.say(f"repairs took {repairs / wall:.1%} of the time, while samples flowed")
        print("tier  closes  rows/CPU s  seconds  longest")
        for tier in TIERS:
            closes = [s for s in steps if s["tier"] == tier.name and s["closed"]]
            if closes:
                cpu = sum(s["task_cpu_s"] for s in closes)
                seconds = [s["seconds"] for s in closes]
                rows = sum(s["rows"] for s in closes)
                print(
                    f"{tier.name:<4}  {len(closes):6}  {rows / max(cpu, 1e-9):10,.0f}"
                    f"  {sum(seconds):7.1f}  {max(seconds):7.2f}"
                )

    def repairs(self, steps: list[dict[str, Any]]) -> None:
        print("tier  windows repaired  commits  files  bytes  task CPU ms each  longest s")
        for tier in TIERS:
            mine = [s for s in steps if s["tier"] == tier.name and s["repaired"]]
            windows = sum(s["repaired"] for s in mine)
            if windows:
                cpu = sum(s["task_cpu_s"] for s in mine)
                print(
                    f"{tier.name:<4}  {windows:16,}  {len(mine):7}"
                    f"  {sum(s['files'] for s in mine):5}"
                    f"  {sum(s['written_bytes'] for s in mine):11,}"
                    f"  {1000 * cpu / windows:10.3f}  {max(s['seconds'] for s in mine):9.2f}"
                )

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:6.0f} s  {text}", flush=True)


class Mark:
    """A moment: CPU seconds used by then, lines of accounting there are."""

    def __init__(self, running: Deployment) -> None:
        parent = psutil.Process(running.process.pid)
        ours = [parent, *parent.children(recursive=True)]
        self.at_s = time.monotonic()
        self.jvm_s = sum(_cpu_s(p) for p in ours if _name(p) == "java")
        self.python_s = sum(_cpu_s(p) for p in ours if _name(p) != "java")
        self.steps, self.batches = len(running.accounting()), len(running.batches())


class Reader:
    """Polls the log of rollup_1m. waits: ms from the end of a window to when its row is read."""

    def __init__(self, running: Deployment, args: argparse.Namespace) -> None:
        self._follower = Follower(running.store, "rollup_1m")
        ids = Series("live", args.series).ids
        self._probes = np.sort(np.random.default_rng(2).choice(ids, args.probes, replace=False))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self.waits: list[int] = []
        self.windows = self.missing = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _poll(self) -> None:
        seen = self._follower.position(positions.frontier("1m")) or 0
        while not self._stopping.wait(POLL_S):
            snapshot = self._follower.refresh()
            frontier = self._follower.position(positions.frontier("1m")) or 0
            if frontier <= seen:
                continue
            for start in range(window_end(seen, MINUTE_MS), frontier, MINUTE_MS):
                window = Window(start, start + MINUTE_MS)
                rows = snapshot.scan(
                    Bounds(window.start_ms, window.end_ms, self._probes), ["series_id"]
                )
                found = len(rows.column("series_id").unique())
                self.windows += 1
                self.missing += len(self._probes) - found
                self.waits += [SystemClock().now_ms() - window.end_ms] * found
            seen = frontier


def _cpu_s(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


if __name__ == "__main__":
    sys.exit(main())
