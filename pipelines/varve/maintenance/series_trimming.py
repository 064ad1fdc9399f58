"""Trimming: takes the definitions of series out of the table series that no table has a row of any
more, in any root: those whose rows have all expired or were deleted.

Ingest looks up which series are registered, and defines none twice. So a series is condemned
first: a commit puts its definition into a file of its own, which drivers pass over from then on and
all others read like any other. Then the position `trim` of every table that gets rows of series
moves: a batch that was judged before that cannot be committed any more, and one that was judged
after it has defined anew what came back. Only then is it looked up whether a row has come since;
the definitions of the others go in one last commit. What a crash leaves undone the next run
finishes.
Source: docs/adr/0052-definitions-go-with-the-last-row.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from varve.maintenance.series_rows import SeriesWithoutRows
from varve.model.errors import Conflict
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.window import DAY_MS, TIERS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.layout import ARRIVAL, COMPACT, CONDEMNED
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table, existing
from varve.storage.zone_map import Ints

SERIES = "series"

LEAST_AGE_MS = DAY_MS
"""How long ago a series was registered at least: its first samples may still be on their way."""

LEAST_SHARE = 0.01
"""Of all series, how many must have gone for it to be worth while: the table is written anew, and
every table is looked through."""

_FENCED = (SAMPLES, *RECORD_TABLES, *(tier.table for tier in TIERS))
"""The tables that rows of series are added to by what looks up which are registered."""

# Definitions of condemned series held at once.
_PIECE = 500_000


@dataclass(frozen=True, slots=True)
class DueTrimming:
    """What is due. registered: series that have a definition. ids: those of them, sorted, without
    a row. begun: number of a run that was cut off, which is finished first.
    """

    registered: int
    ids: Ints
    looked: SeriesWithoutRows = field(compare=False)
    begun: int | None = None

    @property
    def is_empty(self) -> bool:
        return not len(self.ids) and self.begun is None

    def as_json(self) -> Mapping[str, Any]:
        return {
            "registered": self.registered,
            "without_rows": len(self.ids),
            "is_begun": self.begun is not None,
        }

    def lines(self) -> Iterable[str]:
        if self.begun is not None:
            yield "series: a trimming that was cut off is to be finished"
        elif len(self.ids):
            yield f"series: {len(self.ids):,} of {self.registered:,} have no row in any table"
        else:
            yield f"series: too few of {self.registered:,} have no row in any table"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a run did. series: definitions that have gone. returned: series that were condemned and
    are back.
    """

    series: int = 0
    returned: int = 0
    is_done: bool = True
    """False if a rival was in the way: the rest is left to the next run."""

    def as_json(self) -> Mapping[str, Any]:
        return asdict(self)

    def lines(self) -> Iterable[str]:
        if not self.is_done:
            yield "series: a rival was in the way, the rest is left to the next run"
        elif self.series or self.returned:
            yield f"series: {self.series:,} trimmed, {self.returned:,} were back before"


