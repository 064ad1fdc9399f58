"""Expiry: deletes what is older than its retention, of all series or of those of a class.

Rows go only once the tier above has computed every window they fall in. Before any goes, the mark
`expired:` says up to where they may; from then on the tier above leaves windows that start before
it as they are, so no row is ever computed from half of its samples. Files that are old as a whole
are removed, the others lose their old rows. What a crash leaves undone the next run finishes.

Histograms and exemplars, of which there are no tiers, are kept as long as samples. What was found
and told of, such as anomalies and alerts, is kept for thirteen months: see old_files.py.

Age is that of the rollups, not of a clock: while ingest stands still nothing expires, and a clock
that is ahead deletes nothing. Times are cut at the end of a day, or of an hour where less than two
days are kept: those are the periods that files are compacted by.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from varve.ingest.retention_classes import TABLES, RetentionClass
from varve.maintenance import old_files, tiering
from varve.maintenance.expiries import (
    ALL,
    AWAY,
    RIVAL,
    AllExpired,
    DueExpiries,
    DueExpiry,
    ExpiredRows,
)
from varve.maintenance.row_removal import cut_file, upgrade_colder
from varve.maintenance.series_trimming import SERIES, Trimming
from varve.model.errors import Conflict, NeedsOperator
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.series_matcher import SeriesMatcher
from varve.model.window import DAY_MS, HOUR_MS, TIERS, Tier, floor_to
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.log import LiveFile, LogExpired, entries
from varve.storage.matched_series import MatchedSeries
from varve.storage.snapshot import UNREACHABLE, Snapshot, base_name, snapshot
from varve.storage.store import Store
from varve.storage.table import Table
from varve.storage.unreadable import READ_ERRORS, find_unreadable
from varve.storage.zone_map import Ints, Mask

EXPIRING = (*TABLES, *RECORD_TABLES, *old_files.TABLES)
"""The tables whose rows expire by their age."""

LEAST_PATIENCE_MS = DAY_MS
"""How long rows that are due to go wait for a repair at least; else a fifth of their retention."""

_LONG_MS = 2 * DAY_MS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept, ms. kept_ms: by table, of all series. classes: series that are kept
    for a shorter time.
    """

    kept_ms: Mapping[str, int]
    classes: tuple[RetentionClass, ...] = ()


