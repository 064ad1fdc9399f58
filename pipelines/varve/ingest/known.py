"""The series that have a definition: sorted (series_id, check), for membership of whole blocks.

12 bytes a series. A task keeps one per worker process and follows the log of the table series.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from varve.storage.log import LiveFile
from varve.storage.snapshot import Bounds, Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

UNKNOWN, KNOWN, CONTESTED = 0, 1, 2

Ids = npt.NDArray[np.int64]
Checks = npt.NDArray[np.int32]

# New series are gathered apart until they are this part of all, and at least so many: adding some
# to 10 M takes as long as adding them to a few, nearly always.
_MERGE_SHARE = 8
_MERGE_FROM = 65_536


class _Sorted:
    """Identities sorted by series_id, each id once."""

    def __init__(self, ids: Ids, checks: Checks) -> None:
        self.ids, self.checks = ids, checks

    def __len__(self) -> int:
        return len(self.ids)

    def with_(self, ids: Ids, checks: Checks) -> _Sorted:
        """And those of `ids`, sorted and each once, that are not in it."""
        at = np.searchsorted(self.ids, ids)
        fresh = np.ones(len(ids), np.bool_)
        if len(self.ids):
            fresh = self.ids[np.minimum(at, len(self.ids) - 1)] != ids
        at = at[fresh]
        return _Sorted(
            np.insert(self.ids, at, ids[fresh]), np.insert(self.checks, at, checks[fresh])
        )

    def mark(self, ids: Ids, checks: Checks, status: npt.NDArray[np.int8]) -> None:
        """Sets the status of those it has."""
        if not len(self.ids):
            return
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        same = np.flatnonzero(self.ids[at] == ids)
        status[same] = np.where(self.checks[at[same]] == checks[same], KNOWN, CONTESTED)


class KnownSeries:
    """Members of the table series as of `version`. One id has one check: the first registered."""

    def __init__(self, store: Store) -> None:
        self._table = Table(store, "series")
        self._all = _Sorted(np.empty(0, np.int64), np.empty(0, np.int32))
        self._recent = self._all
        self.version = self._table.version
        self._read(live_files(self._table))

    def __len__(self) -> int:
        return len(self._all) + len(self._recent)

    def advance(self, version: int | None = None) -> None:
        """Reads the log up to `version` at least, by default the newest; does nothing if it has
        been read so far.
        """
        if version is not None and version <= self.version:
            return
        fresh = self._table.refresh()
        if fresh is None:
            # The log between has expired; what is known already is passed over.
            added = live_files(self._table)
        else:
            added = [f for entry in fresh for f in (*entry.adds, *entry.rewritten)]
        self.version = self._table.version
        self._read(added)

    def status(self, ids: Ids, checks: Checks) -> npt.NDArray[np.int8]:
        """KNOWN, UNKNOWN, or CONTESTED where the id belongs to a series with another check."""
        status = np.full(len(ids), UNKNOWN, np.int8)
        self._all.mark(ids, checks, status)
        self._recent.mark(ids, checks, status)
        return status

    def _read(self, files: Sequence[LiveFile]) -> None:
        if not files:
            return
        snapshot = Snapshot(self._table.store, "series", self._table.version, tuple(files))
        rows = snapshot.scan(Bounds(), ["series_id", "check"])
        # Every row of an id has the same check: a contested one is never registered.
        ids, first = np.unique(rows.column("series_id").to_numpy(), return_index=True)
        checks = rows.column("check").to_numpy()[first]
        unknown = self.status(ids, checks) == UNKNOWN
        self._recent = self._recent.with_(ids[unknown], checks[unknown])
        if len(self._recent) > max(_MERGE_FROM, len(self._all) // _MERGE_SHARE):
            self._all = self._all.with_(self._recent.ids, self._recent.checks)
            self._recent = _Sorted(self._recent.ids[:0], self._recent.checks[:0])
