"""Views of earlier versions of the tables, opened when they are asked for and kept a while.

An answer from such a view is the one that was given when its versions were the newest: what is
read, and from which tiers, follows from the versions alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from varve.model.clock import utc_text
from varve.model.errors import NeedsOperator
from varve.model.window import TIERS, Tier
from varve.promql.errors import ErrorType, QueryError
from varve.query.derived_tables import DerivedView
from varve.query.file_table import FileTable
from varve.query.memory import INDEX, UNBOUNDED, MemoryBudget
from varve.query.provenance import Provenance
from varve.query.record_tables import RecordView
from varve.query.series_groups import marks_of
from varve.query.series_index import COLUMNS, IndexBuilder, SeriesIndex
from varve.query.tier_tables import tier_view
from varve.query.tier_view import TierView
from varve.query.view import View
from varve.rollups.late_ranges import LateRanges
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import entries, list_versions
from varve.storage.snapshot import Snapshot, colder_versions, snapshot_of
from varve.storage.state import State, load
from varve.storage.store import COLDER, Store

_MOST = 4
"""Views that are kept at once. Each may hold an index of series of its own."""

Key = tuple[tuple[str, int], ...]


class GoneError(QueryError):
    """The snapshot is past the horizon: its log or its files have been deleted."""

    error_type: ClassVar[ErrorType] = "gone"


@dataclass(frozen=True, slots=True)
class _Kept:
    view: View
    index_bytes: int


class Snapshots:
    """Safe to use from any thread. One view is opened at a time."""

    def __init__(
        self,
        store: Store,
        queries: Sequence[str],
        current: Callable[[], View | None],
        budget: MemoryBudget | None = None,
    ) -> None:
        """queries: as for Tables. current: the newest view, whose caches and index are shared."""
        self._store = store
        self._queries = tuple(queries)
        self._current = current
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def at(self, versions: Mapping[str, int]) -> View:
        """The view of some versions by table. GoneError if one of them cannot be read any more or
        is not there yet.
        """
        newest = self._current()
        if newest is None:
            raise GoneError("the tables are not open yet")
        if dict(newest.provenance.versions) == dict(versions):
            return newest
        key = tuple(sorted(versions.items()))
        with self._lock:
            held = self._kept.get(key)
            if held is None:
                held = self._open(versions, newest)
                self._kept[key] = held
                while len(self._kept) > _MOST:
                    _, gone = self._kept.popitem(last=False)
                    self._budget.add(INDEX, -gone.index_bytes)
            self._kept.move_to_end(key)
            return held.view

    def before(self, time_ms: int) -> View:
        """The view of what was committed up to a time, Unix ms. GoneError as `at`."""
        newest = self._current()
        if newest is None:
            raise GoneError("the tables are not open yet")
        return self.at(
            {
                table: self._version_at(table, version, time_ms)
                for table, version in newest.provenance.versions.items()
            }
        )

    def _version_at(self, table: str, newest: int, time_ms: int) -> int:
        """The last version of a table that was committed up to a time."""
        root, name = self._store.place(table)
        kept = [version for version in list_versions(root, name) if version <= newest]
        if not kept:
            raise GoneError(f"{table} has no log any more")
        low, high = 0, len(kept)
        while low < high:  # the first that was committed later
            middle = (low + high) // 2
            if _committed_ms(root, name, kept[middle]) <= time_ms:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            horizon = utc_text(_committed_ms(root, name, kept[0]))
            raise GoneError(
                f"as of {utc_text(time_ms)} there is nothing to read: the log of {table} begins at"
                f" {horizon}"
            )
        return kept[low - 1]

    def _open(self, versions: Mapping[str, int], newest: View) -> _Kept:
        states = {
            table: self._state(table, version)
            for table, version in versions.items()
            if not table.startswith(COLDER)
        }
        snapshots = {
            table: self._snapshot(table, state, colder_versions(table, versions))
            for table, state in states.items()
        }
        samples = snapshots["samples"]
        index, index_bytes = self._index(snapshots["series"], newest)
        held = states["samples"].positions
        expired_ms = held.get(positions.expired())
        files = FileTable(samples.files)
        view = View(
            index,
            (),
            files,
            files,
            newest.row_groups,
            Provenance(dict(versions), self._complete_until(held)),
            tuple(self._tiers(states, snapshots, expired_ms)),
            newest.rollups,
            expired_ms,
            marks_of(held),
            records={
                table: RecordView(snapshots[table], view.files)
                for table, view in newest.records.items()
                if table in snapshots
            },
            derived=DerivedView(
                {t: snapshots[t] for t in newest.derived.snapshots if t in snapshots},
                newest.derived.calendar,
            ),
            is_earlier=True,
            said=newest.said,
        )
        self._budget.add(INDEX, index_bytes)
        return _Kept(view, index_bytes)

    def _tiers(
        self,
        states: Mapping[str, State],
        snapshots: Mapping[str, Snapshot],
        expired_ms: int | None,
    ) -> Sequence[TierView]:
        views: list[TierView] = []
        source = snapshots["samples"]
        for tier in TIERS:
            state = states.get(tier.table)
            if state is None:
                break
            snapshot = snapshots[tier.table]
            view = self._tier(tier, state, snapshot, source, views, expired_ms)
            if view is None:
                break
            views.append(view)
            source = snapshot
            expired_ms = state.positions.get(positions.expired())
        return views

    def _tier(
        self,
        tier: Tier,
        state: State,
        snapshot: Snapshot,
        source: Snapshot,
        below: Sequence[TierView],
        expired_ms: int | None,
    ) -> TierView | None:
        frontier = state.positions.get(positions.frontier(tier.name))
        if frontier is None:
            return None
        late = LateRanges(self._store, tier)
        late.start(
            source, state.positions.get(positions.source(tier.name)), state.version, frontier
        )
        pending = below[-1].pending if below else ()
        return tier_view(tier, snapshot, frontier, late, pending, expired_ms, state.positions)

    def _state(self, table: str, version: int) -> State:
        try:
            state = load(self._store, table, version=version)
        except NeedsOperator as err:
            text = f"version {version} of {table} is not there: {self._horizon(table, err)}"
            raise GoneError(text) from err
        if state is None:
            raise GoneError(f"there is no table {table}")
        return state

    def _horizon(self, table: str, err: NeedsOperator) -> str:
        kept = list_versions(self._store, table)
        if not kept:
            return str(err)
        since = utc_text(_committed_ms(self._store, table, kept[0]))
        return f"its log has versions {kept[0]} (of {since}) to {kept[-1]}"

    def _snapshot(self, table: str, state: State, colder: Sequence[int]) -> Snapshot:
        try:
            return snapshot_of(self._store, table, state, colder)
        except NeedsOperator as err:
            raise GoneError(f"a colder root no longer has that version of {table}: {err}") from err

    def _index(self, snapshot: Snapshot, newest: View) -> tuple[SeriesIndex, int]:
        """The series of a version, and the bytes that they take beside the newest view's."""
        if snapshot.version == newest.provenance.versions["series"]:
            return newest.index, 0
        builder = IndexBuilder()
        if snapshot.files:
            builder.add(snapshot.scan(Bounds(), COLUMNS))
        index = builder.index()
        return index, index.nbytes

    def _complete_until(self, held: Mapping[str, int]) -> int | None:
        complete = [held.get(positions.complete(query)) for query in self._queries]
        known = [at_ms for at_ms in complete if at_ms is not None]
        return min(known) if known and len(known) == len(complete) else None


def _committed_ms(root: Store, table: str, version: int) -> int:
    (entry,) = entries(root, table, version - 1, version)
    return entry.timestamp_ms or 0
