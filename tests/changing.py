"""Everything that changes tables, each job in a process of its own, without stopping for who reads.

What is appended follows from a seed, and the position of the appender counts the rows: so it says
of any version which rows have come by then (tests/versions.py).
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from tests.tables import WrittenTables
from tests.year import retention, workers_of
from varve.ingest.retention_classes import RetentionClass
from varve.maintenance import expiry
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.expiry import Expiration, Retention
from varve.maintenance.series_trimming import Trimming
from varve.maintenance.tiering import Tiering
from varve.model.clock import ManualClock
from varve.model.errors import Conflict
from varve.model.identity import SeriesDefinition, define
from varve.model.series_matcher import SeriesMatcher
from varve.model.window import DAY_MS, HOUR_MS
from varve.rollups.task import run_task
from varve.storage.store import Store

Row = tuple[int, int, float]
"""series_id, ts, value."""

BEGIN = 1_798_761_600_000
"""2027-01-01 00:00 UTC."""
HOURS_A_TURN = 6
"""So that a day closes every few seconds: rows expire and files are laid out for good by days."""
LATEST_HOURS = 12
"""How late a sample comes at most."""
SHORT_HOURS = 2
"""How long a series of `short_total` lives."""
SHORT = SeriesMatcher.of({"__name__": "short_.*"})
KEPT = retention(3, 4, 5, 7, 10)
SHORT_KEPT = dict.fromkeys(KEPT.kept_ms, 2 * DAY_MS)
MOVED_AFTER = (12 * HOUR_MS, 36 * HOUR_MS)
"""To the warm and to the cold root."""
TURNS = {"delete": 5}
"""Of a job, how often others are done meanwhile: a deletion takes back a move that is under way."""
DELETED = (4, 30)
"""Hours ago of what is deleted: so lately that every window can be computed anew."""
JOBS = ("append", "roll up", "merge", "move", "expire", "delete")


@dataclass(frozen=True)
class Plan:
    """What is appended, hour by hour: it follows from the fields alone."""

    seed: int
    series: int
    each_ms: int

    def long(self) -> list[SeriesDefinition]:
        """Series that are there all the time."""
        return [define("long_total", {"i": str(i), "job": "ab"[i % 2]}) for i in range(self.series)]

    def short(self, hour: int) -> SeriesDefinition:
        """The series that begins in an hour."""
        return define("short_total", {"run": str(hour)})

    def due(self, hour: int) -> tuple[list[Row], list[tuple[int, Row]]]:
        """The samples of an hour: those that come in time, and those that come later, with the hour
        they come in. Of some that came in time a copy comes later.
        """
        rng = random.Random(f"{self.seed} {hour}")
        ids = [one.series_id for one in self.long()]
        ids += [self.short(hour - n).series_id for n in range(min(SHORT_HOURS, hour + 1))]
        soon, late = [], []
        for place, series_id in enumerate(ids):
            for ts in range(BEGIN + hour * HOUR_MS, BEGIN + (hour + 1) * HOUR_MS, self.each_ms):
                row = series_id, ts + 1 + 7 * (place % 100), value_of(series_id, ts)
                luck = rng.random()
                # A short series is not late: its neighbours are about to expire.
                if luck < 0.03 and place < self.series:
                    late.append((hour + rng.randint(1, LATEST_HOURS), row))
                    continue
                soon.append(row)
                if luck > 0.99 and place < self.series:
                    late.append((hour + 1, row))
        return soon, late

    def batches(self) -> Iterator[list[Row]]:
        """What is appended in each hour."""
        waiting: dict[int, list[Row]] = {}
        hour = 0
        while True:
            soon, late = self.due(hour)
            for when, row in late:
                waiting.setdefault(when, []).append(row)
            yield soon + waiting.pop(hour, [])
            hour += 1


def value_of(series_id: int, ts: int) -> float:
    """That of a counter that begins anew now and then. Sums of them are exact."""
    period = (5 + series_id % 7) * HOUR_MS
    return float((ts + series_id % 1_000_003) % period // 1_000)


class Changing:
    """Tables over three roots in a folder, with some days of history; between `start` and
    `stop` every job changes them, each in a process of its own, about every pace_s seconds.
    """

    def __init__(self, folder: Path, plan: Plan, hours: int = 108) -> None:
        self.folder, self.plan = folder, plan
        self.ids = [one.series_id for one in plan.long()]
        context = get_context("spawn")
        self.hours = context.Value("q", 0)
        """Hours appended so far: the time."""
        self.done = {job: context.Value("q", 0) for job in JOBS}
        """How often each job has changed anything."""
        self._stop = context.Event()
        self._context = context
        self._processes: dict[str, SpawnProcess] = {}
        self.jobs = Jobs(folder, plan, self.hours)
        self.jobs.begin(hours)
        self._appended = self.jobs.append()
        self._turn(JOBS[1:-1])

    def turn(self, number: int) -> None:
        """Some hours in this process, in which no other may change the tables: each job, one after
        the other.
        """
        next(self._appended)
        self._turn([job for job in JOBS[1:] if number % TURNS.get(job, 1) == 0])

    def _turn(self, jobs: Sequence[str]) -> None:
        for name in jobs:
            self.done[name].value += self.jobs.do(name)

    def start(self, pace_s: float = 1.0, jobs: Sequence[str] = JOBS) -> None:
        for name in jobs:
            given = self.folder, self.plan, self.hours, name, self.done[name], self._stop, pace_s
            process = self._context.Process(target=work, args=given, name=name, daemon=True)
            process.start()
            self._processes[name] = process

    def stop(self) -> None:
        """AssertionError if one of the processes has died."""
        dead = self.dead()
        self._stop.set()
        for process in self._processes.values():
            process.join(60)
        assert not dead, f"died: {', '.join(dead)}"

    @property
    def now_ms(self) -> int:
        return BEGIN + int(self.hours.value) * HOUR_MS

    def dead(self) -> list[str]:
        return [name for name, process in self._processes.items() if not process.is_alive()]


def store_of(folder: Path) -> Store:
    cold = Store(str(folder / "cold"))
    return Store(str(folder / "hot"), {}, Store(str(folder / "warm"), {}, cold))


class Jobs:
    """What changes the tables; each job once, as of the time that `hours` says."""

    def __init__(self, folder: Path, plan: Plan, hours: Any) -> None:
        self.plan, self.hours = plan, hours
        self.tables = WrittenTables(str(folder / "hot"))
        self.store = self.tables.store = store_of(folder)
        self.clock = ManualClock(BEGIN)
        self.rng = random.Random(plan.seed)
        classes = (RetentionClass("short", SHORT, SHORT_KEPT),)
        self.kept = Retention(KEPT.kept_ms, classes)
        self.workers = workers_of(self.store, self.clock)

    @property
    def now_ms(self) -> int:
        return BEGIN + int(self.hours.value) * HOUR_MS

    def begin(self, hours: int) -> None:
        """What has come before, in a commit a turn."""
        self.tables.define(self.plan.long())
        batches = self.plan.batches()
        for hour in range(0, hours, HOURS_A_TURN):
            self._append(hour, list(itertools.islice(batches, HOURS_A_TURN)))

    def append(self) -> Iterator[int]:
        """Some hours at each turn, each in a commit of its own, from the time it is."""
        since = int(self.hours.value)
        for hour, rows in enumerate(self.plan.batches()):
            if hour < since:
                continue
            self._append(hour, [rows])
            if not (hour + 1) % HOURS_A_TURN:
                yield HOURS_A_TURN

    def _append(self, hour: int, batches: Sequence[Sequence[Row]]) -> None:
        """So many hours in one commit, from one on, once the series that begin are defined."""
        end = hour + len(batches)
        self.tables.define(
            [self.plan.short(one) for one in range(hour, end)], BEGIN + hour * HOUR_MS
        )
        rows = [row for batch in batches for row in batch]
        self.tables.put(rows, complete_ms=BEGIN + end * HOUR_MS)
        self.hours.value = end

    def do(self, name: str) -> int:
        """One of JOBS but the first; how much it has changed."""
        changed: int = getattr(self, name.replace(" ", "_"))()
        return changed

    def roll_up(self) -> int:
        self.clock.at_ms, done = self.now_ms, 0
        for worker in self.workers:
            try:
                while (planned := worker.plan()) is not None:
                    files = [run_task(task) for task in planned.tasks]
                    worker.commit(planned, [file for file in files if file is not None])
                    done += 1
            except Conflict:
                worker.recover()
        return done

    def merge(self) -> int:
        return len(execute(Compaction(self.store), self.store, self.now_ms).planned.merges)

    def move(self) -> int:
        """Begins moves, and finishes those that were begun an hour ago."""
        job = Tiering(self.store, MOVED_AFTER)
        due = [move for table in job.tables for move in job.due(table, self.now_ms)]
        return sum(job.move(one).removed > 0 for one in due)

    def expire(self) -> int:
        job = Expiration(self.store, self.kept)
        report = execute(job, self.store, self.now_ms, only=list(KEPT.kept_ms))
        trimmed = execute(Trimming(self.store, 0.0), self.store, self.now_ms)
        return len(report.planned.expiries) + (not trimmed.planned.is_empty)

    def delete(self) -> int:
        """Some minutes of a series."""
        oldest, newest = (self.now_ms - hours * HOUR_MS for hours in reversed(DELETED))
        start = self.rng.randrange(max(BEGIN, oldest), newest)
        selector = f'long_total{{i="{self.rng.randrange(self.plan.series)}"}}'
        wanted = Wanted((selector,), start, start + self.rng.randrange(20 * 60_000), by="test")
        execute(Deletion(self.store, wanted), self.store, self.now_ms)
        return 1


def work(
    folder: Path, plan: Plan, hours: Any, name: str, done: Any, stop: Any, pace_s: float
) -> None:
    """The main of a process that does one of JOBS until `stop` is set."""
    jobs = Jobs(folder, plan, hours)
    expiry.LEAST_PATIENCE_MS = 1_000 * DAY_MS  # no repair is given up
    if name == "append":
        turn: Callable[[], int] = partial(next, jobs.append())
    else:
        turn = partial(jobs.do, name)
    while not stop.is_set():
        due = time.monotonic() + pace_s * TURNS.get(name, 1)
        with contextlib.suppress(Conflict):  # a rival was here: at the next turn it is planned anew
            done.value += turn()
        stop.wait(max(0.0, due - time.monotonic()))
