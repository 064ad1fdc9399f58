"""A deployment without Kafka, Spark and time: samples are committed, workers step, die and race."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from varve.model.clock import ManualClock
from varve.model.errors import Conflict
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS, Tier, Window
from varve.rollups.completeness import CompletenessReader
from varve.rollups.task import attempt_task, run_task
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import PlannedCommit, TierPlan
from varve.rollups.verify import Report, verify
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.log import list_versions
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

START = 1_800_000_000_000 // DAY_MS * DAY_MS + 7 * HOUR_MS
TABLES = ("samples", *(tier.table for tier in TIERS), "repairs")
Sample = tuple[int, int, float | None]


class Simulation:
    """input_ms: the time up to which input is complete. clock: that of the workers."""

    def __init__(self, root: Path, repair_every_ms: int = MINUTE_MS, repair_keys: int = 50) -> None:
        self.store = Store(str(root))
        create_tables(self.store, TABLES)
        self.input_ms = START
        self.clock = ManualClock(START)
        self.samples: list[Sample] = []
        self._every, self._keys = repair_every_ms, repair_keys
        self.workers = {tier.name: self.worker(tier) for tier in TIERS}

    def worker(self, tier: Tier, grace_ms: int = 10_000) -> TierWorker:
        every = self._every if tier.source == "samples" else 0
        plan = TierPlan(self.store, tier, ("bulk",), grace_ms, every, self._keys)
        return TierWorker(plan, self.clock)

    def put(self, samples: Iterable[Sample]) -> None:
        """One commit of a file, sorted as ingest does."""
        rows = sorted(samples, key=lambda s: s[:2])
        self.samples += rows
        columns = list(zip(*rows, strict=True))
        schema = table_schema("samples").arrow
        arrays = [
            pa.array(column, field.type, from_pandas=False)
            for column, field in zip(columns, schema, strict=True)
        ]
        file = write_file(self.store, "samples", pa.table(arrays, schema=schema))
        table = Table(self.store, "samples")
        held = table.position("offset")
        commit(table, [file], transactions={"offset": Step(held, (held or 0) + len(rows))})

    def advance(self, ms: int) -> None:
        """Time passes, and all input of it is stored."""
        self.input_ms += ms
        self.clock.advance(ms)
        self._position("complete:bulk", self.input_ms)

    def expire_samples(self, until_ms: int) -> None:
        """Says that they may be deleted."""
        self._position(positions.expired(), until_ms)

    def expire_log(self, name: str) -> None:
        """All but the newest version."""
        DeltaTable(self.store.uri(name)).create_checkpoint()
        for version in list_versions(self.store, name)[:-1]:
            (Path(self.store.uri(name)) / "_delta_log" / f"{version:020d}.json").unlink()

    def compact(self, name: str) -> None:
        """All files into one, which changes no row; the old ones are deleted."""
        whole = snapshot(self.store, name)
        if len(whole.files) < 2:
            return
        time = whole.time_column
        rows = whole.scan(Bounds()).sort_by([("series_id", "ascending"), (time, "ascending")])
        file = write_file(self.store, name, rows)
        removed = [Removal(f.path, f.size) for f in whole.files]
        rewrite(Table(self.store, name), [file], removed)
        for gone in removed:
            (Path(self.store.uri(name)) / gone.path).unlink()

    def step(self, tier: str) -> PlannedCommit | None:
        """One commit of the tier's worker, unless there is nothing to do."""
        worker = self.workers[tier]
        planned = worker.plan()
        if planned is not None:
            outcomes = [attempt_task(task) for task in planned.tasks]
            worker.commit(
                planned,
                [outcome.file for outcome in outcomes if outcome.file is not None],
                gaps=[gap for outcome in outcomes for gap in outcome.gaps],
                unreadable=[text for outcome in outcomes for text in outcome.unreadable],
            )
        return planned

    def crash(self, tier: str, *, when: str) -> None:
        """A worker dies and another takes over. when: planned, written, or committed: before the
        repairs of its commit are noted.
        """
        worker = self.workers[tier]
        planned = worker.plan()
        if planned is not None and when != "planned":
            files = files_of(planned)
            if when == "committed":
                worker._notes = _Dying()
                with contextlib.suppress(_Died):
                    worker.commit(planned, files)
        self.workers[tier] = self.worker(TIERS[[t.name for t in TIERS].index(tier)])

    def race(self, tier: str, *, new_between: Iterable[Sample] = ()) -> None:
        """Two workers plan, the rival commits first. More samples may come in between."""
        mine = self.workers[tier]
        rival = self.worker(TIERS[[t.name for t in TIERS].index(tier)])
        theirs = rival.plan()
        between = list(new_between)
        if between:
            self.put(between)
        ours = mine.plan()
        if theirs is not None:
            rival.commit(theirs, files_of(theirs))
        if ours is not None:
            try:
                mine.commit(ours, files_of(ours))
                lost = False
            except Conflict:
                mine.recover()
                lost = True
            assert lost == (theirs is not None)

    def settle(self) -> None:
        """Everything is closed and repaired, with time to spare."""
        for _ in range(3):
            self.advance(2 * MINUTE_MS)
            for tier in TIERS:
                for _ in range(1_000):
                    if self.step(tier.name) is None:
                        break
                else:
                    raise AssertionError(f"{tier.name} never comes to rest")

    def verify(self) -> Report:
        first = min((ts for _, ts, _ in self.samples), default=START)
        return verify(self.store, Window(first - 2 * DAY_MS, self.input_ms + DAY_MS))

    def pending(self) -> list[Window]:
        return [w for state in CompletenessReader(self.store).refresh() for w in state.pending]

    def frontier(self, tier: str) -> int | None:
        states = CompletenessReader(self.store).refresh()
        return next(s.frontier_ms for s in states if s.tier.name == tier)

    def rows(self, name: str) -> list[dict[str, object]]:
        return snapshot(self.store, name).scan(Bounds()).to_pylist()

    def _position(self, name: str, value: int) -> None:
        table = Table(self.store, "samples")
        held = table.position(name)
        new = value if held is None else max(held, value)
        commit(table, [], transactions={name: Step(held, new)})


def files_of(planned: PlannedCommit) -> list[NewFile]:
    written = [run_task(task) for task in planned.tasks]
    return [file for file in written if file is not None]


def random_samples(rng: random.Random, now_ms: int, *, most: int = 12) -> list[Sample]:
    """Around now: mostly just before it, some late by up to three days, some ahead."""
    found: list[Sample] = []
    for _ in range(rng.randint(1, most)):
        age = rng.choice([rng.randint(0, 90_000)] * 4 + [rng.randint(0, 3 * DAY_MS), -30_000])
        ts = now_ms - age
        if rng.random() < 0.2:
            ts = ts // MINUTE_MS * MINUTE_MS
        value = rng.choice([None, float("nan"), float(rng.randint(0, 5)), rng.gauss(0, 1)])
        found.append((rng.randint(1, 3), ts, value))
    return found


class _Died(Exception):
    pass


class _Dying:
    def write(self, number: int, rows: object) -> None:
        raise _Died
