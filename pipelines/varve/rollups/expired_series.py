"""Series whose rows in a table expire before those of the others: their windows keep the row they
have, since what they were computed from may have gone.

The marks are positions of the table. Their names say which series they are about, so that they hold
whatever becomes of the settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from varve.model.series_matcher import SeriesMatcher
from varve.rollups.algebra import Ints
from varve.storage import positions
from varve.storage.matched_series import MatchedSeries
from varve.storage.store import Store
from varve.storage.zone_map import Mask


@dataclass(frozen=True)
class ExpiredSeries:
    """Rows of these series up to until_ms may have been deleted."""

    series_ids: Ints
    """Sorted ascending, unique."""
    until_ms: int


def refused_windows(
    marks: Sequence[ExpiredSeries], series_ids: Ints, window_ends: Ints, width_ms: int
) -> Mask:
    """Tells which windows start before a mark of their series; bool, the shape of series_ids."""
    found: Mask = np.zeros(len(series_ids), np.bool_)
    for mark in marks:
        before = np.flatnonzero(window_ends - width_ms < mark.until_ms)
        found[before] |= np.isin(series_ids[before], mark.series_ids)
    return found


class ExpiredSeriesReader:
    """Reads the marks of tables. Not safe to share by threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._matched: MatchedSeries | None = None

    def marks(self, at: Mapping[str, int]) -> tuple[ExpiredSeries, ...]:
        """The marks among a table's positions, beyond that of all series."""
        found = []
        for text, until_ms in positions.expired_classes(at):
            if self._matched is None:
                self._matched = MatchedSeries(self._store)
            ids = self._matched.newest(SeriesMatcher.from_text(text))
            found.append(ExpiredSeries(ids, until_ms))
        return tuple(found)
