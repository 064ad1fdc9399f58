"""Follows the tables samples and series, and gives queries a view of their newest versions."""

from __future__ import annotations

from collections.abc import Sequence

from varve.model.errors import NeedsOperator
from varve.query.head import MAX_ROWS, Head
from varve.query.row_group_cache import RowGroupCache
from varve.query.series_index import COLUMNS, IndexBuilder
from varve.query.view import FileTable, Provenance, View
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Follower
from varve.storage.store import Store

# Small files read into the head between two looks at the log.
_FILES_AT_ONCE = 512


class Tables:
    """The two tables, followed by the thread that calls `poll`; any thread may read `view`.

    The state beneath `view` belongs to the polling thread. Between two polls this holds:

    - `_live_files` are the files of the samples snapshot, by path.
    - The head holds some of the small ones whole; `_cold_files` are all others. Every live file is
      in exactly one of the two, so a view reads each sample and none twice from the same file.
    - `_load_queue` are those cold files that are small and wait for the head, the newest last.
    - `_cold_table` and `_index` are made from `_cold_files` and from the files `_series_paths`.

    `view` is replaced as a whole once a poll has changed any of it; a view never changes.
    """

    def __init__(self, store: Store, queries: Sequence[str], cache_bytes: int) -> None:
        """Opens the tables. `queries` names the ingest queries whose input must be complete.

        Half of cache_bytes is for small files, half for row groups. Raises NeedsOperator if a
        table does not exist.
        """
        self._store = store
        self._queries = tuple(queries)
        self._row_groups = RowGroupCache(store.filesystem("samples"), cache_bytes // 2)
        self._head = Head(self._row_groups.read_files, cache_bytes // 2)
        self._live_files: dict[str, LiveFile] = {}
        self._cold_files: dict[str, LiveFile] = {}
        self._load_queue: list[LiveFile] = []
        self._cold_table = FileTable(())
        self._builder = IndexBuilder()
        self._index = self._builder.index()
        self._series_paths: set[str] = set()
        # Samples first: then the series read after them define every sample of the snapshot.
        self._samples = Follower(store, "samples")
        self._series = Follower(store, "series")
        self._update_series()
        self._update_files()
        self.view = self._make_view()

    @property
    def caught_up(self) -> bool:
        """Whether all small files worth keeping are in the head."""
        return not self._load_queue

    def close(self) -> None:
        self._row_groups.close()

    def poll(self) -> bool:
        """Looks at the logs once and reads some small files. Returns whether the view has changed.

        Raises OSError or a DeltaError if the storage cannot be reached: the view stays as it was.
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
        changed |= self._load_some()
        if changed:
            self.view = self._make_view()
        return changed

    def _update_series(self) -> None:
        """Adds what the files of the newest snapshot define to the index."""
        snapshot = self._series.snapshot
        fresh = [f for f in snapshot.files if f.path not in self._series_paths]
        self._series_paths = {f.path for f in snapshot.files}
        if fresh and self._builder.add(snapshot.scan(Bounds(), COLUMNS, fresh)):
            self._index = self._builder.index()

    def _update_files(self) -> None:
        """Moves from the files of the last snapshot to those of the newest."""
        live = {f.path: f for f in self._samples.snapshot.files}
        fresh = [live[path] for path in live.keys() - self._live_files.keys()]
        gone = self._live_files.keys() - live.keys()
        self._live_files = live
        for path in gone:
            self._cold_files.pop(path, None)
        fresh += [live[path] for path in self._head.remove(gone)]
        self._cold_files.update((f.path, f) for f in fresh)
        self._load_queue = [f for f in self._load_queue if f.path in live]
        self._load_queue += [f for f in fresh if f.rows <= MAX_ROWS]
        self._load_queue.sort(key=lambda f: f.maximum["ts"])
        if fresh or gone:
            self._cold_table = FileTable(tuple(self._cold_files.values()))
        # What came just now is asked for first.
        self._load_some()

    def _load_some(self) -> bool:
        """Moves the newest queued files into the head. Returns whether any was moved."""
        if not self._load_queue:
            return False
        batch = self._load_queue[-_FILES_AT_ONCE:]
        self._load_queue = self._load_queue[:-_FILES_AT_ONCE]
        try:
            dropped = self._head.add(batch)
        except FileNotFoundError:
            return False  # removed and vacuumed since: the next look at the log will say so
        if dropped:
            self._load_queue = []  # all older than what the head has just dropped
        for file in batch:
            self._cold_files.pop(file.path, None)
        self._cold_files.update((path, self._live_files[path]) for path in dropped)
        self._cold_table = FileTable(tuple(self._cold_files.values()))
        return True

    def _make_view(self) -> View:
        versions = {f.table.name: f.snapshot.version for f in (self._samples, self._series)}
        complete = [self._samples.position(positions.complete(name)) for name in self._queries]
        return View(
            self._index,
            tuple(self._head.sorted_runs()),
            self._cold_table,
            self._row_groups,
            Provenance(versions, _least(complete)),
        )


def _least(complete_ms: Sequence[int | None]) -> int | None:
    """The least of them; None while one of the queries has not said how far it is."""
    known = [at_ms for at_ms in complete_ms if at_ms is not None]
    return min(known) if known and len(known) == len(complete_ms) else None
