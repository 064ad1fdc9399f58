"""One version of a table: its live files with their bounds, and scans that read few of them.

A store may have colder roots, which old files move to: a snapshot has the files of all of them
(docs/adr/0028-old-files-move-to-a-colder-root.md).
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import pyarrow as pa
import pyarrow.dataset as ds

from varve.model.errors import NeedsOperator
from varve.model.schema import table_schema
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.file_set import FileSet
from varve.storage.log import LiveFile, LogEntry
from varve.storage.scan import Wanted, arrow_dataset, read_rows
from varve.storage.state import State, load
from varve.storage.store import COLDER, Store
from varve.storage.table import Table
from varve.storage.zone_map import HIGHEST, LOWEST, ZoneMap

T = TypeVar("T")

UNREACHABLE = "out-of-reach.parquet"
"""Name of the file that stands for a colder root which is out of reach."""

# A colder root is asked for news at least so often, and when the root above tells of some.
_COLDER_EVERY_S = 60.0
# How long the first look and later ones may take, in seconds, and when a failed one is repeated.
_FIRST_S = 30.0
_NEXT_S = 2.0
_AGAIN_S = 10.0
# More than anybody reads ahead of need.
_MANY_ROWS = 1 << 40

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """Files of one version; immutable, may be shared between threads."""

    store: Store
    table: str
    version: int
    files: Sequence[LiveFile]
    colder: tuple[int, ...] = ()
    """Versions of the table in the colder roots, the warmest first; of none where no file has
    moved, nor of those that are out of reach."""

    @property
    def versions(self) -> Mapping[str, int]:
        """By name of the table, that of a colder root with COLDER before it."""
        all_roots = enumerate((self.version, *self.colder))
        return {f"{COLDER * depth}{self.table}": version for depth, version in all_roots}

    @property
    def time_column(self) -> str:
        """Name of the column that tells the time of a row. ValueError if the table has none."""
        name = table_schema(self.table).time_column
        if name is None:
            raise ValueError(f"{self.table} has no time column")
        return name

    @property
    def zones(self) -> ZoneMap:
        """Bounds of the files, in their order."""
        return self._set.zones

    def select(self, bounds: Bounds) -> list[LiveFile]:
        """Files that can hold rows within bounds, by their statistics. ValueError if time is
        bounded and the table has no time column.
        """
        if bounds.has_time:
            _ = self.time_column
        return self._set.select(bounds)

    def scan(
        self,
        bounds: Bounds,
        columns: Sequence[str] | None = None,
        files: Sequence[LiveFile] | None = None,
        wanted: Wanted | None = None,
        *,
        threads: int = 0,
    ) -> pa.Table:
        """Rows within bounds, in no order, copies included; from `files` only, if given. The
        other arguments are those of `read_rows`.
        """
        chosen = self.select(bounds) if files is None else files
        return read_rows(self.store, self.table, chosen, bounds, columns, wanted, threads=threads)

    def arrow_dataset(self) -> ds.Dataset:
        """The rows, for an engine that plans its own scan."""
        return arrow_dataset(self.store, self.table, self.files)

    @cached_property
    def _set(self) -> FileSet:
        if isinstance(self.files, FileSet):
            return self.files
        return FileSet(self.files, table_schema(self.table).time_column)


class Follower:
    """Follows a table: the newest snapshot, kept up by reading only new log entries.

    Not safe to share between threads; the snapshots are.
    """

    def __init__(self, store: Store, name: str) -> None:
        """Raises NeedsOperator if the table does not exist."""
        self.table = Table(store, name, files=True)
        self.below = _ColderFiles(store.colder, self.table) if store.colder else None
        self._files = self._all_files()
        self.snapshot = self._snapshot()
        if self.below is not None:
            self.follow()

    def refresh(self) -> Snapshot:
        """The newest snapshot: the same object if nothing was committed since the last call."""
        self.follow()
        return self.snapshot

    def follow(self) -> list[LogEntry] | None:
        """Moves to the newest snapshot. Returns what was committed since the last call, oldest
        first, and what has changed in colder roots, as further entries of the newest version; None
        if the log in between has expired and the table was read anew.
        """
        files, told = self._files, list[LogEntry]()
        is_known = True
        while True:
            fresh = self.table.refresh()
            if fresh is None:
                files, fresh, is_known = self._all_files(), [], False
            for entry in fresh:
                files = files.changed(entry.removes, (*entry.adds, *entry.replacements))
            change = None if self.below is None else self.below.look(fresh)
            if change is not None:
                files = files.changed(*change)
                fresh = _told_with(fresh, *change, self.table.version)
            told += fresh
            if change is None:
                break
            # Rows go from a colder root once the root above has said so: who has seen the one has
            # to see the other, and so looks above once more.
        if told or files is not self._files:
            self._files = files
            self.snapshot = self._snapshot()
        return told if is_known else None

    def position(self, transaction: str) -> int | None:
        """Version stored under a transaction id in the newest snapshot taken."""
        return self.table.position(transaction)

    def _all_files(self) -> FileSet:
        files = FileSet(self.table.live_files().values(), self.table.schema.time_column)
        if self.below is not None and (change := self.below.look(None)):
            files = files.changed((), change[1])
        return files

    def _snapshot(self) -> Snapshot:
        colder = () if self.below is None else self.below.versions
        return Snapshot(self.table.store, self.table.name, self.table.version, self._files, colder)


_Seen = tuple[int | None, Snapshot]
"""The last move that has arrived in a colder root, and what is there."""


class _ColderFiles:
    """The files of a table in the colder roots, as seen from the root above.

    That root is read first: a file is in the colder one before it is removed above, so none is
    missed. One that is in both is left to the root above, known by its name, which moves with it.
    While a colder root is out of reach, what was last seen of it holds, or where that is not
    enough a file stands for it that cannot be read.
    """

    def __init__(self, store: Store, above: Table) -> None:
        self._store, self._above = store, above
        self._follower: Follower | None = None
        self._seen: _Seen | None = None
        self._reading: Future[_Seen] | None = None
        """A look that is under way."""
        self._looked_s = -math.inf
        self._there: dict[str, LiveFile] = {}
        """Files of the colder roots by their path there, as of the last look."""
        self._visible: dict[str, LiveFile] = {}
        """Those that are in the snapshot, by their path as seen from above."""
        self._marks: tuple[int | None, ...] = ()
        self.versions: tuple[int, ...] = ()
        """As Snapshot.colder has them."""

    def look(self, fresh: Sequence[LogEntry] | None) -> tuple[list[str], list[LiveFile]] | None:
        """What of the colder files is gone and new since the last look; None if nothing is. fresh:
        what has been committed above meanwhile; None if the table above was read anew.
        """
        if (moved := self._above.position(positions.moved())) is None:
            return None  # no file has ever moved
        if fresh is None:
            self._visible = {}
        marks = moved, self._above.position(positions.deletion())
        due = time.monotonic() - self._looked_s >= _COLDER_EVERY_S
        if fresh is None or marks != self._marks or due:
            if marks[1:] != self._marks[1:]:
                self.look_anew()  # what was deleted may have lain in any root
            self._read(moved, is_news=marks != self._marks)
            self._marks = marks
        elif not any(entry.removes for entry in fresh):
            return None
        above = self._above.live_files()
        visible = {
            f"{COLDER}{path}": as_seen_above(file)
            for path, file in self._there.items()
            if base_name(path) not in above
        }
        gone = [path for path in self._visible if path not in visible]
        new = [file for path, file in visible.items() if path not in self._visible]
        self._visible = visible
        return (gone, new) if gone or new else None

    def look_anew(self) -> None:
        """At the next look this root and those below it are asked, however lately they were."""
        self._looked_s = -math.inf
        if self._follower is not None and (below := self._follower.below) is not None:
            below.look_anew()

    def _read(self, moved: int, *, is_news: bool) -> None:
        """Reads the colder log, as far as it can be reached in time: whoever follows the hot table
        is not to wait for a cold one. is_news: a read that began before has not seen what is there.
        """
        begun = self._reading is None
        if self._reading is None:
            self._reading = _in_thread(self._refreshed)
        wait_s = (_NEXT_S if self._seen else _FIRST_S) if begun else 0.0
        try:
            self._seen = self._reading.result(wait_s)
            self._looked_s = time.monotonic() if begun or not is_news else -math.inf
        except (OSError, NeedsOperator) as err:  # a TimeoutError is one of the former
            if self._reading.done():
                log.warning("%s: its colder root is out of reach: %s", self._above.name, err)
                self._looked_s = time.monotonic() - _COLDER_EVERY_S + _AGAIN_S
            else:
                self._looked_s = -math.inf  # asked again at the next look, without waiting
        if self._reading.done():
            self._reading = None
        arrived, seen = self._seen or (None, None)
        self._there = {} if seen is None else {file.path: file for file in seen.files}
        self.versions = () if seen is None else (seen.version, *seen.colder)
        if arrived is None or arrived < moved:
            until = self._above.position(positions.moved_until())
            self._there[UNREACHABLE] = _unreachable(self._above.name, until)
            self.versions = ()

    def _refreshed(self) -> _Seen:
        """The last move that has arrived in the colder root, and its files. One call at a time."""
        if self._follower is None:
            self._follower = Follower(self._store, self._above.name)
        else:
            self._follower.refresh()
        return self._follower.position(positions.arrived()), self._follower.snapshot


def _unreachable(table: str, until_ms: int | None) -> LiveFile:
    """A file with all bounds that moved files can have, so that whoever needs one of them fails and
    nobody else does. until_ms: where `moved_until` is.
    """
    column = table_schema(table).time_column or ""
    return LiveFile(
        UNREACHABLE,
        size=1,
        rows=_MANY_ROWS,
        minimum={column: LOWEST, "series_id": LOWEST},
        maximum={column: HIGHEST if until_ms is None else until_ms, "series_id": HIGHEST},
    )


def _told_with(
    commits: Sequence[LogEntry], gone: Sequence[str], new: Sequence[LiveFile], version: int
) -> list[LogEntry]:
    """Commits to a table, and what has gone from and come to its colder roots meanwhile.

    A file that has moved takes the place of the one of its name, in the commit that removed it or
    in an entry of its own. No entry has new rows.
    """
    by_name = {base_name(file.path): file for file in new}
    told = []
    for entry in commits:
        moves = () if entry.loses_rows else [path for path in entry.removes if path in by_name]
        came = tuple(by_name.pop(path) for path in moves)
        told.append(replace(entry, replacements=(*entry.replacements, *came)) if came else entry)
    lost = []
    for path in gone:
        if (deeper := by_name.pop(base_name(path), None)) is not None:
            told.append(LogEntry(version, replacements=(deeper,), removes=(path,)))
        elif base_name(path) == UNREACHABLE:
            told.append(LogEntry(version, removes=(path,)))
        else:
            lost.append(path)
    if lost:
        # Rewritten, by whatever job: files with rows that stay are among those that came.
        told.append(LogEntry(version, removes=tuple(lost), loses_rows=True))
    if by_name:
        told.append(LogEntry(version, replacements=tuple(by_name.values())))
    return told


def _in_thread(work: Callable[[], T]) -> Future[T]:
    """Runs work in a thread that nobody has to wait for, not even the end of the process."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as err:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(err)

    threading.Thread(target=run, name="colder", daemon=True).start()
    return future


