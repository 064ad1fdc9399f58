"""Follows the tables, and gives queries a view of their newest versions."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.errors import NeedsOperator
from varve.promql.kernels.types import I64
from varve.query.changes import Changes
from varve.query.decoded_files import DecodedFiles
from varve.query.derived_tables import DerivedTables
from varve.query.file_table import FileTable
from varve.query.head import Head
from varve.query.head_series import HeadSeries
from varve.query.kept_footers import KeptFooters
from varve.query.load_queue import LoadQueue
from varve.query.memory import MemoryBudget
from varve.query.provenance import Provenance
from varve.query.record_tables import RecordTables
from varve.query.rollup_groups import RollupGroups
from varve.query.row_group_cache import RowGroupCache
from varve.query.sample_columns import SampleColumns
from varve.query.series_groups import marks_of
from varve.query.series_index import COLUMNS, IndexBuilder
from varve.query.tier_tables import TierTables
from varve.query.view import View
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.file_set import FileSet
from varve.storage.log import LiveFile, LogEntry
from varve.storage.metric_metadata import MetricMetadata
from varve.storage.snapshot import Follower, Snapshot
from varve.storage.store import Store

# Files read into the head between two looks at the log.
_FILES_AT_ONCE = 512
# Their rows.
_ROWS_AT_ONCE = 2_000_000

log = logging.getLogger(__name__)


class Tables:
    """The tables, followed by the thread that calls `poll`; any thread may read `view`.

    The state beneath `view` belongs to the polling thread. Between two polls this holds:

    - `_live_files` are the files of the samples snapshot that was applied last, by path.
    - The head holds some of them whole; `_cold_files` are all others. Every live file is in exactly
      one of the two. The head may have rows of a cold file, too: a sample that is read twice is
      one sample.
    - `_load_queue` has those cold files that wait for the head.
    - `_index` is made from the files `_series_paths`.

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
        head_series: HeadSeries | None = None,
        calendar: Calendar = NO_HOLIDAYS,
        footers: KeptFooters | None = None,
    ) -> None:
        """Opens the tables. `queries` names the ingest queries whose input must be complete.
        tiers_every_s lies at least between two looks at tables other than samples and series.
        head_series: the series whose samples the head has, all if that is None. calendar: that
        baselines are computed by. footers: of files, on disk.

        Half of cache_bytes is for the head, half for row groups; what is held is counted in
        `budget`. Raises NeedsOperator if a table does not exist, OSError if the
        storage cannot be reached.
        """
        self._store = store
        self._queries = tuple(queries)
        self._decoded = DecodedFiles(store.open_file, cache_bytes // 2, budget, footers=footers)
        self._row_groups = RowGroupCache(self._decoded)
        self._budget, self._head_bytes = budget, cache_bytes // 2
        self._head_series = head_series
        self._head_ids: I64 | None = None
        """Of `_head_series`, by the index; every file was read for those that were known then, and
        a series is known before its first sample is stored."""
        self._head = self._empty_head()
        self._live_files: dict[str, LiveFile] = {}
        self._cold_files = FileSet((), "ts")
        self._load_queue = LoadQueue()
        self._changes = Changes(0)
        self._builder = IndexBuilder(budget)
        self._index = self._builder.index()
        self._series_paths: set[str] = set()
        self._trimmed: int | None = None
        self._unseen: list[LogEntry] | None = None
        """Commits to samples that the tiers have not taken notice of; None if not all are known."""
        self._unheeded: list[LogEntry] | None = None
        """The same of the head."""
        self._applied: dict[str, Snapshot] = {}
        """By table, the snapshot that the state was made from."""
        # The widest rows first, then what they were made of, then series: so all that rows were
        # computed from is in the samples, and series define every sample.
        self._tiers_every_s, self._tiers_looked_s = tiers_every_s, time.monotonic()
        self._tiers = TierTables(store)
        self._records = RecordTables(store, budget)
        self._metadata = MetricMetadata(store)
        self._metadata.look()
        self._derived = DerivedTables(store, calendar)
        self._samples = Follower(store, "samples")
        self._series = Follower(store, "series")
        self._find_head_ids()
        self._apply_series()
        self._apply_samples()
        self._apply_tiers()
        self._load_some()
        self.view = self._make_view()

    @property
    def caught_up(self) -> bool:
        """Whether all files that the head has room for, and that can be read now, are in it."""
        return not self._load_queue.is_due

    def close(self) -> None:
        self._decoded.close()

    def hold(self, series: HeadSeries | None) -> None:
        """Has other series in the head from now on, which is filled anew by the next polls."""
        self._head.clear()
        self._head_series, self._head = series, self._empty_head()
        self._find_head_ids()
        self._cold_files = FileSet(tuple(self._live_files.values()), "ts")
        self._load_queue.put(file for file in self._live_files.values() if self._waits(file))
        self.view = self._make_view()

    def _empty_head(self) -> Head:
        keep_ms = None if self._head_series is None else self._head_series.keep_ms
        return Head(self._read_files, self._head_bytes, self._budget, keep_ms)

    def _read_files(self, paths: list[str]) -> list[SampleColumns]:
        return self._row_groups.read_files(paths, self._head_ids)

    def _find_head_ids(self) -> None:
        series = self._head_series
        self._head_ids = None if series is None else series.ids(self._index)

    def poll(self) -> bool:
        """Looks at the logs once and reads some files. Returns whether the view has changed.

        Raises OSError if the storage cannot be reached: the view stays as it was. A
        file that cannot be read is no error here; queries that need it will meet it.
        """
        derived_changed = False
        try:
            if time.monotonic() - self._tiers_looked_s >= self._tiers_every_s:
                self._tiers_looked_s = time.monotonic()
                self._tiers.look()
                self._records.open_missing()
                derived_changed = self._derived.look() | self._metadata.look()
            records_changed = self._records.look()
            entries = self._samples.follow()
            self._unseen = _joined(self._unseen, entries)
            self._unheeded = _joined(self._unheeded, entries)
            self._series.refresh()
        except NeedsOperator:  # the log has expired past where we were: start from a snapshot
            records_changed = True
            self._start_anew()
        changed = self._apply_series()
        changed |= self._apply_samples()
        changed |= self._apply_tiers()
        changed |= self._load_some()
        changed |= records_changed | derived_changed
        if changed:
            self.view = self._make_view()
        return changed

    def _start_anew(self) -> None:
        """Raises OSError if the tables are away altogether: then everything stays as it was."""
        try:
            samples, series = (Follower(self._store, name) for name in ("samples", "series"))
        except NeedsOperator as err:
            raise OSError(str(err)) from err
        self._samples, self._series = samples, series
        self._tiers = TierTables(self._store)
        self._unseen = self._unheeded = None

    def _apply_series(self) -> bool:
        """Adds what new files of the newest snapshot define to the index; makes it anew where
        series were trimmed. Whether it is newer.
        """
        snapshot = self._series.snapshot
        if snapshot is self._applied.get("series"):
            return False
        trimmed = self._series.position(positions.trimmed())
        if trimmed != self._trimmed:
            self._builder.start_anew()
            self._series_paths = set()
        fresh = [f for f in snapshot.files if f.path not in self._series_paths]
        rows = snapshot.scan(Bounds(), COLUMNS, fresh)
        if (fresh and self._builder.add(rows)) or trimmed != self._trimmed:
            self._index = self._builder.index()
            self._find_head_ids()
        self._series_paths = {f.path for f in snapshot.files}
        self._applied["series"], self._trimmed = snapshot, trimmed
        return True

    def _apply_samples(self) -> bool:
        """Moves to the files of the newest snapshot. Whether it is newer."""
        snapshot = self._samples.snapshot
        if snapshot is self._applied.get("samples"):
            return False
        held = {*self._head.paths}
        commits, self._unheeded = self._unheeded, []
        if commits is None:
            fresh, gone = self._compare(snapshot)
        else:
            fresh, gone = self._follow(commits)
        self._move_files(held, fresh, gone)
        self._load_queue.keep(self._live_files.keys())
        self._load_queue.put(file for file in fresh.values() if self._waits(file))
        self._applied["samples"] = snapshot
        return True

    def _compare(self, snapshot: Snapshot) -> tuple[dict[str, LiveFile], list[str]]:
        """Moves to a snapshot, whatever led to it. Returns what came, by path, and what went."""
        live = {file.path: file for file in snapshot.files}
        fresh = {path: file for path, file in live.items() if path not in self._live_files}
        gone = [file for path, file in self._live_files.items() if path not in live]
        self._head.replace(gone, (), same_rows=False)
        self._live_files = live
        self._changes = Changes(snapshot.version)
        return fresh, [file.path for file in gone]

    def _follow(self, commits: Sequence[LogEntry]) -> tuple[dict[str, LiveFile], list[str]]:
        """Moves over commits, in proportion to these. Returns what came, by path, and what went."""
        fresh: dict[str, LiveFile] = {}
        gone = []
        seen = []
        for entry in commits:
            known = (self._live_files.pop(path, None) for path in entry.removes)
            removed = [file for file in known if file is not None]
            for file in (*entry.adds, *entry.replacements):
                self._live_files[file.path] = fresh[file.path] = file
            if removed:
                self._head.replace(removed, entry.replacements, same_rows=not entry.loses_rows)
            gone += [file.path for file in removed]
            seen.append((entry, removed))
        self._changes = self._changes.extended(seen)
        return {path: file for path, file in fresh.items() if path in self._live_files}, gone

    def _move_files(
        self, held: Collection[str], fresh: Mapping[str, LiveFile], gone: Iterable[str]
    ) -> None:
        """Brings the cold files up to date: with `fresh`, without `gone`; held: what the head held
        before.
        """
        now = self._head.paths
        dropped = [self._live_files[p] for p in held if p not in now and p in self._live_files]
        cold = [file for path, file in fresh.items() if path not in now]
        self._cold_files = self._cold_files.changed(
            [*gone, *(path for path in now if path not in held)], [*dropped, *cold]
        )
        self._load_queue.put(file for file in dropped if self._waits(file))

    def _waits(self, file: LiveFile) -> bool:
        """Whether the head is to read a file."""
        return file.path not in self._head.paths and self._head.accepts(file)

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
        held = {*self._head.paths}
        try:
            self._head.add(batch)
        except OSError as err:  # perhaps removed and vacuumed: the next look at the log will say so
            log.warning("cannot read %d files into memory yet: %s", len(batch), err)
            self._load_queue.failed(batch)
            return False
        self._load_queue.loaded(batch)
        self._move_files(held, {}, ())
        if self._head.begin_ms is not None:
            self._load_queue.drop_older(self._head.begin_ms)
        return True

    def _has_histograms(self) -> bool:
        """Whether answers may be of rows whose changes nobody notes."""
        view = self._records.views.get("histograms")
        return view is not None and len(view.snapshot.files) > 0

    def _make_view(self) -> View:
        versions: dict[str, int] = {}
        for snapshot in self._applied.values():
            versions |= snapshot.versions
        complete = [self._samples.position(positions.complete(name)) for name in self._queries]
        return View(
            self._index,
            tuple(self._head.sorted_runs()),
            FileTable(self._cold_files),
            FileTable(self._applied["samples"].files),
            self._row_groups,
            Provenance(
                {
                    **versions,
                    **self._tiers.versions,
                    **self._records.versions,
                    **self._derived.versions,
                },
                _least(complete),
            ),
            self._tiers.views,
            RollupGroups(self._decoded),
            self._samples.position(positions.expired()),
            marks_of(self._samples.table.positions()),
            None if self._has_histograms() else self._changes,
            self._head_ids,
            self._records.views,
            self._derived.view,
            self._samples.table.id,
            self._metadata.known,
        )


def _joined(known: list[LogEntry] | None, more: list[LogEntry] | None) -> list[LogEntry] | None:
    """Commits one after the other; None unless all are known."""
    return None if known is None or more is None else [*known, *more]


def _least(complete_ms: Sequence[int | None]) -> int | None:
    """The least of them; None while one of the queries has not said how far it is."""
    known = [at_ms for at_ms in complete_ms if at_ms is not None]
    return min(known) if known and len(known) == len(complete_ms) else None
