"""One version of a table: its live files with their bounds, and scans that read few of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from varve.model.schema import table_schema
from varve.storage.log import LiveFile, entries
from varve.storage.store import Store
from varve.storage.table import Table

# Beyond this many series an id set costs more per row than reading the range and joining.
_MAX_ID_SET = 4_096


@dataclass(frozen=True, slots=True)
class Bounds:
    """Rows to read: start_ms < time <= end_ms, and series. None means no bound.

    time is ts, or window_end in a rollup.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    series_ids: np.ndarray | None = None
    """int64, sorted ascending, unique."""


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

    def select(self, bounds: Bounds) -> list[LiveFile]:
        """Files that can hold rows within bounds, by their statistics."""
        time, ids = self.time_column, bounds.series_ids
        chosen = []
        for file in self.files:
            low, high = file.minimum.get(time), file.maximum.get(time)
            if bounds.start_ms is not None and high is not None and high <= bounds.start_ms:
                continue
            if bounds.end_ms is not None and low is not None and low > bounds.end_ms:
                continue
            if ids is not None and "series_id" in file.minimum:
                first = np.searchsorted(ids, file.minimum["series_id"], side="left")
                if first == len(ids) or ids[first] > file.maximum["series_id"]:
                    continue
            chosen.append(file)
        return chosen

    def scan(
        self,
        bounds: Bounds,
        columns: Sequence[str] | None = None,
        files: Iterable[LiveFile] | None = None,
    ) -> pa.Table:
        """Rows within bounds, in no order, copies included; from `files` only, if given."""
        chosen = self.select(bounds) if files is None else list(files)
        schema = table_schema(self.table).arrow
        names = list(columns) if columns is not None else schema.names
        if not chosen:
            return schema.empty_table().select(names)
        dataset = ds.dataset(
            [f.path for f in chosen],
            schema=schema,
            format="parquet",
            filesystem=self.store.filesystem(self.table),
        )
        return dataset.to_table(columns=names, filter=self._filter(bounds))

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
                conditions.append(series.isin(pa.array(ids)))
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
        self.table = Table(store, name)
        self._files = {f.path: f for f in live_files(self.table)}
        self.snapshot = self._take()

    def refresh(self) -> Snapshot:
        """The newest snapshot: the same object if nothing was committed since the last call."""
        seen = self.snapshot.version
        self.table.refresh()
        if self.table.version == seen:
            return self.snapshot
        for entry in entries(self.table.store, self.table.name, seen, self.table.version):
            for path in entry.removes:
                self._files.pop(path, None)
            for file in (*entry.adds, *entry.rewritten):
                self._files[file.path] = file
        self.snapshot = self._take()
        return self.snapshot

    def position(self, transaction: str) -> int | None:
        """Version stored under a transaction id in the newest snapshot taken."""
        return self.table.position(transaction)

    def _take(self) -> Snapshot:
        return Snapshot(
            self.table.store, self.table.name, self.table.version, tuple(self._files.values())
        )


def snapshot(store: Store, table: str) -> Snapshot:
    """The newest version of a table."""
    return Follower(store, table).snapshot


def live_files(table: Table) -> list[LiveFile]:
    """Files of the version the handle is at."""
    rows = table.live_files()
    names = rows.schema.names
    paths = rows.column("path").to_pylist()
    sizes = rows.column("size_bytes").to_pylist()
    counts = rows.column("num_records").to_pylist()
    low = {n[4:]: rows.column(n).to_pylist() for n in names if n.startswith("min.")}
    high = {n[4:]: rows.column(n).to_pylist() for n in names if n.startswith("max.")}
    return [
        LiveFile(
            paths[i],
            sizes[i],
            counts[i] or 0,
            {c: v[i] for c, v in low.items() if v[i] is not None},
            {c: v[i] for c, v in high.items() if v[i] is not None},
        )
        for i in range(len(paths))
    ]
