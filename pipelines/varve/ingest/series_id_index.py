"""The series that have a definition, for membership of whole blocks: 12 bytes each, once a machine.

Series that are condemned, as no table has a row of them any more, are no members: one that comes
back is registered again. See varve.maintenance.series_trimming.

Processes follow the log of the table series by files that they share: varve.ingest.mapped_runs.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from varve.ingest.mapped_runs import (
    UNKNOWN,
    Checks,
    Ids,
    Run,
    RunFolder,
    status_in,
)
from varve.model.errors import NeedsOperator
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.layout import CONDEMNED
from varve.storage.log import LiveFile, entries, file_name
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

SeriesKey = tuple[int, int]
"""(series_id, check) of a series."""

# Series read from the table at once: bounds the memory of a build, at about 100 MB.
_PART = 2_000_000


class SeriesIdIndex:
    """Members of the table series as of `version`. One id has one check: the first registered."""

    def __init__(self, store: Store, scratch: str = "") -> None:
        """scratch: as in RunFolder."""
        self._table = Table(store, "series")
        self._folder = RunFolder(store, scratch)
        self._runs: tuple[Run, ...] = ()
        self._verified = False
        self.version = -1
        self._follow()

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def advance(self, version: int | None = None) -> None:
        """Reads the log up to `version` at least, by default the newest; does nothing if it has
        been read so far.
        """
        if version is not None and version <= self.version:
            return
        self._table.refresh()
        if self._table.version > self.version:
            self._follow()

    def status(self, ids: Ids, checks: Checks) -> npt.NDArray[np.int8]:
        """KNOWN, UNKNOWN, or CONTESTED where the id belongs to a series with another check."""
        return status_in(self._runs, ids, checks)

    def _follow(self) -> None:
        """Moves to the table's version; beyond it, if others of the machine are."""
        with self._folder.locked():
            runs = self._folder.open(self._runs)
            if runs and not self._verified and not self._of_this_table(runs[-1]):
                # The table was put back to an earlier state, or made anew.
                self._folder.clear()
                runs = ()
            end = runs[-1].last if runs else -1
            # Commits without new series are read by every process, and then by the next run.
            if end < self._table.version:
                added = self._added(end)
                if added is None:
                    self._folder.clear()
                    runs, added = (), self._registered()
                parts = self._unknown(runs, added)
                first = next(parts, None)
                if first is not None:
                    version = self._table.version
                    runs = self._folder.add(
                        runs,
                        itertools.chain([first], parts),
                        version,
                        self._fingerprint(version),
                    )
        self._runs, self._verified = runs, True
        self.version = max(end, self._table.version)

    def _of_this_table(self, run: Run) -> bool:
        try:
            return run.last <= self._table.version and self._fingerprint(run.last) == (
                run.fingerprint
            )
        except FileNotFoundError:
            return False  # the log is not kept that long: nobody knows

    def _fingerprint(self, version: int) -> bytes:
        body = self._table.store.read("series", file_name(version))
        return hashlib.blake2b(body, digest_size=16).hexdigest().encode()

    def _added(self, after: int) -> Sequence[LiveFile] | None:
        """Files that may hold series registered after a version; -1: all. None if series were
        condemned since, or the log has expired, so that it cannot be told.
        """
        if after < 0:
            return self._registered()
        try:
            log = list(entries(self._table.store, "series", after, self._table.version))
        except NeedsOperator:
            return None
        if any(positions.trim() in entry.positions for entry in log):
            return None
        files = [file for entry in log for file in entry.adds]
        # What was rewritten was there before, but for condemned series of which rows were found.
        spared = [entry for entry in log if positions.trimmed() in entry.positions]
        return [*files, *(file for entry in spared for file in entry.replacements)]

    def _registered(self) -> Sequence[LiveFile]:
        """All files but those of condemned series."""
        return [file for file in live_files(self._table) if not CONDEMNED.wrote(file.path)]

    def _unknown(
        self, runs: Sequence[Run], files: Sequence[LiveFile]
    ) -> Iterator[tuple[Ids, Checks]]:
        """Series of the files that no run has, in parts sorted by id."""
        for some in _in_parts(files):
            snapshot = Snapshot(self._table.store, "series", self._table.version, tuple(some))
            rows = snapshot.scan(Bounds(), ["series_id", "check"])
            # Every row of an id has the same check: a contested one is never registered.
            ids, first = np.unique(rows.column("series_id").to_numpy(), return_index=True)
            checks = rows.column("check").to_numpy()[first]
            fresh = status_in(runs, ids, checks) == UNKNOWN
            if fresh.any():
                yield ids[fresh], checks[fresh]


def _in_parts(files: Sequence[LiveFile]) -> Iterator[list[LiveFile]]:
    part: list[LiveFile] = []
    rows = 0
    for file in files:
        part.append(file)
        rows += file.rows
        if rows >= _PART:
            yield part
            part, rows = [], 0
    if part:
        yield part
