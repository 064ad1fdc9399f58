"""Which series have rows in any table at all."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from varve.model.errors import NeedsOperator
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.schema import TABLES, table_schema
from varve.model.window import TIERS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot, base_name, snapshot
from varve.storage.store import Store
from varve.storage.table import Table
from varve.storage.unreadable import READ_ERRORS, find_unreadable
from varve.storage.zone_map import Ints

log = logging.getLogger(__name__)

_SOURCES = (SAMPLES, *RECORD_TABLES, *(tier.table for tier in TIERS))
_HOURS, _DAYS = TIERS[-2], TIERS[-1]


# A series has fits as long as it has a definition, be it to say that there was nothing to fit.
_BY_DEFINITION = frozenset({"series", "forecast_fits"})


def _is_about_series(name: str) -> bool:
    return name not in _BY_DEFINITION and "series_id" in table_schema(name).names()


HOLDERS = (*_SOURCES, *(n for n in TABLES if n not in _SOURCES and _is_about_series(n)))
"""The tables with rows of series. What rows are computed from comes before them: rows that are
rolled up and expire meanwhile are met in one of the two."""


class SeriesWithoutRows:
    """Finds series without any row. Files never change, so an object reads each once: it may be
    asked again, for fewer series, and then reads what has come since.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: set[tuple[str, str]] = set()

    def unseen(self, ids: Ints) -> Ints:
        """Those of the ids (sorted) without a row of a day, or of an hour since the last day that
        is closed: cheap, and nearly all that live are seen there.
        """
        ids = self._without(_DAYS.table, Bounds(), ids)
        closed = _frontier(self._store)
        return self._without(_HOURS.table, Bounds(start_ms=closed), ids)

    def among(self, ids: Ints) -> Ints:
        """Those of the ids (sorted) without a row in any table, in any root.

        A file that cannot be read counts as one of all series within its bounds. Raises OSError
        if the storage fails.
        """
        for name in HOLDERS:
            if len(ids):
                ids = self._without(name, Bounds(), ids)
        return ids

    def _without(self, name: str, bounds: Bounds, ids: Ints) -> Ints:
        try:
            seen = snapshot(self._store, name)
        except NeedsOperator:
            return ids  # there is no such table
        for file in self._fresh(name, seen.select(bounds)):
            if not len(ids):
                break
            ids = ids[~_is_in(seen, file, ids)]
            self._read.add((name, base_name(file.path)))
        return ids

    def _fresh(self, name: str, files: Iterable[LiveFile]) -> list[LiveFile]:
        return [file for file in files if (name, base_name(file.path)) not in self._read]


def _is_in(seen: Snapshot, file: LiveFile, ids: Ints) -> np.ndarray:
    """Which of the ids a file has rows of."""
    low, high = file.minimum.get("series_id"), file.maximum.get("series_id")
    found = np.ones(len(ids), np.bool_)
    if low is not None and high is not None:
        found = (ids >= low) & (ids <= high)
    if not found.any():
        return found
    try:
        within = Bounds(series_ids=ids[found])
        rows = seen.scan(within, ["series_id"], [file], threads=1).column(0)
    except READ_ERRORS:
        broken = find_unreadable(seen.store, seen.table, [file])
        if not broken:
            raise
        log.warning("%s: it may have rows of any series, so none is trimmed for it", broken[0])
        return found
    return np.isin(ids, np.unique(rows.to_numpy()), assume_unique=True)


def _frontier(store: Store) -> int | None:
    return Table(store, _DAYS.table).position(positions.frontier(_DAYS.name))
