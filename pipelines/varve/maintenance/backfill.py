"""History that is older than what ingest takes, straight into the tables (docs/adr/0050).

Day by day the samples of all sources are rolled up by the kernel that rolls up any others, and each
row goes to the finest table that still keeps its time: the tiers above it see late rows and make
theirs of them. A commit has all rows of a day in a table, and says up to where the table has each
source: so a day is there once, whatever dies, and another run goes on behind it.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from varve.ingest.age_limits import sure_since
from varve.ingest.limits import Limits
from varve.ingest.retention_classes import TABLES
from varve.ingest.series_registry import SeriesRegistry
from varve.maintenance.backfill_rows import Marks, combined, expired_samples, rows_by_table
from varve.maintenance.expiry import Expiration, Retention
from varve.model import compiled
from varve.model.clock import utc_text
from varve.model.errors import Conflict, TemporaryError
from varve.model.identity import SeriesDefinition, define
from varve.model.window import DAY_MS, TIERS, Window, window_end
from varve.rollups.algebra import Floats, Ints
from varve.rollups.expired_series import ExpiredSeriesReader
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile, write_file
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.table import Table

_ATTEMPTS = 20
# Samples that are rolled up at once: bounds memory, since each may be a row of its own.
_HELD_SAMPLES = 1_000_000
_PROBLEMS = 3
_OF_TABLE = {tier.table: tier for tier in TIERS}

log = logging.getLogger(__name__)

Labels = tuple[tuple[str, str], ...]


class Stretch(NamedTuple):
    """Samples of a series. labels: sorted by name, `__name__` among them. ts: Unix ms. values:
    staleness markers by their bits.
    """

    labels: Labels
    ts: Ints
    values: Floats


class Source(Protocol):
    """History that has a name of its own, wherever it lies: a block, or a file."""

    @property
    def name(self) -> str:
        """The same for the same samples; no other source has it."""
        ...

    @property
    def begin_ms(self) -> int:
        """No sample is earlier."""
        ...

    @property
    def end_ms(self) -> int:
        """No sample is later."""
        ...

    def stretches(self, day: Window) -> Iterable[Stretch]:
        """Samples of a day, a series after the other, in order of labels."""
        ...


def days_of(source: Source, until_ms: int) -> list[Window]:
    """The days that a source may have samples of, up to until_ms."""
    last = min(until_ms, window_end(source.end_ms, DAY_MS))
    ends = range(window_end(source.begin_ms, DAY_MS), last + 1, DAY_MS)
    return [Window(end - DAY_MS, end) for end in ends]


@dataclass
class Outcome:
    """What became of samples. expired: no table keeps their time. refused: their windows have rows
    that were made of other samples of the same time, or their series may not be registered.
    """

    taken: int = 0
    expired: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    """The first things that were refused."""


@dataclass(frozen=True)
class _Tables:
    """What a run reads and writes by."""

    store: Store
    registry: SeriesRegistry
    limits: Limits
    handles: Mapping[str, Table]
    expired_series: ExpiredSeriesReader

    def refresh(self) -> None:
        for table in self.handles.values():
            table.refresh()


class Backfill:
    """Brings history into the tables. One run at a time."""

    def __init__(
        self, store: Store, retention: Retention, registry: SeriesRegistry, limits: Limits
    ) -> None:
        """limits: on series that are new. Raises NeedsOperator if a table is missing."""
        self._expiration = Expiration(store, retention)
        handles = {name: Table(store, name) for name in TABLES}
        self._tables = _Tables(store, registry, limits, handles, ExpiredSeriesReader(store))

    def run(
        self,
        sources: Sequence[Source],
        until_ms: int,
        now_ms: int,
        labels: Mapping[str, str],
        progress: Callable[[int], None],
    ) -> Outcome:
        """Brings the samples up to until_ms, the end of a day, into the tables. labels: what each
        series gets that has no such label. progress: is told up to where all are there.

        The sources are read together: a window that samples of two fall in has one row. What an
        earlier run has brought is passed over. Raises TemporaryError if rivals commit all the time;
        whatever a source raises. Up to the last progress nothing is lost then.
        """
        compiled.warm_up("varve.rollups.window_keys", "varve.rollups.kernel")
        outcome = Outcome()
        self._expiration.move_marks(now_ms)
        self._tables.refresh()
        sources = [s for s in sources if s.begin_ms <= until_ms]
        ends = {day.end_ms for source in sources for day in days_of(source, until_ms)}
        for end in sorted(ends):
            day = Window(end - DAY_MS, end)
            found = [s for s in sources if s.begin_ms <= end and s.end_ms > day.start_ms]
            self._bring(day, found, labels, outcome)
            last = [s for s in found if end >= min(until_ms, window_end(s.end_ms, DAY_MS))]
            for name in TABLES:
                self._note(name, end, last)
            progress(end)
        return outcome

    def _bring(
        self, day: Window, sources: Sequence[Source], labels: Mapping[str, str], outcome: Outcome
    ) -> None:
        """A day, table by table."""
        for _ in range(_ATTEMPTS):
            missing = {
                name: [s for s in sources if not self._has(name, s, day.end_ms)] for name in TABLES
            }
            wanted = {s.name: s for found in missing.values() for s in found}
            if not wanted:
                return
            work = _Day(self._tables, day, missing, labels)
            work.read(list(wanted.values()))
            try:
                work.commit()
            except Conflict as err:
                # An expiry, or the driver of a tier: what a row is to be may have changed.
                log.info("%s: again, %s", utc_text(day.end_ms), err)
                self._tables.refresh()
                continue
            work.account(outcome)
            return
        raise TemporaryError(f"{_ATTEMPTS} attempts to commit a day met a rival's commit")

    def _has(self, name: str, source: Source, end_ms: int) -> bool:
        """Whether a table has what it is to have of a day of a source."""
        key = positions.backfilled(source.name)
        reached = {n: table.position(key) or 0 for n, table in self._tables.handles.items()}
        # A day is begun once every table has the one before it, be it no row.
        return reached[name] >= end_ms or max(reached.values()) > end_ms

    def _note(self, name: str, until_ms: int, sources: Sequence[Source]) -> None:
        """Says that a table has everything of the sources, up to a time, also where that is none of
        its rows.
        """
        table = self._tables.handles[name]
        for _ in range(_ATTEMPTS):
            steps = {}
            for source in sources:
                held = table.position(positions.backfilled(source.name))
                if held is None or held < until_ms:
                    steps[positions.backfilled(source.name)] = Step(held, until_ms)
            try:
                if steps:
                    commit(table, [], transactions=steps)
            except Conflict:
                table.refresh()
                continue
            return
        raise TemporaryError(f"{_ATTEMPTS} attempts to commit to {name} met a rival's commit")


class _Day:
    """The rows of a day, as of the tables when it was begun."""

    def __init__(
        self,
        tables: _Tables,
        day: Window,
        missing: Mapping[str, Sequence[Source]],
        labels: Mapping[str, str],
    ) -> None:
        self._tables, self._day, self._missing, self._labels = tables, day, missing, labels
        self._at = {name: dict(table.positions()) for name, table in tables.handles.items()}
        self._snapshots: dict[str, Snapshot] = {}
        self._files: dict[str, list[NewFile]] = {name: [] for name in TABLES}
        self._outcome = Outcome()

    def read(self, sources: Sequence[Source]) -> None:
        """Reads the samples and writes files of their rows, which no commit has yet."""
        held: list[Stretch] = []
        samples = 0
        streams = [source.stretches(self._day) for source in sources]
        together = heapq.merge(*streams, key=lambda stretch: stretch.labels)
        for labels, several in groupby(together, key=lambda stretch: stretch.labels):
            parts = list(several)
            whole = Stretch(
                labels,
                np.concatenate([part.ts for part in parts]),
                np.concatenate([part.values for part in parts]),
            )
            if len(whole.ts):
                held.append(whole)
                samples += len(whole.ts)
            if samples >= _HELD_SAMPLES:
                self._write(held)
                held, samples = [], 0
        if held:
            self._write(held)

    def commit(self) -> None:
        """Commits what was read, table by table. Raises Conflict, see `varve.storage.commit`."""
        for name in TABLES:
            files, at = self._files[name], self._at[name]
            if not files:
                continue
            steps = {}
            for source in self._missing[name]:
                key = positions.backfilled(source.name)
                steps[key] = Step(at.get(key), self._day.end_ms)
            # Rows that slip in behind a mark would be in no rollup, or stay for ever.
            classes = map(positions.expired, dict(positions.expired_classes(at)))
            for key in (positions.expired(), *classes):
                steps[key] = Step(at.get(key), at.get(key, 0))
            if tier := _OF_TABLE.get(name):
                turn = at.get(positions.turn(tier.name))
                steps[positions.turn(tier.name)] = Step(turn, 0 if turn is None else turn + 1)
            metadata = {
                "backfill": [source.name for source in self._missing[name]],
                "until_ms": self._day.end_ms,
                "rows": sum(file.rows for file in files),
            }
            # A series that was condemned since it was looked up may have gone.
            unmoved = {positions.trim(): at.get(positions.trim())}
            handle = self._tables.handles[name]
            commit(handle, files, transactions=steps, metadata=metadata, unmoved=unmoved)

    def account(self, outcome: Outcome) -> None:
        mine = self._outcome
        outcome.taken += mine.taken
        outcome.expired += mine.expired
        outcome.refused += mine.refused
        outcome.problems += mine.problems[: max(0, _PROBLEMS - len(outcome.problems))]

    def _write(self, stretches: Sequence[Stretch]) -> None:
        """Registers series, and writes the rows of their samples."""
        kept: list[tuple[SeriesDefinition, Stretch]] = []
        named = [(_definition(s.labels, self._labels), s) for s in stretches]
        registrations = [(definition, int(s.ts.min())) for definition, s in named]
        refused = self._tables.registry.register(registrations, self._tables.limits)
        for definition, stretch in named:
            reason = refused.get((definition.series_id, definition.check))
            if reason is None:
                kept.append((definition, stretch))
                continue
            self._outcome.refused += len(stretch.ts)
            self._tell(f"{definition.metric}{dict(definition.tags)}: {reason.value}")
        if not kept:
            return
        lengths = [len(stretch.ts) for _, stretch in kept]
        ids = np.repeat(np.array([d.series_id for d, _ in kept], np.int64), lengths)
        ts = np.concatenate([stretch.ts for _, stretch in kept])
        values = np.concatenate([stretch.values for _, stretch in kept])
        marks = self._marks()
        expired = expired_samples(ids, ts, marks)
        self._outcome.expired += expired
        self._outcome.taken += len(ts) - expired
        for name, rows in rows_by_table(ids, ts, values, marks):
            if not self._missing[name]:
                continue
            if name in _OF_TABLE:
                rows = self._beside_stored(name, rows, np.unique(ids))  # noqa: PLW2901
            if rows.num_rows:
                self._files[name].append(write_file(self._tables.store, name, rows))

    def _marks(self) -> dict[str, Marks]:
        """Those that the day goes by, of all series that are registered by now."""
        of_classes = self._tables.expired_series.marks
        return {
            name: Marks(at.get(positions.expired(), 0), of_classes(at))
            for name, at in self._at.items()
        }

    def _beside_stored(self, name: str, rows: pa.Table, ids: Ints) -> pa.Table:
        """The rows of a tier's table that are to be written, beside those that are there."""
        tier = _OF_TABLE[name]
        bounds = Bounds(self._day.start_ms, self._day.end_ms, series_ids=ids)
        revision = self._snapshot(tier.source).version
        found = combined(tier, self._snapshot(name).scan(bounds), rows, revision)
        if found.refused_samples:
            self._outcome.refused += found.refused_samples
            self._outcome.taken -= found.refused_samples
            end = utc_text(int(found.refused[0, 1]))
            self._tell(
                f"{len(found.refused)} windows of {name}, the first up to {end}, have rows of other"
                " samples of that time, which stay"
            )
        return found.rows

    def _snapshot(self, name: str) -> Snapshot:
        if name not in self._snapshots:
            self._snapshots[name] = snapshot(self._tables.store, name)
        return self._snapshots[name]

    def _tell(self, problem: str) -> None:
        if len(self._outcome.problems) < _PROBLEMS:
            self._outcome.problems.append(problem)


def _definition(labels: Labels, more: Mapping[str, str]) -> SeriesDefinition:
    tags = {**more, **{name: value for name, value in labels if value}}
    return define(tags.pop("__name__", ""), tags)


def oldest_taken(now_ms: int, retention: Retention) -> int:
    """The time before which ingest refuses samples of some series at least."""
    kept = [retention.kept_ms["samples"]]
    kept += [c.kept_ms["samples"] for c in retention.classes if "samples" in c.kept_ms]
    return sure_since(now_ms, min(kept))


def backfill_until(now_ms: int, retention: Retention) -> int:
    """Up to when samples go straight into the tables, the end of a day: whatever ingest would
    refuse as too old, of any series, now or within the next day.
    """
    return window_end(oldest_taken(now_ms, retention) + DAY_MS, DAY_MS)
