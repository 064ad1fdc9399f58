"""Follows the tables, and gives queries a view of their newest versions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from varve.model.errors import NeedsOperator
from varve.query.decoded_files import DecodedFiles
from varve.query.file_table import FileTable
from varve.query.head import MAX_ROWS, Head
from varve.query.load_queue import LoadQueue
from varve.query.memory import MemoryBudget
from varve.query.provenance import Provenance
from varve.query.rollup_groups import RollupGroups
from varve.query.row_group_cache import RowGroupCache
from varve.query.series_groups import marks_of
from varve.query.series_index import COLUMNS, IndexBuilder
from varve.query.tier_tables import TierTables
from varve.query.view import View
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile, LogEntry
from varve.storage.snapshot import Follower, Snapshot
from varve.storage.store import Store

# Small files read into the head between two looks at the log.
_FILES_AT_ONCE = 512
# Their rows, which take 24 bytes each while they are merged.
_ROWS_AT_ONCE = 2_000_000

log = logging.getLogger(__name__)


class Tables:
    """The tables, followed by the thread that calls `poll`; any thread may read `view`.

    The state beneath `view` belongs to the polling thread. Between two polls this holds:

    - `_live_files` are the files of the samples snapshot that was applied last, by path.
    - The head holds some of the small ones whole; `_cold_files` are all others. Every live file is
      in exactly one of the two, so a view reads each file's samples once.
    - `_load_queue` has those cold files that are small and wait for the head.
    - `_cold_table` and `_index` are made from `_cold_files` and from the files `_series_paths`.

    Whatever raises leaves this as it was, so the next poll does what this one could not. `view` is
    replaced as a whole once a poll has changed any of it; a view never changes.
    """

    def __init__(
        self,
        store: Store,
        queries: Sequence[str],
        cache_bytes: int,
        budget: MemoryBudget | None = None,
        tiers_every_s: float = 0.0,
    ) -> None:
        """Opens the tables. `queries` names the ingest queries whose input must be complete.
        tiers_every_s lies at least between two looks at the rollup tables.

        Half of cache_bytes is for the head, half for row groups; what is held is counted in
        `budget`. Raises NeedsOperator if a table does not exist, OSError if the
        storage cannot be reached.
        """
        self._store = store
        self._queries = tuple(queries)
        self._decoded = DecodedFiles(store.open_file, cache_bytes // 2, budget)
        self._row_groups = RowGroupCache(self._decoded)
        self._head = Head(self._row_groups.read_files, cache_bytes // 2, budget)
        self._live_files: dict[str, LiveFile] = {}
        self._cold_files: dict[str, LiveFile] = {}
        self._load_queue = LoadQueue()
        self._cold_table = FileTable(())
        self._builder = IndexBuilder(budget)
        self._index = self._builder.index()
        self._series_paths: set[str] = set()
        self._unseen: list[LogEntry] | None = None
        """Commits to samples that the tiers have not taken notice of; None if not all are known."""
        self._applied: dict[str, Snapshot] = {}
        """By table, the snapshot that the state was made from."""
        # The widest rows first, then what they were made of, then series: so all that rows were
        # computed from is in the samples, and series define every sample.
        self._tiers_every_s, self._tiers_looked_s = tiers_every_s, time.monotonic()
        self._tiers = TierTables(store)
        self._samples = Follower(store, "samples")
        self._series = Follower(store, "series")
        self._apply_series()
        self._apply_samples()
        self._apply_tiers()
        self._load_some()
        self.view = self._make_view()

    @property
    def caught_up(self) -> bool:
        """Whether all small files worth keeping, and readable now, are in the head."""
        return not self._load_queue.is_due

    def close(self) -> None:
        self._decoded.close()

    def poll(self) -> bool:
        """Looks at the logs once and reads some small files. Returns whether the view has changed.

        Raises OSError if the storage cannot be reached: the view stays as it was. A
        small file that cannot be read is no error here; queries that need it will meet it.
        """
        try:
            if time.monotonic() - self._tiers_looked_s >= self._tiers_every_s:
                self._tiers_looked_s = time.monotonic()
                self._tiers.look()
            entries = self._samples.follow()
            self._unseen = None if entries is None else [*(self._unseen or []), *entries]
            self._series.refresh()
        except NeedsOperator:  # the log has expired past where we were: start from a snapshot
            self._tiers = TierTables(self._store)
            self._samples = Follower(self._store, "samples")
            self._series = Follower(self._store, "series")
            self._unseen = None
        changed = self._apply_series()
        changed |= self._apply_samples()
        changed |= self._apply_tiers()
        changed |= self._load_some()
        if changed:
            self.view = self._make_view()
        return changed

    def _apply_series(self) -> bool:
        """Adds what new files of the newest snapshot define to the index. Whether it is newer."""
        snapshot = self._series.snapshot
        if snapshot is self._applied.get("series"):
            return False
        fresh = [f for f in snapshot.files if f.path not in self._series_paths]
        rows = snapshot.scan(Bounds(), COLUMNS, fresh)
        if fresh and self._builder.add(rows):
            self._index = self._builder.index()
        self._series_paths = {f.path for f in snapshot.files}
        self._applied["series"] = snapshot
        return True

    def _apply_samples(self) -> bool:
        """Moves to the files of the newest snapshot. Whether it is newer."""
        snapshot = self._samples.snapshot
        if snapshot is self._applied.get("samples"):
            return False
        live = {f.path: f for f in snapshot.files}
        fresh = [live[path] for path in live.keys() - self._live_files.keys()]
        gone = self._live_files.keys() - live.keys()
        self._live_files = live
        for path in gone:
            self._cold_files.pop(path, None)
        fresh += [live[path] for path in self._head.remove(gone)]
        self._cold_files.update((f.path, f) for f in fresh)
        self._load_queue.keep(live.keys())
        self._load_queue.put(f for f in fresh if f.rows <= MAX_ROWS)
        if fresh or gone:
            self._cold_table = FileTable(tuple(self._cold_files.values()))
        self._applied["samples"] = snapshot
        return True

    def _apply_tiers(self) -> bool:
        """Moves to the newest versions of the tiers. Whether any of them is newer."""
        snapshot = self._samples.snapshot
        expired_ms = self._samples.position(positions.expired())
        changed = self._tiers.apply(snapshot, self._unseen, expired_ms)
        self._unseen = []
        return changed

    def _load_some(self) -> bool:
        """Moves the newest queued files into the head. Returns whether any was moved."""
        batch = self._load_queue.take(_FILES_AT_ONCE, _ROWS_AT_ONCE)
        if not batch:
            return False
        try:
            dropped = self._head.add(batch)
        except OSError as err:  # perhaps removed and vacuumed: the next look at the log will say so
            log.warning("cannot read %d small files into memory yet: %s", len(batch), err)
            self._load_queue.failed(batch)
            return False
        self._load_queue.loaded(batch)
        if dropped:  # older ones would be dropped at once
            self._load_queue.drop_older(max(self._live_files[p].maximum["ts"] for p in dropped))
        for file in batch:
            self._cold_files.pop(file.path, None)
        self._cold_files.update((path, self._live_files[path]) for path in dropped)
        self._cold_table = FileTable(tuple(self._cold_files.values()))
        return True

    def _make_view(self) -> View:
        versions = {name: snapshot.version for name, snapshot in self._applied.items()}
        complete = [self._samples.position(positions.complete(name)) for name in self._queries]
        return View(
            self._index,
            tuple(self._head.sorted_runs()),
            self._cold_table,
            FileTable(self._applied["samples"].files),
            self._row_groups,
            Provenance({**versions, **self._tiers.versions}, _least(complete)),
            self._tiers.views,
            RollupGroups(self._decoded),
            self._samples.position(positions.expired()),
            marks_of(self._samples.table.positions()),
        )


def _least(complete_ms: Sequence[int | None]) -> int | None:
    """The least of them; None while one of the queries has not said how far it is."""
    known = [at_ms for at_ms in complete_ms if at_ms is not None]
    return min(known) if known and len(known) == len(complete_ms) else None
