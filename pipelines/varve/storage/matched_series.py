"""Ids of the registered series that a matcher means: ids alone do not tell one metric from all
others, so they are looked up in the table series.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from varve.model.identity import id_range
from varve.model.series_matcher import SeriesMatcher
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table
from varve.storage.zone_map import Ints

_COLUMNS = ("series_id", "metric", "tags")


class MatchedSeries:
    """Remembers what it has looked up: a process keeps one for each root. Not safe to share between
    threads.
    """

    def __init__(self, store: Store) -> None:
        """Raises NeedsOperator if there is no table series."""
        self._table = Table(store, "series")
        self._ids: dict[SeriesMatcher, Ints] = {}

    def newest(self, matcher: SeriesMatcher) -> Ints:
        """Ids of all series that are registered by now, sorted."""
        self._refresh()
        return self._of(matcher)

    def of(self, matcher: SeriesMatcher, version: int) -> Ints:
        """Ids, sorted, as of `version` of the table series or later."""
        if version > self._table.version:
            self._refresh()
        return self._of(matcher)

    def _of(self, matcher: SeriesMatcher) -> Ints:
        if matcher not in self._ids:
            self._ids[matcher] = np.unique(self._read(matcher, live_files(self._table)))
        return self._ids[matcher]

    def _refresh(self) -> None:
        fresh = self._table.refresh()
        if fresh is None or any(entry.loses_rows for entry in fresh):
            self._ids = {}  # what is no longer there is not to be held
        else:
            added = [file for entry in fresh for file in entry.adds]
            for matcher, ids in self._ids.items():
                self._ids[matcher] = np.union1d(ids, self._read(matcher, added))

    def _read(self, matcher: SeriesMatcher, files: Sequence[LiveFile]) -> Ints:
        metric, store = matcher.metric, self._table.store
        bounds = Bounds() if metric is None else Bounds(series=id_range(metric))
        there = Snapshot(store, "series", self._table.version, tuple(files))
        found = [np.empty(0, np.int64)]
        for file in there.select(bounds):  # one at a time, as labels take far more than ids
            rows: pa.Table = there.scan(bounds, _COLUMNS, [file], threads=1)
            found.append(rows.filter(matcher.select(rows))["series_id"].to_numpy())
        return np.concatenate(found)
