"""One version of a table: its live files with their bounds, and scans that read few of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.dataset as ds

from varve.model.errors import NeedsOperator
from varve.model.schema import table_schema
from varve.storage.bounds import Bounds
from varve.storage.file_set import FileSet
from varve.storage.log import LiveFile, LogEntry
from varve.storage.scan import Wanted, arrow_dataset, read_rows
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table
from varve.storage.zone_map import ZoneMap


@dataclass(frozen=True)
class Snapshot:
    """Files of one version; immutable, may be shared between threads."""

    store: Store
    table: str
    version: int
    files: Sequence[LiveFile]

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
        self._files = self._live_files()
        self.snapshot = self._snapshot()

    def refresh(self) -> Snapshot:
        """The newest snapshot: the same object if nothing was committed since the last call."""
        self.follow()
        return self.snapshot

    def follow(self) -> list[LogEntry] | None:
        """Moves to the newest snapshot. Returns what was committed since the last call, oldest
        first; None if the log in between has expired and the table was read anew.
        """
        fresh = self.table.refresh()
        if fresh is None:
            self._files = self._live_files()
            self.snapshot = self._snapshot()
        elif fresh:
            for entry in fresh:
                self._files = self._files.changed(entry.removes, (*entry.adds, *entry.replacements))
            self.snapshot = self._snapshot()
        return fresh

    def position(self, transaction: str) -> int | None:
        """Version stored under a transaction id in the newest snapshot taken."""
        return self.table.position(transaction)

    def _live_files(self) -> FileSet:
        return FileSet(self.table.live_files().values(), self.table.schema.time_column)

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.table.store, self.table.name, self.table.version, self._files)


def snapshot(store: Store, table: str, version: int | None = None) -> Snapshot:
    """A version of a table, by default the newest.

    Raises NeedsOperator if there is no such table, or the log no longer or not yet has it.
    """
    if version is None:
        return Follower(store, table).snapshot
    state = load(store, table, version=version)
    if state is None or state.files is None:
        raise NeedsOperator(f"no table {table} under {store.root}")
    return Snapshot(store, table, version, tuple(state.files.values()))


def live_files(table: Table) -> list[LiveFile]:
    """Files of the version the handle is at."""
    return list(table.live_files().values())