class Expiration:
    """The batch job: expires all tables, and trims series that had no row when it was planned."""

    name: ClassVar[str] = "expire"
    tables: ClassVar[tuple[str, ...]] = (*EXPIRING, SERIES)

    def __init__(self, store: Store, retention: Retention) -> None:
        """Raises NeedsOperator if there is no table series."""
        self._store, self._retention = store, retention
        self._matched = MatchedSeries(store)
        self._trimming = Trimming(store)

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueExpiries:
        of_time = [seen for name, seen in snapshots.items() if name != SERIES]
        trimming = self._trimming.plan(now_ms, snapshots) if SERIES in snapshots else None
        return DueExpiries(tuple(e for seen in of_time for e in self.due(seen, now_ms)), trimming)

    def run(self, work: DueExpiries) -> AllExpired:
        expired = tuple(self.expire(due) for due in work.expiries)
        return AllExpired(
            expired, None if work.trimming is None else self._trimming.run(work.trimming)
        )

    def due(self, seen: Snapshot, now_ms: int) -> list[DueExpiry]:
        """What is due in a table. Raises OSError if the storage fails."""
        name = seen.table
        frontier = Table(self._store, TIERS[0].table).position(positions.frontier(TIERS[0].name))
        if frontier is None or not seen.files:
            return []
        age_from_ms = min(now_ms, frontier)
        if name in old_files.TABLES:
            until_ms = floor_to(age_from_ms - old_files.KEPT_MS, DAY_MS)
            old = old_files.old_files(seen, until_ms)
            return [DueExpiry(name, ALL, "", None, until_ms, tuple(old))] if old else []
        at = Table(self._store, name).positions()
        as_in = SAMPLES if name in RECORD_TABLES else name
        every_ms = self._retention.kept_ms[as_in]
        everyone = self._safe_until(seen, age_from_ms - every_ms, every_ms, None)
        below = next((tier.source for tier in TIERS if tier.table == name), None)
        source = snapshot(self._store, below) if below and self._retention.classes else None
        found = []
        if everyone is not None and (files := seen.select(Bounds(end_ms=everyone))):
            found.append(DueExpiry(name, ALL, "", None, everyone, tuple(files)))
        for kept in self._retention.classes:
            kept_ms = kept.kept_ms.get(as_in, every_ms)
            if kept_ms >= every_ms:
                continue
            ids = self._matched.newest(kept.matcher)
            old_ms = age_from_ms - kept_ms
            until = self._safe_until(seen, old_ms, kept_ms, ids)
            if source is not None and until is not None:
                # Nobody looks again where rows were dropped: none may be yet to be made there.
                made = self._safe_until(source, old_ms, kept_ms, ids)
                until = None if made is None else min(until, made)
            done = [everyone, at.get(positions.dropped(kept.matcher.text))]
            begin = max((d for d in done if d is not None), default=None)
            if until is None or (begin is not None and until <= begin):
                continue
            if files := seen.select(Bounds(begin, until, series_ids=ids)):
                found.append(
                    DueExpiry(name, kept.name, kept.matcher.text, begin, until, tuple(files))
                )
        return found

    def expire(self, due: DueExpiry) -> ExpiredRows:
        """Moves the mark, then deletes; goes around files that cannot be read.

        Rows that go from a file which is being moved are still in its copy, which is taken back.
        While the colder root is out of reach that is left to the next run, and so reported: rows
        that show again for that long are better than a hot root that fills up.

        Raises OSError if the storage fails: what is done stays done.
        """
        # A copy of what was rewritten meanwhile is to go, not to be rewritten where it is.
        self._take_back(due.table)
        # Another expiry of this run, or compaction, may have replaced files since it was planned.
        now = snapshot(self._store, due.table)
        if due.table in old_files.TABLES:
            return _drop(now, due)
        ids = self._ids_of(due)
        found = now.select(Bounds(due.begin_ms, due.until_ms, series_ids=ids))
        # What a colder root that is out of reach has goes once it is back.
        files = [file for file in found if base_name(file.path) != UNREACHABLE]
        due = replace(due, files=tuple(files))
        table = Table(self._store, due.table, files=True)
        removed = rewritten = rows = 0
        unreadable = len(found) - len(files)
        upgrade_colder(now, [self._store.place(file.path)[0] for file in files])
        try:
            self._mark(table, positions.expired(due.matcher), due)
            if old := due.old_files:
                self._remove(due, old)
                removed, rows = len(old), sum(f.rows for f in old)
            gone_as_a_whole = {f.path for f in old}
            for file in due.files:
                if file.path in gone_as_a_whole:
                    continue
                try:
                    lost = self._rewrite(now, file, due, ids)
                except READ_ERRORS:
                    broken = find_unreadable(self._store, due.table, [file])
                    if not broken:
                        raise
                    log.warning("%s: its old rows stay until it is old as a whole", broken[0])
                    unreadable += 1
                    continue
                rewritten, rows = rewritten + (lost > 0), rows + lost
            left = self._take_back(due.table)
            if due.matcher and not unreadable and not left:
                self._mark(table, positions.dropped(due.matcher), due)
        except Conflict:
            left = RIVAL  # planned again at the next run, from the table as it then is
        return ExpiredRows(due.table, due.name, due.until_ms, removed, rewritten, rows, left)

    def _take_back(self, table: str) -> str:
        """Takes back copies of what was rewritten while it was being moved; why some may be left,
        or "".
        """
        if table not in tiering.TABLES:
            return ""
        try:
            tiering.take_back(self._store, table)
        except Conflict:
            return RIVAL
        except (OSError, NeedsOperator) as err:
            log.warning("%s: copies in a colder root may show expired rows: %s", table, err)
            return AWAY
        return ""

    def move_marks(self, now_ms: int) -> None:
        """Moves the marks of all series as far as a run would now, in every table, also where there
        is nothing to delete. Raises Conflict if a rival moves one at the same time.
        """
        frontier = Table(self._store, TIERS[0].table).position(positions.frontier(TIERS[0].name))
        if frontier is None:
            return
        for name in TABLES:
            kept_ms = self._retention.kept_ms[name]
            old_ms = min(now_ms, frontier) - kept_ms
            until_ms = self._safe_until(snapshot(self._store, name), old_ms, kept_ms, None)
            if until_ms is not None and until_ms > 0:
                due = DueExpiry(name, ALL, "", None, until_ms, ())
                self._mark(Table(self._store, name), positions.expired(), due)

    def _mark(self, table: Table, name: str, due: DueExpiry) -> None:
        held = table.position(name)
        if held is None or held < due.until_ms:
            commit(
                table, [], transactions={name: Step(held, due.until_ms)}, metadata=_metadata(due)
            )

    def _remove(self, due: DueExpiry, old: Sequence[LiveFile]) -> None:
        """Removes files as a whole, each in its root."""
        by_root: dict[str, tuple[Store, list[Removal]]] = {}
        for file in old:
            root, path = self._store.place(file.path)
            _, removals = by_root.setdefault(root.root, (root, []))
            removals.append(Removal(path, file.size, rows_disappear=True))
        for root, removals in by_root.values():
            rewrite(Table(root, due.table, files=True), [], removals, metadata=_metadata(due))

    def _rewrite(self, now: Snapshot, file: LiveFile, due: DueExpiry, ids: Ints | None) -> int:
        """Takes the old rows out of a file; returns how many."""
        one = replace(now, files=(file,))

        def gone(series_ids: Ints, times: Ints) -> Mask:
            mask: Mask = times <= due.until_ms
            if ids is not None:
                mask[mask] = np.isin(series_ids[mask], ids)
            return mask

        cut = cut_file(one, file, gone)
        if cut is None:
            return 0
        adds = [] if cut.rest is None else [cut.rest]
        table = Table(cut.root, due.table, files=True)
        rewrite(table, adds, [cut.removal], metadata=_metadata(due))
        return cut.rows_gone

    def _ids_of(self, due: DueExpiry) -> Ints | None:
        if not due.matcher:
            return None
        return self._matched.newest(SeriesMatcher.from_text(due.matcher))

    def _safe_until(
        self, seen: Snapshot, old_ms: int, kept_ms: int, ids: Ints | None
    ) -> int | None:
        """The greatest time up to which rows may go: at most old_ms, and no window that they fall
        in is still to be computed in the tier above. None if there is none.

        Rows that wait for a repair, perhaps of a file that is lost, hold up the others for a
        fifth of their retention at most. ids: of the series that it is about, sorted; None for all.
        """
        align_ms = DAY_MS if kept_ms >= _LONG_MS else HOUR_MS
        until = floor_to(old_ms, align_ms)
        above = next((tier for tier in TIERS if tier.source == seen.table), None)
        if above is None:
            return until
        table = Table(self._store, above.table)
        frontier = table.position(positions.frontier(above.name))
        if frontier is None:
            return None
        until = min(until, floor_to(frontier, align_ms))
        patience_ms = max(LEAST_PATIENCE_MS, kept_ms // 5)
        overdue = min(until, floor_to(old_ms - patience_ms, align_ms))
        try:
            first = self._first_waiting(seen, above, until, ids)
        except LogExpired:
            return overdue  # what waits for its repair cannot be told
        return until if first is None else max(overdue, floor_to(first - 1, align_ms))

    def _first_waiting(
        self, seen: Snapshot, above: Tier, until_ms: int, ids: Ints | None
    ) -> int | None:
        """The least time up to until_ms of a row that waits for a repair, in the tier above or in
        one below it, whose repairs come to that one; None if there is none. Raises LogExpired.
        """
        found = []
        for tier in TIERS[: TIERS.index(above) + 1]:
            repaired = Table(self._store, tier.table).position(positions.source(tier.name))
            source = seen if tier is above else snapshot(self._store, tier.source)
            after = -1 if repaired is None else repaired
            log = entries(self._store, source.table, after, source.version)
            time = source.time_column
            late = [f for entry in log for f in entry.adds if f.minimum[time] <= until_ms]
            found.append(_first_time(source, late, until_ms, ids))
        return min((first for first in found if first is not None), default=None)


def _drop(now: Snapshot, due: DueExpiry) -> ExpiredRows:
    """Removes the old files of a table that has no marks."""
    old = old_files.old_files(now, due.until_ms)
    rows, left = 0, ""
    try:
        rows = old_files.drop(now, old) if old else 0
    except Conflict:
        old, left = [], RIVAL
    return ExpiredRows(due.table, due.name, due.until_ms, len(old), 0, rows, left)


def _first_time(
    seen: Snapshot, files: Sequence[LiveFile], until_ms: int, ids: Ints | None
) -> int | None:
    """The least time up to until_ms of a row of the files; None if there is none."""
    found: list[int] = []
    for file in files:
        try:
            rows = seen.scan(Bounds(end_ms=until_ms, series_ids=ids), [seen.time_column], [file])
        except READ_ERRORS:
            # It was rewritten since and deleted, or it is damaged: any of its rows may wait.
            found.append(file.minimum[seen.time_column])
        else:
            if rows.num_rows:
                found.append(int(rows.column(0).to_numpy().min()))
    return min(found, default=None)


def _metadata(due: DueExpiry) -> Mapping[str, Any]:
    return {"expiry": {"series": due.matcher or due.name, "until_ms": due.until_ms}}
