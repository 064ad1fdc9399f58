"""One version of a table: its live files with their bounds, and scans that read few of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from varve.model.errors import NeedsOperator
from varve.model.schema import table_schema
from varve.storage.log import LiveFile, LogEntry
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table

# Beyond this many series an id set costs more per row than reading the range and joining.
_MAX_ID_SET = 4_096
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Rows to read: start_ms < time <= end_ms, and series. None means no bound.

    time is ts, or window_end in a rollup.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    series_ids: np.ndarray | None = None
    """int64, sorted ascending, unique."""


@dataclass(frozen=True, slots=True)
class FileBounds:
    """Bounds of files as columns, one row a file; both ends inclusive. Where a file has no
    statistics, the widest bounds there are.
    """

    first_ms: Ints
    last_ms: Ints
    first_series: Ints
    last_series: Ints

    @classmethod
    def of(cls, files: Sequence[LiveFile], time: str) -> FileBounds:
        def column(which: str, name: str, default: int) -> Ints:
            found = (getattr(f, which).get(name, default) for f in files)
            return np.fromiter(found, np.int64, len(files))

        return cls(
            column("minimum", time, _LOWEST),
            column("maximum", time, _HIGHEST),
            column("minimum", "series_id", _LOWEST),
            column("maximum", "series_id", _HIGHEST),
        )

    def keep(self, mask: npt.NDArray[np.bool_]) -> FileBounds:
        return FileBounds(*(c[mask] for c in self._columns()))

    def extend(self, others: FileBounds) -> FileBounds:
        pairs = zip(self._columns(), others._columns(), strict=True)
        return FileBounds(*(np.concatenate(pair) for pair in pairs))

    def _columns(self) -> tuple[Ints, ...]:
        return self.first_ms, self.last_ms, self.first_series, self.last_series


@dataclass(frozen=True)
class Snapshot:
    """Files of one version; immutable, may be shared between threads."""

    store: Store
    table: str
    version: int
    files: tuple[LiveFile, ...]

    @property
    def time_column(self) -> str:
        return "window_end" if self.table.startswith("rollup_") else "ts"

    @cached_property
    def bounds(self) -> FileBounds:
        """In the order of `files`."""
        return FileBounds.of(self.files, self.time_column)

    def select(self, bounds: Bounds) -> list[LiveFile]:
        """Files that can hold rows within bounds, by their statistics."""
        files, ids = self.bounds, bounds.series_ids
        wanted = np.ones(len(self.files), np.bool_)
        if bounds.start_ms is not None:
            wanted &= files.last_ms > bounds.start_ms
        if bounds.end_ms is not None:
            wanted &= files.first_ms <= bounds.end_ms
        if ids is not None:
            # Ids below the range's end that are not below its start.
            wanted &= np.searchsorted(ids, files.first_series, "left") < np.searchsorted(
                ids, files.last_series, "right"
            )
        return [self.files[i] for i in np.flatnonzero(wanted)]

    def scan(
        self,
        bounds: Bounds,
        columns: Sequence[str] | None = None,
        files: Iterable[LiveFile] | None = None,
    ) -> pa.Table:
        """Rows within bounds, in no order, copies included; from `files` only, if given.

        Columns that a file was written without are NULL. With more than 4,096 series_ids the rows
        are those of the range they span: join.
        """
        chosen = self.select(bounds) if files is None else list(files)
        schema = table_schema(self.table).arrow
        names = list(columns) if columns is not None else schema.names
        if not chosen:
            return pa.schema([schema.field(n) for n in names]).empty_table()
        dataset = ds.dataset(
            [f.path for f in chosen],
            schema=schema,
            format="parquet",
            filesystem=self.store.filesystem(self.table),
        )
        return dataset.to_table(columns=names, filter=self._filter(bounds))

    def advance(self, fresh: Sequence[LogEntry], files: Mapping[str, LiveFile]) -> Snapshot:
        """The snapshot after `fresh`, whose live files are `files`, in that order: what the
        entries leave alone is not computed again.
        """
        kept, gone = self.bounds, {path for entry in fresh for path in entry.removes}
        added = [f.path for entry in fresh for f in (*entry.adds, *entry.rewritten)]
        # The usual case, in which no file went and none was named again, is decided by counting.
        if gone or len(files) != len(self.files) + len(added):
            gone.update(added)
            kept = kept.keep(np.fromiter((f.path not in gone for f in self.files), np.bool_))
        now = tuple(files.values())
        new = FileBounds.of(now[len(kept.first_ms) :], self.time_column)
        after = Snapshot(self.store, self.table, fresh[-1].version, now)
        after.__dict__["bounds"] = kept.extend(new)
        return after

    def _filter(self, bounds: Bounds) -> Any:
        time, conditions = pc.field(self.time_column), []
        if bounds.start_ms is not None:
            conditions.append(time > bounds.start_ms)
        if bounds.end_ms is not None:
            conditions.append(time <= bounds.end_ms)
        if (ids := bounds.series_ids) is not None:
            series = pc.field("series_id")
            if len(ids):
                conditions.append((series >= int(ids[0])) & (series <= int(ids[-1])))
            if len(ids) <= _MAX_ID_SET:
                conditions.append(series.isin(pa.array(ids, pa.int64())))
        whole = None
        for condition in conditions:
            whole = condition if whole is None else whole & condition
        return whole


class Follower:
    """Follows a table: the newest snapshot, kept up by reading only new log entries.

    Not safe to share between threads; the snapshots are.
    """

    def __init__(self, store: Store, name: str) -> None:
        """Raises NeedsOperator if the table does not exist."""
        self.table = Table(store, name, files=True)
        self.snapshot = self._take()

    def refresh(self) -> Snapshot:
        """The newest snapshot: the same object if nothing was committed since the last call."""
        fresh = self.table.refresh()
        if fresh is None:
            self.snapshot = self._take()
        elif fresh:
            self.snapshot = self.snapshot.advance(fresh, self.table.live_files())
        return self.snapshot

    def position(self, transaction: str) -> int | None:
        """Version stored under a transaction id in the newest snapshot taken."""
        return self.table.position(transaction)

    def _take(self) -> Snapshot:
        return Snapshot(
            self.table.store, self.table.name, self.table.version, tuple(live_files(self.table))
        )


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