class Trimming:
    """The batch job."""

    name: ClassVar[str] = "trim"
    tables: ClassVar[tuple[str, ...]] = (SERIES,)

    def __init__(self, store: Store, least_share: float = LEAST_SHARE) -> None:
        self._store, self._least_share = store, least_share

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueTrimming:
        """Raises OSError if the storage fails."""
        looked, nothing = SeriesWithoutRows(self._store), np.empty(0, np.int64)
        table = Table(self._store, SERIES)
        begun, ended = (table.position(p) for p in (positions.trim(), positions.trimmed()))
        hours = existing(self._store, [TIERS[-2].table])
        frontier = hours[0].position(positions.frontier(TIERS[-2].name)) if hours else None
        seen = snapshots[SERIES]
        if begun != ended or frontier is None:
            rows = sum(file.rows for file in seen.files)
            return DueTrimming(rows, nothing, looked, None if begun == ended else begun)
        ids, registered = _registered_by(seen, min(now_ms, frontier) - LEAST_AGE_MS)
        least = max(1.0, self._least_share * registered)
        for look in (looked.unseen, looked.among):
            ids = look(ids) if len(ids) >= least else nothing
        if len(ids) < least:
            ids = nothing
        return DueTrimming(registered, ids, looked)

    def run(self, work: DueTrimming) -> Trimmed:
        """Raises OSError if the storage fails: what is done stays done."""
        if work.is_empty:
            return Trimmed()
        try:
            number = self._condemn(work.ids) if work.begun is None else work.begun
            for table in existing(self._store, _FENCED):
                _fence(table)
            return self._remove(number, work.looked)
        except Conflict:
            return Trimmed(is_done=False)

    def _condemn(self, ids: Ints) -> int:
        """Puts the definitions of the series into files of their own. Returns the number of this
        trimming.
        """
        table = Table(self._store, SERIES, files=True)
        begun, ended = (table.position(p) for p in (positions.trim(), positions.trimmed()))
        if begun != ended:
            raise Conflict("a rival has begun to trim series")
        step = Step(begun, 0 if begun is None else begun + 1)
        adds: list[NewFile] = []
        removes: list[Removal] = []
        held: list[pa.Table] = []
        for file, rows in self._definitions(table, live_files(table)):
            is_condemned = np.isin(rows.column("series_id").to_numpy(), ids)
            if not is_condemned.any():
                continue
            removes.append(Removal(file.path, file.size))
            if not is_condemned.all():
                layout = COMPACT if COMPACT.wrote(file.path) else ARRIVAL
                rest = rows.filter(pa.array(~is_condemned))
                adds.append(write_file(self._store, SERIES, rest, layout))
            held.append(rows.filter(pa.array(is_condemned)))
            if sum(part.num_rows for part in held) >= _PIECE:
                adds.append(self._condemned(held))
                held = []
        if held:
            adds.append(self._condemned(held))
        said = {"trim": {"condemned": len(ids)}}
        rewrite(table, adds, removes, transactions={positions.trim(): step}, metadata=said)
        return step.new

    def _condemned(self, parts: list[pa.Table]) -> NewFile:
        rows = pa.concat_tables(parts).sort_by("series_id")
        return write_file(self._store, SERIES, rows, CONDEMNED)

    def _remove(self, number: int, looked: SeriesWithoutRows) -> Trimmed:
        """Removes the condemned series that are not back: of which no row was found, and which
        nobody has registered again.
        """
        table = Table(self._store, SERIES, files=True)
        begun, ended = (table.position(p) for p in (positions.trim(), positions.trimmed()))
        if begun != number or ended == number:
            raise Conflict(f"a rival has finished trimming {number}")
        files = live_files(table)
        condemned = [file for file in files if CONDEMNED.wrote(file.path)]
        others = [file for file in files if not CONDEMNED.wrote(file.path)]
        ids = _ids_of(table, condemned)
        again = np.intersect1d(ids, _ids_of(table, others), assume_unique=True)
        dead = looked.among(ids)
        # Who was registered again has a definition already; who has rows needs one.
        kept = np.setdiff1d(np.setdiff1d(ids, dead, assume_unique=True), again, assume_unique=True)
        adds = []
        for _, rows in self._definitions(table, condemned):
            rest = rows.filter(pa.array(np.isin(rows.column("series_id").to_numpy(), kept)))
            if rest.num_rows:
                adds.append(write_file(self._store, SERIES, rest))
        removes = [Removal(file.path, file.size, rows_disappear=True) for file in condemned]
        gone = np.setdiff1d(dead, again, assume_unique=True)
        steps = {positions.trimmed(): Step(ended, number)}
        rewrite(table, adds, removes, transactions=steps, metadata={"trim": {"gone": len(gone)}})
        return Trimmed(len(gone), len(ids) - len(gone))

    def _definitions(
        self, table: Table, files: Iterable[LiveFile]
    ) -> Iterator[tuple[LiveFile, pa.Table]]:
        """The rows of each file; one at a time, as labels take far more than ids."""
        there = Snapshot(self._store, SERIES, table.version, ())
        for file in files:
            yield file, there.scan(Bounds(), None, [file], threads=1)


def _fence(table: Table) -> None:
    """Keeps out of the table what relies on definitions as they were before."""
    held = table.position(positions.trim())
    step = Step(held, 0 if held is None else held + 1)
    try:
        commit(table, [], transactions={positions.trim(): step})
    except Conflict:
        # A rival has just done the same, or it is not known what the conflict was about.
        table.refresh()
        if table.position(positions.trim()) == held:
            raise


def _registered_by(seen: Snapshot, until_ms: int) -> tuple[Ints, int]:
    """The series, sorted, that were registered up to a time, and not again since; and how many
    there are in all.
    """
    old, young = [], []
    for file in seen.files:
        rows = seen.scan(Bounds(), ["series_id", "last_seen"], [file], threads=1)
        ids, times = (rows.column(n).to_numpy() for n in range(2))
        old.append(ids[times <= until_ms])
        young.append(ids[times > until_ms])
    of_old, of_young = _distinct(old), _distinct(young)
    only_old = np.setdiff1d(of_old, of_young, assume_unique=True)
    return only_old, len(only_old) + len(of_young)


def _ids_of(table: Table, files: Iterable[LiveFile]) -> Ints:
    there = Snapshot(table.store, SERIES, table.version, ())
    return _distinct(
        there.scan(Bounds(), ["series_id"], [file], threads=1).column(0).to_numpy()
        for file in files
    )


def _distinct(parts: Iterable[Ints]) -> Ints:
    return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))
