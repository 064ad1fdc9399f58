"""Which series are alive. The rollups know already: a series has a row of rollup_1h for each hour
in which it had samples, so when it was last seen is kept nowhere else.

Time is that of the rollups: it stands still while they do, and no series goes out of sight because
nobody looked. Source: docs/adr/0010-last-seen-comes-from-the-rollups.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from varve.model.errors import NeedsOperator
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Follower, Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.unreadable import READ_ERRORS, find_unreadable

log = logging.getLogger(__name__)

_HOURS = "rollup_1h"
# Rows of a file held at once: bounds memory, at about 100 MB.
_ROWS = 1_000_000

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Census:
    """The active series by metric, counted from version `version` of the table series.

    A series is active if it has a sample in an hour that ended after since_ms, or was registered
    after it. since_ms is None if no hour is closed yet: then every series counts.
    """

    version: int
    since_ms: int | None
    active: Counter[str]
    registered: int


class RecentHours:
    """The recent closed hours: those that ended after since_ms; None if no hour is closed yet."""

    def __init__(self, store: Store, active_ms: int) -> None:
        """active_ms: how far before the end of the last closed hour the first of them begins."""
        self.since_ms: int | None = None
        try:
            follower = Follower(store, _HOURS)
        except NeedsOperator:
            return  # there are no rollups yet
        frontier = follower.position(positions.frontier("1h"))
        if frontier is not None:
            self.since_ms = frontier - active_ms
            self._snapshot = follower.snapshot

    def saw(self, ids: Ids) -> Flags:
        """Whether each of the ids (sorted) had a sample in one of the hours; all had if no hour is
        closed.
        """
        if self.since_ms is None:
            return np.ones(len(ids), np.bool_)
        seen = np.zeros(len(ids), np.bool_)
        if not len(ids):
            return seen
        files = self._snapshot.select(Bounds(start_ms=self.since_ms))
        for file in sorted(files, key=lambda f: -f.maximum["window_end"]):
            if seen.all():
                break
            try:
                self._see(file, ids, seen)
            except READ_ERRORS:
                unreadable = find_unreadable(self._snapshot.store, _HOURS, [file])
                if not unreadable:
                    raise
                log.warning("%s: series that only it has seen count as inactive", unreadable[0])
        return seen

    def _see(self, file: LiveFile, ids: Ids, seen: Flags) -> None:
        """Sets the flags of those ids that a file has in the hours."""
        for rows in _batches(self._snapshot, file, ["series_id", "window_end"]):
            is_recent = rows.column("window_end").to_numpy() > self.since_ms
            found = _distinct(rows.column("series_id").to_numpy()[is_recent])
            at = np.minimum(np.searchsorted(ids, found), len(ids) - 1)
            seen[at[ids[at] == found]] = True


def census(store: Store, active_ms: int) -> Census:
    """Counts the active series. active_ms: as in RecentHours. Raises NeedsOperator if there is no
    table series.
    """
    series, hours = snapshot(store, "series"), RecentHours(store, active_ms)
    read = [batch.column(0).to_numpy() for batch in _all(series, ["series_id"])]
    ids = _distinct(np.concatenate([np.empty(0, np.int64), *read]))
    seen, counted = hours.saw(ids), np.zeros(len(ids), np.bool_)
    active: Counter[str] = Counter()
    for rows in _all(series, ["series_id", "last_seen", "metric"]):
        at = np.searchsorted(ids, rows.column("series_id").to_numpy())
        alive = seen[at] & ~counted[at]
        if hours.since_ms is not None:
            alive |= (rows.column("last_seen").to_numpy() > hours.since_ms) & ~counted[at]
        counted[at[alive]] = True
        metrics = rows.column("metric")
        names, codes = metrics.dictionary.to_pylist(), metrics.indices.to_numpy()[alive]
        numbers = np.bincount(codes, minlength=len(names)).tolist()
        active.update({name: n for name, n in zip(names, numbers, strict=True) if n})
    return Census(series.version, hours.since_ms, active, len(ids))


def _distinct(ids: Ids) -> Ids:
    """The ids sorted, each once. np.unique hashes, which takes five times as long for so many."""
    ascending = np.sort(ids)
    return ascending[np.append(True, ascending[1:] != ascending[:-1])[: len(ids)]]


def _all(table: Snapshot, columns: list[str]) -> Iterator[pa.RecordBatch]:
    for file in table.files:
        yield from _batches(table, file, columns)


def _batches(table: Snapshot, file: LiveFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with table.store.open_file(table.table, file.path) as source:
        names = [c for c in columns if c == "metric"]
        yield from pq.ParquetFile(source, read_dictionary=names).iter_batches(
            _ROWS, columns=columns
        )
