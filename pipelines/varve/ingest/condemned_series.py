"""Series that are condemned but still there: their ids are not free for other series yet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varve.ingest.mapped_runs import CONTESTED, UNKNOWN, Checks, Ids
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.layout import CONDEMNED
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.table import Table


class CondemnedSeries:
    """Follows a handle on the table series, whose version it goes by."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._read_at: int | None = None
        self._ids: Ids = np.empty(0, np.int64)
        self._checks: Checks = np.empty(0, np.int32)

    def contest(self, ids: Ids, checks: Checks, status: npt.NDArray[np.int8]) -> None:
        """Sets the status of unknown series whose id a condemned series with another check has."""
        begun = self._table.position(positions.trim())
        if begun == self._table.position(positions.trimmed()):
            return
        if begun != self._read_at:
            self._read()
            self._read_at = begun
        if not len(self._ids):
            return
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        is_other = (self._ids[at] == ids) & (self._checks[at] != checks)
        status[is_other & (status == UNKNOWN)] = CONTESTED

    def _read(self) -> None:
        files = [file for file in live_files(self._table) if CONDEMNED.wrote(file.path)]
        there = Snapshot(self._table.store, "series", self._table.version, tuple(files))
        rows = there.scan(Bounds(), ["series_id", "check"])
        self._ids, first = np.unique(rows.column("series_id").to_numpy(), return_index=True)
        self._checks = rows.column("check").to_numpy()[first]
