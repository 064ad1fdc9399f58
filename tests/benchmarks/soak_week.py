"""A week of Varve's storage in some minutes: real tables, files and drivers, a simulated clock.

    python tests/benchmarks/soak_week.py [--days 7] [--series 200] [--interval 15] [--home DIR]

Ingest, rollups, the hourly upkeep of ingest and the maintenance of `varve up` run one after the
other on real tables; the clock of the whole process, delta-rs included, steps from scrape to
scrape (tests/stepped_clock.c, which takes a C compiler). 2 % of the samples come late, by up to a
day. At the end of each day it prints what a home costs, and at the end it fails if something that
must stay flat has grown: what a commit and a start take, memory, open files, the logs, the files.
Every sample is accounted for, and every rollup row is recomputed. With a --home in memory it takes
half the time. With --idle there is a second query of samples that has nothing to read, and says how
far it is as often as ingest lets it.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

import psutil  # noqa: E402

from tests.line import Line  # noqa: E402
from tests.stepped_clock import CAN_BUILD, SteppedClock, step  # noqa: E402
from varve.ingest.active_series import census  # noqa: E402
from varve.ingest.batch import BatchCommitter  # noqa: E402
from varve.ingest.quarantine_expiry import expire_quarantine  # noqa: E402
from varve.ingest.start_offsets import Start  # noqa: E402
from varve.kafka.partitions import Partition  # noqa: E402
from varve.model.clock import SystemClock  # noqa: E402
from varve.model.schema import TABLES  # noqa: E402
from varve.model.window import DAY_MS, MINUTE_MS, Window  # noqa: E402
from varve.rollups.verify import verify  # noqa: E402
from varve.services.maintenance import Maintenance  # noqa: E402
from varve.services.retention import retention_reader  # noqa: E402
from varve.settings import Settings  # noqa: E402
from varve.storage.snapshot import snapshot  # noqa: E402
from varve.storage.store import Store  # noqa: E402
from varve.telemetry.metrics import MaintenanceMetrics  # noqa: E402
from varve.telemetry.registry import Telemetry  # noqa: E402

BEGIN_S = 1_795_392_000
CLOCK = "STEPPED_CLOCK"
IDLE = Partition("raw-metrics-critical", "5d0c8a52-6f0e-4a39-a2b5-0c9b7e1d4f66", 0)
NOTED_EVERY_S = 2
"""How often the idle query looks whether it is time to say how far it is."""


@dataclass(frozen=True)
class Day:
    """What a home costs at the end of a day. Times are CPU milliseconds."""

    day: int
    samples: int
    disk_mb: float
    """Of everything in the home."""
    live_mb: float
    """Of the files of the newest versions alone."""
    files: int
    """On disk, of all tables."""
    live_files: int
    log_files: int
    log_mb: float
    commits: int
    """Of that day, in all tables."""
    commit_ms: float
    """Median of a batch of ingest, files included."""
    start_ms: float
    """To open all tables anew, live files included."""
    rss_mb: float
    open_files: int


# Of the last day against the second: more than this is growth.
BOUNDS = {
    "files": 1.5,
    "log_files": 1.3,
    "log_mb": 1.5,
    "commits": 1.2,
    "commit_ms": 1.5,
    "start_ms": 1.7,
    "rss_mb": 1.3,
    "open_files": 1.3,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--interval", type=int, default=15, help="seconds from scrape to scrape")
    parser.add_argument("--home", type=Path, help="keep the tables here (default: a temporary one)")
    parser.add_argument("--idle", action="store_true", help="beside a query that has no input")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if CLOCK not in os.environ:
        return under_a_clock()
    with contextlib.ExitStack() as stack:
        home = args.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return Week(args, home).run()


def under_a_clock() -> int:
    """Starts this program again with a clock that can be stepped."""
    if not CAN_BUILD:
        print("The week needs a C compiler: apt-get install gcc libc6-dev", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | SteppedClock(Path(folder)).environment
        return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


class Week:
    def __init__(self, args: argparse.Namespace, home: Path) -> None:
        self.args, self.home, self.rng = args, home, random.Random(args.seed)
        self.clock_file, self.ahead_ns = Path(os.environ[CLOCK]), 0
        self.now_s = BEGIN_S
        self.set_clock()
        self.line = Line(str(home), self.now_s * 1000)
        self.maintenance = Maintenance(
            self.line.store,
            MaintenanceMetrics(Telemetry()),
            retention_reader(Settings()),
            clock=SystemClock(),
        )
        start = {IDLE: Start(None, 0)}
        self.idle = BatchCommitter(self.line.store, "critical", start) if args.idle else None
        self.counts = dict.fromkeys(("in", "stored", "merged", "rejected"), 0)
        self.commit_ms: list[float] = []
        self.seen: set[str] = set()
        self.versions = 0

    def set_clock(self) -> None:
        self.ahead_ns += self.now_s * 10**9 - time.time_ns()
        step(self.clock_file, self.ahead_ns)
        assert abs(time.time() - self.now_s) < 2, f"{time.time()} in place of {self.now_s}"

    def run(self) -> int:
        print("  ".join(f"{f.name:>10}" for f in fields(Day)))
        days = []
        for number in range(1, self.args.days + 1):
            self.live_through_a_day()
            days.append(self.measured(number))
            print(
                "  ".join(
                    f"{v:>10.1f}" if isinstance(v, float) else f"{v:>10,}"
                    for v in astuple(days[-1])
                ),
                flush=True,
            )
        return self.judged(days)

    def live_through_a_day(self) -> None:
        end = self.now_s + 86_400
        while self.now_s < end:
            self.pass_time()
            self.line.clock.advance(self.now_s * 1000 - self.line.clock.now_ms())
            self.scrape()
            if self.now_s % 60 == 0:
                self.line.roll_up(rest_ms=0)
                self.maintenance.look()
            if self.now_s % 3_600 == 0:
                self.line.registry.offer(census(self.line.store, DAY_MS))
                expire_quarantine(self.line.store, (self.now_s - 30 * 86_400) * 1000, 4 * 2**30)
            self.stamp()

    def pass_time(self) -> None:
        """Until the next scrape."""
        until_s = self.now_s + self.args.interval
        while self.idle is not None and self.now_s + NOTED_EVERY_S < until_s:
            self.now_s += NOTED_EVERY_S
            self.set_clock()
            self.idle.note(self.now_s * 1000, {IDLE: 0})
        self.now_s = until_s
        self.set_clock()

    def scrape(self) -> None:
        """One message of all series; now and then one of late samples."""
        at = self.now_s * 1000
        records = [
            f'{{"metric":"m{n % 20}","value":{self.rng.randint(0, 1000)},"timestamp":{at},'
            f'"tags":{{"host":"h{n // 20}"}}}}'
            for n in range(self.args.series)
        ]
        messages = [f"[{','.join(records)}]".encode()]
        if self.rng.random() < 0.3:
            late = self.rng.sample(records, max(1, self.args.series // 15))
            shift = at - self.rng.randint(60_000, DAY_MS)
            messages.append(f"[{','.join(late)}]".replace(str(at), str(shift)).encode())
        began = time.process_time()
        accounting = self.line.ingest(*messages)
        self.commit_ms.append((time.process_time() - began) * 1000)
        self.counts["in"] += accounting["in"]
        self.counts["stored"] += accounting["stored"]
        self.counts["merged"] += accounting["merged"]
        self.counts["rejected"] += sum(accounting["rejected"].values())

    def stamp(self) -> None:
        """Gives new files the simulated time: the kernel's clock is not ours."""
        for name in TABLES:
            for folder in (self.home / name, self.home / name / "_delta_log"):
                for file in os.scandir(folder):
                    if file.path not in self.seen and file.is_file():
                        with contextlib.suppress(FileNotFoundError):
                            os.utime(file.path, (self.now_s, self.now_s))
                        self.seen.add(file.path)

    def measured(self, number: int) -> Day:
        files = [p for p in self.home.rglob("*") if p.is_file()]
        logs = [p for p in files if p.parent.name == "_delta_log"]
        self.seen &= set(map(str, files))
        began = time.process_time()
        opened = [snapshot(Store(str(self.home)), name) for name in TABLES]
        start_ms = (time.process_time() - began) * 1000
        live = [file for table in opened for file in table.files]
        versions = sum(table.version for table in opened)
        process = psutil.Process()
        day = Day(
            day=number,
            samples=self.counts["stored"],
            disk_mb=sum(p.stat().st_size for p in files) / 1e6,
            live_mb=sum(file.size for file in live) / 1e6,
            files=len(files) - len(logs),
            live_files=len(live),
            log_files=len(logs),
            log_mb=sum(p.stat().st_size for p in logs) / 1e6,
            commits=versions - self.versions,
            commit_ms=statistics.median(self.commit_ms),
            start_ms=start_ms,
            rss_mb=process.memory_info().rss / 1e6,
            open_files=process.num_fds(),
        )
        self.commit_ms, self.versions = [], versions
        return day

    def judged(self, days: list[Day]) -> int:
        """Prints what is wrong; 1 if anything is."""
        wrong = []
        counts = self.counts
        if counts["in"] != counts["stored"] + counts["merged"] + counts["rejected"]:
            wrong.append(f"in = stored + merged + rejected does not hold: {counts}")
        report = verify(self.line.store, Window(0, self.now_s * 1000 + MINUTE_MS))
        print(f"recomputed {report.rows} rows: {len(report.differences)} differences")
        if report.differences:
            wrong.append(f"rollup rows differ: {report.differences[:3]}")
        if len(days) > 2:
            for name, bound in BOUNDS.items():
                first, last = getattr(days[1], name), getattr(days[-1], name)
                if last > first * bound:
                    wrong.append(f"{name} grew from {first:.1f} to {last:.1f} after day 2")
        for line in wrong:
            print(f"WRONG: {line}")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
