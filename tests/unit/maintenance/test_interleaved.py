"""Drivers, compaction, expiry and deletions in any order, each between the plan and the commit of
another: whatever the order, the tables end as the oracle has them.
"""

from __future__ import annotations

import contextlib
import random

import pytest

from tests.unit.maintenance.dying import Killed, dying
from tests.unit.maintenance.test_deletion import FOREVER, SELECTS, delete, forget
from tests.year import BEGIN, SERIES, Year, retention
from varve.maintenance import deletion, expiry
from varve.maintenance.compaction import TABLES, due_merges, merge_files
from varve.maintenance.deletion import Wanted
from varve.model.errors import Conflict
from varve.model.window import DAY_MS, HOUR_MS
from varve.rollups.task import run_task
from varve.storage.snapshot import snapshot

# What is kept of the class is less than a day, so that it expires while a driver is at work.
SHORT = retention(2, 3.5, 5, 6.5, 7, debug=(0.5, 1.5, 2.5))


class Interleaved:
    """Steps of all that change the tables; what a driver has computed waits for its commit."""

    def __init__(self, year: Year, rng: random.Random, *, deletes: bool) -> None:
        self.year, self.rng = year, rng
        self.waiting = {}
        self.conflicts = 0
        steps = [self.put, self.compute, self.compute, self.commit, self.compact]
        self.steps = [*steps, self.delete if deletes else self.year.expire]

    def run(self, count: int) -> None:
        for _ in range(count):
            self.rng.choice(self.steps)()
        for worker in self.year.workers:
            worker.recover()
        self.year.roll_up()
        self.year.expire()

    def put(self) -> None:
        """Two hours go by, and a few samples come late."""
        begin = self.year.clock.now_ms()
        self.year.clock.advance(2 * HOUR_MS)
        new = {
            (s.series_id, ts): self.year.value()
            for s in SERIES
            for ts in range(begin + HOUR_MS // 2, begin + 2 * HOUR_MS + 1, HOUR_MS // 2)
        }
        for _ in range(self.rng.randrange(4)):
            series = self.rng.choice(SERIES)
            oldest = max(self.year.oldest_allowed(series), BEGIN + 1)
            key = series.series_id, self.rng.randint(oldest, begin + HOUR_MS)
            if key not in self.year.samples:
                new[key] = self.year.value()
        self.year.put(new)

    def compute(self) -> None:
        """A driver plans and computes, and commits some other time."""
        worker = self.rng.choice(self.year.workers)
        if worker in self.waiting:
            return
        try:
            work = worker.plan()
        except Conflict:
            worker.recover()
            return
        if work is not None:
            files = [file for file in map(run_task, work.tasks) if file is not None]
            self.waiting[worker] = work, files

    def commit(self) -> None:
        if not self.waiting:
            return
        worker = self.rng.choice(list(self.waiting))
        work, files = self.waiting.pop(worker)
        try:
            worker.commit(work, files)
        except Conflict:
            self.conflicts += 1
            worker.recover()

    def compact(self) -> None:
        table = self.rng.choice(TABLES)
        for merge in due_merges(snapshot(self.year.store, table), self.year.clock.now_ms()):
            merge_files(self.year.store, merge)

    def delete(self) -> None:
        """Now and then it dies; the next one, or the end, finishes it."""
        start = self.rng.randrange(BEGIN, self.year.clock.now_ms() + 1)
        length = self.rng.choice([1, 90_000, HOUR_MS, DAY_MS])
        wanted = Wanted((self.rng.choice(list(SELECTS)),), start, start + length)
        forget(self.year, wanted)
        if self.rng.random() < 0.5:
            # The samples go; the rest is owed, perhaps for long.
            deletion.finish(self.year.store)
            with contextlib.suppress(Killed), dying(written=True):
                delete(self.year, wanted)
            return
        delete(self.year, wanted)


@pytest.mark.parametrize("seed", range(3))
def test_deletions_between_all_else(tmp_path, seed):
    rng = random.Random(seed)
    run = Interleaved(Year(str(tmp_path), FOREVER, seed), rng, deletes=True)

    run.run(150)
    deletion.finish(run.year.store)

    run.year.check()


@pytest.mark.parametrize("seed", range(2))
def test_expiry_between_all_else(tmp_path, seed, monkeypatch):
    # Here repairs come rarely, and none may be given up.
    monkeypatch.setattr(expiry, "LEAST_PATIENCE_MS", 1_000 * DAY_MS)
    run = Interleaved(Year(str(tmp_path), SHORT, seed), random.Random(seed), deletes=False)

    run.run(250)

    run.year.check()
    assert all(run.year.mark("samples", s.series_id) > BEGIN for s in SERIES)
