"""Drivers, compaction, expiry, deletions, moves to a colder root and backups in any order, each
between the plan and the commit of another, beside an oracle that says how the tables must end.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.unit.maintenance.dying import Killed, dying
from tests.unit.maintenance.test_deletion import PODS, SELECTS, delete, forget
from tests.year import BEGIN, DEBUG, SERIES, TABLES, Year, difference
from varve.maintenance import deletion, deletion_log
from varve.maintenance.backup import take_backup
from varve.maintenance.compaction import TABLES as COMPACTED
from varve.maintenance.compaction import due_merges, merge_files
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.restore import restore_backup
from varve.maintenance.series_trimming import DueTrimming, Trimming
from varve.maintenance.tiering import HANDOVER_MS, Tiering
from varve.model.errors import Conflict
from varve.model.identity import SeriesDefinition, define
from varve.model.window import DAY_MS, HOUR_MS
from varve.rollups.task import run_task
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Follower, Snapshot, snapshot
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table


class Interleaved:
    """Steps of all that change the tables; what a driver has computed waits for its commit."""

    def __init__(self, year: Year, rng: random.Random, *, deletes: bool) -> None:
        self.year, self.rng = year, rng
        self.waiting = {}
        self.conflicts = 0
        self.compacted: Sequence[str] = COMPACTED
        self.selects: Sequence[str] = list(SELECTS)
        steps = [self.put, self.compute, self.compute, self.commit, self.compact]
        self.steps = [*steps, self.delete if deletes else self.year.expire]

    def run(self, count: int) -> None:
        self.go(count)
        self.end()

    def go(self, count: int) -> None:
        """So many steps."""
        for _ in range(count):
            self.rng.choice(self.steps)()

    def end(self) -> None:
        """Everything that is due is done."""
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
        table = self.rng.choice(self.compacted)
        for merge in due_merges(snapshot(self.year.store, table), self.year.clock.now_ms()):
            merge_files(self.year.store, merge)

    def delete(self, since_ms: int = BEGIN) -> None:
        """Now and then it dies; the next one, or the end, finishes what it has begun."""
        start = self.rng.randrange(since_ms, self.year.clock.now_ms() + 1)
        length = self.rng.choice([1, 90_000, HOUR_MS, DAY_MS])
        wanted = Wanted((self.rng.choice(self.selects),), start, start + length)
        if self.rng.random() < 0.5:
            deletion.finish(self.year.store)
            before = self._deletions()
            with contextlib.suppress(Killed), dying(written=True, at=self.rng.randrange(1, 4)):
                delete(self.year, wanted)
            if deletion_log.begun(self.year.store) is not None:
                # Some samples have gone: which of them, no oracle can tell.
                deletion.finish(self.year.store)
            if self._deletions() != before:
                # The samples have gone; the rest is owed, perhaps for long.
                forget(self.year, wanted)
            return
        forget(self.year, wanted)
        delete(self.year, wanted)

    def _deletions(self) -> int | None:
        return Table(self.year.store, "samples").position(positions.deletion())


class Race(Interleaved):
    """All of it at once, with a colder root, readers of all kinds, backups, and pods: series that
    come, go, and come back, and are trimmed.

    Deletions are of the last day, so that what they leave can be computed anew from rows that have
    not expired; as in maintenance, one that is owed is finished before rows expire.
    """

    def __init__(self, year: Year, rng: random.Random, folder: Path) -> None:
        """year: of a store with a colder root, in which no class is kept for less than a day."""
        super().__init__(year, rng, deletes=False)
        self.folder, self.compacted = folder, (*TABLES, "series")
        self.selects = [*SELECTS, *PODS]
        self.judged: tuple[Sequence[SeriesDefinition], Mapping[str, int | None]] | None = None
        """Pods whose samples are yet to be stored, and what these rely on."""
        self.pods = self.trimmed = self.refused = 0
        self.trimming: DueTrimming | None = None
        """Planned, and not run yet."""
        self.backups, self.moved, self.restored = Store(str(folder / "backups")), 0, 0
        self.reader = Follower(year.store, "samples")
        self.steps = [
            *(self.put, self.put, self.compute, self.compute, self.commit, self.compact),
            *(self.delete_lately, self.expire, self.move, self.move, self.back_up, self.read),
            *(self.read_apart, self.slip_in),
            *(self.judge_pods, self.store_pods, self.trim, self.trim),
        ]

    def end(self) -> None:
        deletion.finish(self.year.store)
        self.store_pods()
        super().end()
        self.year.expire()  # what was begun is finished by the first
        self.year.clock.advance(HANDOVER_MS)
        self.move()
        self.trimmed = self.year.check_trimmed()

    def judge_pods(self) -> None:
        """Ingest looks up some pods, new ones and such that were here before."""
        if self.judged is not None:
            return
        while self.pods < 3 or self.rng.random() < 0.5:
            self.year.series.append(define("pod_calls", {"pod": str(self.pods)}))
            self.pods += 1
        known = [s for s in self.year.series if s.metric == "pod_calls"]
        some = self.rng.sample(known[-20:], 2)
        self.judged = some, self.year.judge({s.series_id for s in some})

    def store_pods(self) -> None:
        """Their samples are stored; they are judged again if series were trimmed meanwhile."""
        if self.judged is None:
            return
        some, unmoved = self.judged
        now = self.year.clock.now_ms()
        new = {(s.series_id, now - self.rng.randrange(HOUR_MS)): self.year.value() for s in some}
        new = {key: value for key, value in new.items() if key not in self.year.samples}
        rows = [(series, ts, value) for (series, ts), value in new.items()]
        try:
            self.year.tables.put(rows, unmoved=unmoved)
        except Conflict:
            self.refused += 1
            self.judged = some, self.year.judge({s.series_id for s in some})
            return
        self.year.samples.update(new)
        self.judged = None

    def trim(self) -> None:
        """Looks which series have no row; some other time these are trimmed. Now and then that
        dies, and the next run finishes it.
        """
        job = Trimming(self.year.store, least_share=0.0)
        if self.trimming is None:
            seen = {"series": snapshot(self.year.store, "series")}
            self.trimming = job.plan(self.year.clock.now_ms(), seen)
            return
        due, self.trimming = self.trimming, None
        if self.rng.random() < 0.5:
            with contextlib.suppress(Killed), dying(written=True, at=self.rng.randrange(1, 9)):
                job.run(due)
        else:
            job.run(due)
        self.year.check_definitions()

    def delete_lately(self) -> None:
        self.delete(max(BEGIN, self.year.clock.now_ms() - DAY_MS))

    def expire(self) -> None:
        deletion.finish(self.year.store)
        self.year.expire()

    def move(self) -> None:
        """A step of a move of each table; who has been faster is told of a conflict."""
        tiering = Tiering(self.year.store, [DAY_MS])
        for table in TABLES:
            for due in tiering.due(table, self.year.clock.now_ms()):
                try:
                    self.moved += tiering.move(due).removed
                except Conflict:
                    self.conflicts += 1

    def read(self) -> None:
        """Every sample that has not expired is seen, with its value and nothing beside it, by
        whoever reads anew and by whoever has read one root before something moved and looks at the
        other after it.
        """
        self._require_all(_samples(self.reader.refresh()))
        self._require_all(_samples(snapshot(self.year.store, "samples")))
        self.year.check_definitions()

    def read_apart(self) -> None:
        """The same for an engine that opens each root by itself, in either order, while another
        step is done.
        """
        roots = self.year.store.roots()
        self.rng.shuffle(roots)
        first = snapshot(roots[0], "samples") if _has_table(roots[0]) else None
        between = [self.compute, self.commit, self.compact, self.expire, self.move]
        self.rng.choice(between)()
        second = snapshot(roots[1], "samples") if _has_table(roots[1]) else None
        opened = [seen for seen in (first, second) if seen is not None]
        self._require_all({key: row for seen in opened for key, row in _samples(seen).items()})

    def slip_in(self) -> None:
        """A sample of the class comes so late that its neighbours may have expired, as from an
        ingest that does not know its retention: the rollups stay as they were.
        """
        marks = self.year.marks("samples")
        series = next(s for s in SERIES if DEBUG.matches(s)).series_id
        since = max(BEGIN, min(marks.values()))
        if since < marks[series]:
            key = series, self.rng.randint(since + 1, marks[series])
            if key not in self.year.samples:
                self.year.slip_in(key)

    def _require_all(self, there: Mapping[tuple[int, int], tuple[object, ...]]) -> None:
        marks = self.year.marks("samples")
        wanted = {
            key: (value,) for key, value in self.year.samples.items() if key[1] > marks[key[0]]
        }
        seen = {key: row for key, row in there.items() if key[1] > marks[key[0]]}
        assert seen == wanted, difference("samples", wanted, seen)

    def back_up(self) -> None:
        """A backup has every row that the tables have; a restore of it is as they are."""
        self.year.clock.advance(1_000)
        taken = take_backup(self.year.store, self.backups, self.year.clock).backup
        assert taken.is_one_moment
        if self.rng.random() < 0.3:
            self.restored += 1
            folder = self.folder / f"restored-{self.restored}"
            copy = Store(str(folder / "hot"), {}, Store(str(folder / "cold")))
            restore_backup(self.backups, copy, taken)
            for name in TABLES:
                assert _rows(snapshot(copy, name)) == _rows(snapshot(self.year.store, name))
            self.year.check_definitions(copy)


def _samples(seen: Snapshot) -> Mapping[tuple[int, int], tuple[object, ...]]:
    rows = seen.scan(Bounds()).to_pylist()
    return {(row["series_id"], row["ts"]): (row["value"],) for row in rows}


def _has_table(root: Store) -> bool:
    return load(root, "samples", files=False) is not None


def _rows(seen: Snapshot) -> list[str]:
    return sorted(map(repr, seen.scan(Bounds()).to_pylist()))
