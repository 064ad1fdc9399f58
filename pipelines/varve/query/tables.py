"""Follows the tables samples and series, and gives queries a view of their newest versions."""

from __future__ import annotations

from collections.abc import Sequence

from varve.model.errors import NeedsOperator
from varve.query.head import MAX_ROWS, RecentFiles
from varve.query.row_group_cache import RowGroups
from varve.query.series_index import COLUMNS, IndexBuilder
from varve.query.view import FileTable, Provenance, View
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Follower
from varve.storage.store import Store

# Small files read into memory between two looks at the log.
_FILES_AT_ONCE = 512


class Tables:
    """The two tables, followed by one thread that calls `poll`; `view` is for any thread."""

    def __init__(self, store: Store, queries: Sequence[str], cache_bytes: int) -> None:
        """Opens the tables. queries: names of the ingest queries whose input must be complete.

        Half of cache_bytes is for small files, half for row groups. Raises NeedsOperator if a
        table does not exist.
        """
        self._store = store
        self._queries = tuple(queries)
        self._row_groups = RowGroups(store.filesystem("samples"), cache_bytes // 2)
        self._recent = RecentFiles(self._row_groups.whole, cache_bytes // 2)
        self._known: dict[str, LiveFile] = {}
        self._loose: dict[str, LiveFile] = {}
        self._pending: list[LiveFile] = []
        self._files = FileTable(())
        self._builder = IndexBuilder()
        self._index = self._builder.index()
        self._series_paths: set[str] = set()
        # Samples first: then the series read after them define every sample of the snapshot.
        self._samples = Follower(store, "samples")
        self._series = Follower(store, "series")
        self._update_series()
        self._update_files()
        self.view = self._view()

    @property
    def caught_up(self) -> bool:
        """Whether all small files worth keeping are in memory."""
        return not self._pending

    def close(self) -> None:
        self._row_groups.close()

    def poll(self) -> bool:
        """Looks at the logs once and reads some small files; whether the view has changed.

        OSError or a DeltaError if the storage cannot be reached: the view stays as it was.
        """
        samples, series = self._samples.snapshot, self._series.snapshot
        try:
            changed = self._samples.refresh() is not samples
            changed |= self._series.refresh() is not series
        except NeedsOperator:  # the log has expired past where we were: start from a snapshot
            self._samples = Follower(self._store, "samples")
            self._series = Follower(self._store, "series")
            changed = True
        if self._series.snapshot is not series:
            self._update_series()
        if self._samples.snapshot is not samples:
            self._update_files()
        changed |= self._read_pending()
        if changed:
            self.view = self._view()
        return changed

    def _update_series(self) -> None:
        snapshot = self._series.snapshot
        fresh = [f for f in snapshot.files if f.path not in self._series_paths]
        self._series_paths = {f.path for f in snapshot.files}
        if fresh and self._builder.add(snapshot.scan(Bounds(), COLUMNS, fresh)):
            self._index = self._builder.index()

    def _update_files(self) -> None:
        live = {f.path: f for f in self._samples.snapshot.files}
        fresh = [live[path] for path in live.keys() - self._known.keys()]
        gone = self._known.keys() - live.keys()
        self._known = live
        for path in gone:
            self._loose.pop(path, None)
        fresh += [live[path] for path in self._recent.remove(gone)]
        self._loose.update((f.path, f) for f in fresh)
        self._pending = [f for f in self._pending if f.path in live]
        self._pending += [f for f in fresh if f.rows <= MAX_ROWS]
        self._pending.sort(key=lambda f: f.maximum["ts"])
        if fresh or gone:
            self._files = FileTable(tuple(self._loose.values()))
        # What came just now is asked for first.
        self._read_pending()

    def _read_pending(self) -> bool:
        """Moves the newest pending files from the loose ones into memory."""
        if not self._pending:
            return False
        batch, self._pending = self._pending[-_FILES_AT_ONCE:], self._pending[:-_FILES_AT_ONCE]
        try:
            dropped = self._recent.add(batch)
        except FileNotFoundError:
            return False  # removed and vacuumed since: the next look at the log will say so
        if dropped:
            self._pending = []  # all older than what has just been dropped
        for file in batch:
            self._loose.pop(file.path, None)
        self._loose.update((path, self._known[path]) for path in dropped)
        self._files = FileTable(tuple(self._loose.values()))
        return True

    def _view(self) -> View:
        versions = {f.table.name: f.snapshot.version for f in (self._samples, self._series)}
        complete = [self._samples.position(positions.complete(name)) for name in self._queries]
        return View(
            self._index,
            tuple(self._recent.blocks()),
            self._files,
            self._row_groups,
            Provenance(versions, _least(complete)),
        )


def _least(positions: Sequence[int | None]) -> int | None:
    """None while one of the queries has not said how far it is."""
    known = [position for position in positions if position is not None]
    return min(known) if known and len(known) == len(positions) else None
