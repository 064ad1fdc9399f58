"""How the rows of a file are laid out in Parquet: as they arrive, or compacted for years.

Only encodings that every reader of Parquet has, Spark's vectorised one among them: that leaves out
BYTE_STREAM_SPLIT. docs/adr/0020 has the measurements; `make bench-storage` repeats them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varve.model.schema import TableSchema
from varve.storage import scaled_values

# Bits of a series_id below those that all series of a metric share.
_METRIC_SHIFT = 52
_WHOLE = 1 << 30


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to lay rows out."""

    prefix: str
    """What names of files begin with, so that compaction tells what it has done already."""
    row_group: int
    """Most rows of one row group: what a query reads at least."""
    sample_row_group: int
    """The same for samples, whose rows are small."""
    is_compact: bool
    """Whether it is for files that stay."""

    def wrote(self, path: str) -> bool:
        """Whether a file was written so, by its name."""
        return path.startswith(self.prefix)


ARRIVAL = Layout("part-", 131_072, 131_072, is_compact=False)
"""Small files, to be merged soon: cheap to write, and a row group is quickly read."""

COMPACT = Layout("compact-", 524_288, 1_048_576, is_compact=True)
"""Sorted files that stay. Series that are scraped together have the same times, and zstd finds them
again if they are as they are, all in one page: so times are plain, in pages of a whole row group.
Values are integers where they can be (varve.storage.scaled_values).
"""

CONDEMNED = replace(COMPACT, prefix="condemned-")
"""Files of the table series: definitions that go unless a row of their series is found. Whoever
looks up which series are registered passes over them; see varve.maintenance.series_trimming.
"""


def encode(rows: pa.Table, schema: TableSchema, layout: Layout, bounded: list[str]) -> pa.Buffer:
    """The Parquet file of some rows. bounded: columns that get statistics, by which row groups are
    skipped.
    """
    if layout.is_compact and schema.layout_columns:
        rows = scaled_values.split(rows)
    out = pa.BufferOutputStream()
    options = _compact(schema) if layout.is_compact else _arrival(schema)
    with pq.ParquetWriter(
        out,
        rows.schema,
        compression="zstd",
        write_statistics=bounded,
        store_schema=False,
        **options,
    ) as writer:
        most = layout.sample_row_group if schema.name == "samples" else layout.row_group
        for start, end in _row_groups(rows, most, by_metric=layout.is_compact):
            writer.write_table(rows.slice(start, end - start), row_group_size=end - start)
    return out.getvalue()


def _arrival(schema: TableSchema) -> dict[str, Any]:
    texts = [c.name for c in schema.columns if pa.types.is_string(c.arrow_type)]
    integers = [c.name for c in schema.columns if pa.types.is_integer(c.arrow_type)]
    return {
        "compression_level": 1,
        # Measured values repeat too little for a dictionary: without, 1.5 times as fast and 7 %
        # smaller (tests/benchmarks/bench_storage.py).
        "use_dictionary": texts,
        "column_encoding": dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
    }


def _compact(schema: TableSchema) -> dict[str, Any]:
    texts = [c.name for c in schema.columns if pa.types.is_string(c.arrow_type)]
    packed = {"series_id", "window_end", scaled_values.SCALED}
    constant = [c.name for c in schema.layout_columns if c.name not in packed]
    level: int | dict[str, int] = 3
    if schema.name == "samples":
        level = {c.name: 6 if c.name == "ts" else 3 for c in schema.stored_columns}
    order = [(name, "ascending") for name in ("series_id", schema.time_column) if name]
    sorting = None
    if all(name in schema.names() for name, _ in order):
        sorting = pq.SortingColumn.from_ordering(schema.arrow, order)
    return {
        "compression_level": level,
        "use_dictionary": [*texts, *constant],
        "column_encoding": {
            c.name: "DELTA_BINARY_PACKED" for c in schema.stored_columns if c.name in packed
        },
        "data_page_size": _WHOLE,
        "max_rows_per_page": _WHOLE,
        "write_batch_size": _WHOLE,
        "sorting_columns": sorting,
    }


def _row_groups(rows: pa.Table, most: int, *, by_metric: bool) -> Iterator[tuple[int, int]]:
    """Start and end of each row group. by_metric: they end with a metric where one ends in their
    second half, so that a query of a metric reads as few as can be.
    """
    starts = np.empty(0, np.int64)
    if by_metric and rows.num_rows > most and "series_id" in rows.schema.names:
        metrics = rows.column("series_id").to_numpy() >> _METRIC_SHIFT
        starts = np.flatnonzero(metrics[1:] != metrics[:-1]) + 1
    start = 0
    while start < rows.num_rows:
        end = min(start + most, rows.num_rows)
        if end < rows.num_rows:
            at = int(np.searchsorted(starts, end, "right")) - 1
            if at >= 0 and starts[at] > start + most // 2:
                end = int(starts[at])
        yield start, end
        start = end
