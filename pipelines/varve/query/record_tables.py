"""Follows the tables of histograms and exemplars, and reads rows of their versions.

They are asked for rarely and are small next to samples. Their files are read whole and kept while
they are small, since there is one every few seconds until they are compacted; of larger ones only
the row groups that a query needs are read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa

from varve.model.errors import NeedsOperator
from varve.model.record_rows import RECORD_TABLES, arranged
from varve.model.schema import table_schema
from varve.promql.kernels.types import I64
from varve.query.memory import ROW_GROUPS, UNBOUNDED, MemoryBudget
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.scan import read_rows
from varve.storage.snapshot import Follower, Snapshot
from varve.storage.store import Store

SMALL_ROWS: Final = 20_000
"""Rows of a file that is read whole and kept."""

_CACHE_BYTES: Final = 64 * 2**20


class RecordFiles:
    """Small files as they were read, the least lately used dropped first. Safe to share."""

    def __init__(self, store: Store, budget: MemoryBudget | None = None) -> None:
        self._store = store
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._kept: OrderedDict[str, pa.Table] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()
        self._budget.add_cache(self._shrink)

    def read(self, table: str, file: LiveFile, bounds: Bounds) -> pa.Table:
        """Rows of a file, of a large one those within bounds. Raises OSError."""
        if file.rows > SMALL_ROWS:
            return read_rows(self._store, table, [file], bounds)
        key = f"{table}/{file.path}"
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return known
        rows = read_rows(self._store, table, [file], Bounds(), threads=1)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = rows
                self._count(rows.nbytes)
                while self._nbytes > _CACHE_BYTES and len(self._kept) > 1:
                    self._drop_oldest()
        return rows

    def _shrink(self, nbytes: int) -> int:
        freed = 0
        with self._lock:
            while self._kept and freed < nbytes:
                freed += self._drop_oldest()
        return freed

    def _drop_oldest(self) -> int:
        _, rows = self._kept.popitem(last=False)
        self._count(-rows.nbytes)
        return int(rows.nbytes)

    def _count(self, nbytes: int) -> None:
        self._nbytes += nbytes
        self._budget.add(ROW_GROUPS, nbytes)


@dataclass(frozen=True)
class RecordView:
    """A version of a record table. Immutable, safe to share."""

    snapshot: Snapshot
    files: RecordFiles

    def most_rows(self, ids: I64, start_ms: int, end_ms: int) -> int:
        """At most how many rows there are of series in (start_ms, end_ms]. ids: sorted."""
        return sum(file.rows for file in self._select(ids, start_ms, end_ms))

    def rows(self, ids: I64, start_ms: int, end_ms: int, check: Callable[[], None]) -> pa.Table:
        """The rows of series in (start_ms, end_ms], sorted by (series_id, ts), each of several
        copies once. ids: sorted. check: called between files. Raises OSError.
        """
        table = self.snapshot.table
        bounds = Bounds(start_ms, end_ms, series_ids=ids)
        parts = []
        for file in self._select(ids, start_ms, end_ms):
            check()
            rows = self.files.read(table, file, bounds)
            times, series = (rows.column(name).to_numpy() for name in ("ts", "series_id"))
            chosen = (times > start_ms) & (times <= end_ms) & np.isin(series, ids)
            if chosen.any():
                parts.append(rows.filter(pa.array(chosen)))
        if not parts:
            return _no_rows(table)
        return arranged(table, pa.concat_tables(parts))

    def rows_within(self, start_ms: int, end_ms: int) -> int:
        """At most how many rows there are in (start_ms, end_ms]."""
        return sum(file.rows for file in self.snapshot.select(Bounds(start_ms, end_ms)))

    def series_within(self, start_ms: int, end_ms: int, check: Callable[[], None]) -> I64:
        """The ids of series with a row in (start_ms, end_ms], each once. check: called between
        files. Raises OSError.
        """
        found = [np.empty(0, np.int64)]
        bounds = Bounds(start_ms, end_ms)
        for file in self.snapshot.select(bounds):
            check()
            rows = self.files.read(self.snapshot.table, file, bounds)
            times, series = (rows.column(name).to_numpy() for name in ("ts", "series_id"))
            found.append(np.unique(series[(times > start_ms) & (times <= end_ms)]))
        return np.unique(np.concatenate(found))

    def _select(self, ids: I64, start_ms: int, end_ms: int) -> list[LiveFile]:
        if not len(ids):
            return []
        return self.snapshot.select(Bounds(start_ms, end_ms, series_ids=ids))


class RecordTables:
    """The record tables, followed by one thread."""

    def __init__(self, store: Store, budget: MemoryBudget | None = None) -> None:
        """Raises OSError if the storage cannot be reached."""
        self._store = store
        self._files = RecordFiles(store, budget)
        self._followers: dict[str, Follower] = {}
        self.views: Mapping[str, RecordView] = {}
        """By table, as of the last look. Without those that do not exist."""
        self.open_missing()
        self.look()

    @property
    def versions(self) -> Mapping[str, int]:
        """By table, the version of its view."""
        return {table: view.snapshot.version for table, view in self.views.items()}

    def open_missing(self) -> None:
        """Looks for tables that did not exist: a home of an earlier release has none."""
        for table in RECORD_TABLES:
            if table not in self._followers:
                try:
                    self._followers[table] = Follower(self._store, table)
                except NeedsOperator:
                    continue

    def look(self) -> bool:
        """Reads what was committed since the last look. Whether anything was."""
        try:
            fresh = {table: f.refresh() for table, f in self._followers.items()}
        except NeedsOperator:  # the log has expired past where we were: start from a snapshot
            self._followers = {}
            self.open_missing()
            fresh = {table: f.snapshot for table, f in self._followers.items()}
        changed = fresh.keys() != self.views.keys() or any(
            snapshot is not self.views[table].snapshot for table, snapshot in fresh.items()
        )
        if changed:
            self.views = {table: self.view(snapshot) for table, snapshot in fresh.items()}
        return changed

    def view(self, snapshot: Snapshot) -> RecordView:
        """The view of a version of one of the tables."""
        return RecordView(snapshot, self._files)


@cache
def _no_rows(table: str) -> pa.Table:
    """Most selections have none: what that is takes longer to make than to find out."""
    return table_schema(table).arrow.empty_table()
