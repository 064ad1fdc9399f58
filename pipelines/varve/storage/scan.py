"""Reads the rows of a table's files, as few row groups of each as its zone map allows.

Files are read directly: half the CPU of an Arrow dataset's scan, which plans, filters and starts
threads for each of thousands of small files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from varve.model.schema import TableSchema, table_schema
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.scaled_values import read_columns
from varve.storage.store import Store
from varve.storage.zone_map import Ints, Mask, ZoneMap

Wanted = Callable[[Ints, Ints], Mask]
"""Which rows to keep, by their series_id and time."""

# Columns beyond which a file's keys are read first, to see whether the others are needed.
_FEW_COLUMNS = 3


def read_rows(
    store: Store,
    table: str,
    files: Sequence[LiveFile],
    bounds: Bounds,
    columns: Sequence[str] | None = None,
    wanted: Wanted | None = None,
    *,
    threads: int = 0,
) -> pa.Table:
    """Rows of `files` within bounds, file by file in their order, copies included.

    columns: all by default; NULL where a file was written without one. wanted: asked file by file
    about the rows within bounds, and where it keeps nothing no other column is read, so that
    memory holds what is kept and one file. threads: 1 in a task, which has one core; 0 for as many
    as there are cores. Raises FileNotFoundError if a file has been deleted.
    """
    reader = _Reader(store, table_schema(table), bounds, columns, wanted, threads == 1)
    at_once = min(threads or os.cpu_count() or 1, len(files))
    if at_once > 1:
        with ThreadPoolExecutor(at_once) as pool:
            parts = list(pool.map(reader.read, files))
    else:
        parts = [reader.read(file) for file in files]
    found = [part for part in parts if part is not None and part.num_rows]
    if not found:
        return reader.schema.empty_table()
    # A column that one of the files was written without is nullable.
    alike = all(part.schema == found[0].schema for part in found)
    return pa.concat_tables(found, promote_options="none" if alike else "default")


def arrow_dataset(store: Store, table: str, files: Sequence[LiveFile]) -> ds.Dataset:
    """The rows of `files` for an engine that plans its own scan, which skips files by what the
    log says of them; copies and old revisions are included, and values are in the form that a
    file has them in.
    """
    schema = table_schema(table).stored_arrow
    parquet, fragments = ds.ParquetFileFormat(), []
    for file in files:
        root, path = store.place(file.path)
        known = _guarantee(file, schema)
        fragments.append(parquet.make_fragment(path, root.filesystem(table), known))
    return ds.FileSystemDataset(fragments, schema, parquet, store.filesystem(table))


class _Reader:
    """Reads one file after another for one request. Safe to share by threads."""

    def __init__(
        self,
        store: Store,
        table: TableSchema,
        bounds: Bounds,
        columns: Sequence[str] | None,
        wanted: Wanted | None,
        alone: bool,  # noqa: FBT001 - one call
    ) -> None:
        names = table.names() if columns is None else list(columns)
        self.schema = pa.schema([table.arrow.field(name) for name in names])
        self._store, self._table = store, table.name
        self._types = {c.name: c.arrow_type for c in table.columns}
        self._time = table.time_column or ""
        self._bounds, self._wanted = bounds, wanted
        self._names = names
        self._threads = not alone
        if not self._time and (bounds.has_time or wanted is not None):
            raise ValueError(f"{table.name} has no time column")

    def read(self, file: LiveFile) -> pa.Table | None:
        """None if the file has no such rows."""
        root, path = self._store.place(file.path)
        with root.filesystem(self._table).open_input_file(path) as opened:
            # An object store answers few long reads faster than many short ones.
            parquet = pq.ParquetFile(opened, pre_buffer=not root.is_local)
            groups = self._groups(parquet)
            if not groups:
                return None
            keys = self._keys(file)
            if not keys:
                return self._columns(parquet, groups, self._names)
            names = [*self._names, *(k for k in keys if k not in self._names)]
            first = keys if self._wanted is not None and len(names) > _FEW_COLUMNS else names
            rows = self._columns(parquet, groups, first)
            mask = self._mask(rows, keys)
            if not mask.any():
                return None
            if first is not names:
                rows = self._columns(parquet, groups, self._names)
        if rows.num_columns > len(self._names):
            rows = rows.select(self._names)
        return rows if mask.all() else rows.filter(pa.array(mask))

    def _mask(self, rows: pa.Table, keys: list[str]) -> Mask:
        """Which rows are meant, by their keys."""
        bounds, columns = self._bounds, {key: rows.column(key).to_numpy() for key in keys}
        mask: Mask = np.ones(rows.num_rows, np.bool_)
        if (times := columns.get(self._time)) is not None:
            if bounds.start_ms is not None:
                mask &= times > bounds.start_ms
            if bounds.end_ms is not None:
                mask &= times <= bounds.end_ms
        if (ids := columns.get("series_id")) is not None:
            if bounds.series is not None:
                mask &= (ids >= bounds.series[0]) & (ids <= bounds.series[1])
            if bounds.series_ids is not None:
                mask &= _among(ids, bounds.series_ids)
            if self._wanted is not None:
                mask &= self._wanted(ids, columns[self._time])
        return mask

    def _keys(self, file: LiveFile) -> list[str]:
        """Columns that tell which of the file's rows are meant; none if all are."""
        keys = []
        if self._wanted is not None or self._bounds.has_series:
            keys.append("series_id")
        if self._time and not (self._wanted is None and self._is_inside(file)):
            keys.append(self._time)
        return keys

    def _is_inside(self, file: LiveFile) -> bool:
        """Whether the time of all its rows is within bounds."""
        start_ms, end_ms = self._bounds.start_ms, self._bounds.end_ms
        first, last = file.minimum.get(self._time), file.maximum.get(self._time)
        return (start_ms is None or (first is not None and first > start_ms)) and (
            end_ms is None or (last is not None and last <= end_ms)
        )

    def _groups(self, parquet: pq.ParquetFile) -> list[int]:
        """Row groups that can hold such rows."""
        metadata = parquet.metadata
        if metadata.num_row_groups == 1:
            return [0]
        found = ZoneMap.of_row_groups(metadata, self._time).overlapping(self._bounds)
        groups: list[int] = np.flatnonzero(found).tolist()
        return groups

    def _columns(self, parquet: pq.ParquetFile, groups: list[int], names: list[str]) -> pa.Table:
        rows = read_columns(parquet, names, groups, use_threads=self._threads)
        there = set(rows.schema.names)
        for name in names:
            if name not in there:
                rows = rows.append_column(name, pa.nulls(rows.num_rows, self._types[name]))
        # A file's own order of columns is mostly the one asked for; a selection costs 10 us.
        return rows if rows.schema.names == names else rows.select(names)


def _among(ids: Ints, wanted: Ints) -> Mask:
    """Which of `ids` are in `wanted`, which ascend."""
    if not len(wanted):
        return np.zeros(len(ids), np.bool_)
    at = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    found: Mask = wanted[at] == ids
    return found


def _guarantee(file: LiveFile, schema: pa.Schema) -> pc.Expression:
    """What is true of every row of the file."""
    known = pc.scalar(True)
    for column, low in file.minimum.items():
        if column in schema.names and column in file.maximum:
            field = pc.field(column)
            known = known & (field >= low) & (field <= file.maximum[column])
    return known
