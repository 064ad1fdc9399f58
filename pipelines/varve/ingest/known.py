"""The series that have a definition: sorted (series_id, check), for membership of whole blocks.

12 bytes a series. A task keeps one per worker process and follows the log of the table series.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.storage.log import LiveFile, entries
from varve.storage.snapshot import Bounds, Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

UNKNOWN, KNOWN, CONTESTED = 0, 1, 2


class KnownSeries:
    """Members of the table series as of `version`. One id has one check: the first registered."""

    def __init__(self, store: Store) -> None:
        self._table = Table(store, "series")
        self.ids: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.checks: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self.version = self._table.version
        self._add(_identities(self._snapshot(tuple(live_files(self._table)))))

    def advance(self, version: int) -> None:
        """Reads the log up to `version` at least; does nothing if it has been read so far."""
        if version <= self.version:
            return
        self._table.refresh()
        store, seen = self._table.store, self.version
        added = [
            f
            for e in entries(store, "series", seen, self._table.version)
            for f in (*e.adds, *e.rewritten)
        ]
        self.version = self._table.version
        if added:
            self._add(_identities(self._snapshot(tuple(added))))

    def status(
        self, ids: npt.NDArray[np.int64], checks: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int8]:
        """KNOWN, UNKNOWN, or CONTESTED where the id belongs to a series with another check."""
        if not len(self.ids):
            return np.zeros(len(ids), np.int8)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        same = self.ids[at] == ids
        result = np.where(same, CONTESTED, UNKNOWN).astype(np.int8)
        result[same & (self.checks[at] == checks)] = KNOWN
        return result

    def _snapshot(self, files: tuple[LiveFile, ...]) -> Snapshot:
        return Snapshot(self._table.store, "series", self._table.version, files)

    def _add(self, rows: pa.Table) -> None:
        ids = np.concatenate([self.ids, rows.column("series_id").to_numpy()])
        checks = np.concatenate([self.checks, rows.column("check").to_numpy()])
        # Every row of an id has the same check: a contested one is never registered.
        self.ids, first = np.unique(ids, return_index=True)
        self.checks = checks[first]


def _identities(snapshot: Snapshot) -> pa.Table:
    return snapshot.scan(Bounds(), ["series_id", "check"])