def as_seen_above(file: LiveFile) -> LiveFile:
    """A file of a root as the root above sees it."""
    return replace(file, path=f"{COLDER}{file.path}")


def base_name(path: str) -> str:
    """The name of a file, without the root that it is in."""
    while path.startswith(COLDER):
        path = path.removeprefix(COLDER)
    return path


def snapshot(store: Store, table: str, version: int | None = None) -> Snapshot:
    """A version of a table, by default the newest. Of colder roots it is always the newest.

    Raises NeedsOperator if there is no such table, or the log no longer or not yet has it.
    """
    if version is None:
        return Follower(store, table).snapshot
    state = load(store, table, version=version)
    if state is None or state.files is None:
        raise NeedsOperator(f"no table {table} under {store.root}")
    files = dict(state.files)
    if store.colder is not None:
        colder = Follower(store, table).snapshot.files
        moved = (f for f in colder if f.path.startswith(COLDER) and base_name(f.path) not in files)
        files |= {file.path: file for file in moved}
    return Snapshot(store, table, version, tuple(files.values()))


def snapshot_of(store: Store, table: str, state: State, colder: Sequence[int]) -> Snapshot:
    """The snapshot that a follower had at a state of a table, its files included, and at versions
    of colder roots, which `colder` has as Snapshot does.

    Raises NeedsOperator if the log of a colder root no longer has its version.
    """
    files = dict(state.files or {})
    if store.colder is not None and state.positions.get(positions.moved()) is not None:
        below: Sequence[LiveFile] = [
            _unreachable(table, state.positions.get(positions.moved_until()))
        ]
        if colder:
            lower = load(store.colder, table, version=colder[0])
            if lower is None:
                raise NeedsOperator(f"no table {table} under {store.colder.root}")
            below = snapshot_of(store.colder, table, lower, colder[1:]).files
        moved = [as_seen_above(file) for file in below if base_name(file.path) not in files]
        files |= {file.path: file for file in moved}
    return Snapshot(store, table, state.version, tuple(files.values()), tuple(colder))


def colder_versions(table: str, versions: Mapping[str, int]) -> tuple[int, ...]:
    """Snapshot.colder of a table, out of `Snapshot.versions` of several."""
    names = (f"{COLDER * depth}{table}" for depth in itertools.count(1))
    return tuple(versions[name] for name in itertools.takewhile(versions.__contains__, names))


def live_files(table: Table) -> list[LiveFile]:
    """Files of the version the handle is at."""
    return list(table.live_files().values())
