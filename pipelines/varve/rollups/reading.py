"""What a task reads: rows of a table's files, file by file, as few row groups as statistics allow.

A task runs on one core and wants most of what it opens, so files are read directly: half the CPU of
a dataset's scan, which plans, filters and starts threads for each of thousands of small files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from varve.model.schema import table_schema
from varve.model.window import Window
from varve.rollups.algebra import Ints
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot

Mask = npt.NDArray[np.bool_]
Wanted = Callable[[Ints, Ints], Mask]
"""Which rows to keep, by their series_id and time."""


def read(
    source: Snapshot,
    files: Sequence[LiveFile],
    window: Window,
    *,
    columns: Sequence[str] | None = None,
    series: tuple[int, int] | None = None,
    wanted: Wanted | None = None,
) -> pa.Table:
    """Rows of `files` whose time lies in `window`, in no order, copies included.

    columns: all by default; they must include series_id and the time. series: least and greatest
    series_id, both inclusive. wanted: asked file by file, and where it keeps nothing no other
    column is read, so that memory holds what is kept and one file. Columns that a file was written
    without are NULL. Raises FileNotFoundError if a file has been deleted.
    """
    schema = table_schema(source.table).arrow
    names = list(columns) if columns is not None else schema.names
    parts = [_file(source, file, window, names, series, wanted) for file in files]
    found = [part for part in parts if part is not None and part.num_rows]
    if not found:
        return pa.schema([schema.field(n) for n in names]).empty_table()
    return pa.concat_tables(found)


def _file(
    source: Snapshot,
    file: LiveFile,
    window: Window,
    names: list[str],
    series: tuple[int, int] | None,
    wanted: Wanted | None,
) -> pa.Table | None:
    time = source.time_column
    keys = ["series_id", time]
    is_inside = file.minimum[time] > window.start_ms and file.maximum[time] <= window.end_ms
    with source.store.filesystem(source.table).open_input_file(file.path) as opened:
        # An object store answers few long reads faster than many short ones.
        parquet = pq.ParquetFile(opened, pre_buffer=not source.store.is_local)
        groups = _groups(parquet, time, window, series)
        if not groups:
            return None
        if wanted is None and is_inside and series is None:
            return _columns(source, parquet, groups, names)
        first = keys if wanted is not None and len(names) > 3 else names
        rows = _columns(source, parquet, groups, first)
        ids, times = (rows.column(k).to_numpy() for k in keys)
        mask: Mask = (times > window.start_ms) & (times <= window.end_ms)
        if series is not None:
            mask &= (ids >= series[0]) & (ids <= series[1])
        if wanted is not None:
            mask &= wanted(ids, times)
        if not mask.any():
            return None
        if first is not names:
            rows = _columns(source, parquet, groups, names)
    return rows if mask.all() else rows.filter(pa.array(mask))


def _columns(
    source: Snapshot, parquet: pq.ParquetFile, groups: list[int], names: list[str]
) -> pa.Table:
    there = set(parquet.schema_arrow.names)
    rows = parquet.read_row_groups(groups, [n for n in names if n in there], use_threads=False)
    for name in names:
        if name not in there:
            kind = table_schema(source.table).arrow.field(name).type
            rows = rows.append_column(name, pa.nulls(rows.num_rows, kind))
    return rows.select(names)


def _groups(
    parquet: pq.ParquetFile, time: str, window: Window, series: tuple[int, int] | None
) -> list[int]:
    """Row groups that can hold such rows."""
    metadata = parquet.metadata
    if metadata.num_row_groups == 1:
        return [0]
    # Columns of leaves; those of a sketch come later.
    places = [(parquet.schema.names.index(time), window.start_ms + 1, window.end_ms)]
    if series is not None:
        places.append((parquet.schema.names.index("series_id"), *series))
    return [
        number
        for number in range(metadata.num_row_groups)
        if all(_meets(metadata.row_group(number).column(at), *bounds) for at, *bounds in places)
    ]


def _meets(chunk: pq.ColumnChunkMetaData, low: int, high: int) -> bool:
    """Whether it can hold a value from low to high."""
    bounds = chunk.statistics
    if bounds is None or not bounds.has_min_max:
        return True
    return bool(bounds.max >= low and bounds.min <= high)
