"""Decoded rollup rows as sorted columns, and how rows of many parts become those of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model.compiled import kernel
from varve.promql.kernels.types import I64, Bools
from varve.promql.storage import RollupRows, Sketches
from varve.query.sample_columns import find_row_ranges
from varve.rollups.algebra import NEVER, Rows

KEYS = ("series_id", "window_end")
SKETCH = "sketch"

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class SketchColumn:
    """The sketch of row r is keys and counts [starts[r], starts[r + 1])."""

    starts: I64
    keys: npt.NDArray[np.int32]
    counts: I64

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.keys.nbytes + self.counts.nbytes


@dataclass(frozen=True, slots=True)
class RollupPart:
    """Rows sorted by (series_id, window_end). Immutable.

    revision: of each row, or one of all. columns: by the names of schemas/tables/rollup.sql, as in
    varve.rollups.algebra.Rows.
    """

    series_ids: I64
    ends: I64
    revision: I64 | int
    columns: Mapping[str, Column]
    sketches: SketchColumn | None = None

    @property
    def rows(self) -> int:
        return len(self.ends)

    @property
    def nbytes(self) -> int:
        held = sum(column.nbytes for column in self.columns.values()) + 16 * self.rows
        return held if self.sketches is None else held + self.sketches.nbytes

    def where(self, mask: Bools) -> RollupPart:
        """Some of the rows."""
        rows = np.flatnonzero(mask)
        revision = self.revision if isinstance(self.revision, int) else self.revision[rows]
        columns = {name: column[rows] for name, column in self.columns.items()}
        sketches = None if self.sketches is None else _taken(self.sketches, rows)
        return RollupPart(self.series_ids[rows], self.ends[rows], revision, columns, sketches)


def column_from_arrow(name: str, column: pa.ChunkedArray) -> Column | SketchColumn:
    """A column of a rollup table, with 0 for NULL, NEVER where it is a time."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if name == SKETCH:
        lengths = np.diff(array.offsets.to_numpy())
        if array.null_count:
            lengths = np.where(array.is_null().to_numpy(zero_copy_only=False), 0, lengths)
        entries = array.flatten()
        return SketchColumn(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            entries.field("key").to_numpy(zero_copy_only=False),
            entries.field("count").to_numpy(zero_copy_only=False),
        )
    if array.null_count:
        array = array.fill_null(NEVER if name.endswith("_ts") else 0)
    return np.ascontiguousarray(array.to_numpy(zero_copy_only=False))


def part_of(rows: Rows, columns: Iterable[str], *, with_sketch: bool) -> RollupPart:
    """Rows that were made of samples just now; they replace no others."""
    sketches = None
    if with_sketch:
        sketches = SketchColumn(rows.sketch_starts, rows.sketch_keys, rows.sketch_counts)
    chosen = {name: getattr(rows, name) for name in columns}
    return RollupPart(rows.series_id, rows.window_end, 0, chosen, sketches)


def narrowed(part: RollupPart, series_ids: I64, span: tuple[int, int]) -> RollupPart:
    """A part that has the rows of some series (ascending ids) that end in `span`, (start, end].

    If they are the smaller half they are copied out, so that the rest can go; else others may be
    among them.
    """
    low, high = np.empty((2, len(series_ids)), dtype=np.int64)
    find_row_ranges(part.series_ids, part.ends, series_ids, *span, low, high)
    ends = np.cumsum(high - low)
    rows = int(ends[-1]) if len(ends) else 0
    if 2 * rows > part.rows:
        return part
    begins = ends - (high - low)

    def copied(source: Column) -> Column:
        out = np.empty(rows, dtype=source.dtype)
        append_bits(source.view(np.int64), low, high, out.view(np.int64), begins.copy())
        return out

    sketches = None
    if part.sketches is not None:
        places = np.repeat(low - begins, high - low) + np.arange(rows)
        sketches = _taken(part.sketches, places)
    return RollupPart(
        copied(part.series_ids),
        copied(part.ends),
        part.revision if isinstance(part.revision, int) else copied(part.revision),
        {name: copied(column) for name, column in part.columns.items()},
        sketches,
    )


def select_rows(
    parts: Sequence[RollupPart],
    series_ids: I64,
    places: I64,
    span: tuple[int, int],
    columns: Sequence[str],
    take: Callable[[int], None],
) -> RollupRows:
    """The rows of some series (ascending ids) that end in `span`, (start, end], from all parts.

    places: what each series is called in the result. Of rows of one window the greatest revision
    counts. Series without rows are left out. `take` is asked for the bytes before they are
    allocated.
    """
    found = []
    counts = np.zeros(len(series_ids), dtype=np.int64)
    for part in sorted(parts, key=_first_end):
        if not part.rows:
            continue
        begin = int(np.searchsorted(series_ids, part.series_ids[0], "left"))
        end = int(np.searchsorted(series_ids, part.series_ids[-1], "right"))
        low, high = np.empty((2, end - begin), dtype=np.int64)
        ids = np.ascontiguousarray(series_ids[begin:end])
        if find_row_ranges(part.series_ids, part.ends, ids, *span, low, high):
            found.append((part, slice(begin, end), low, high))
            counts[begin:end] += high - low
    there = np.flatnonzero(counts)
    ends = np.cumsum(counts)
    begins = ends - counts
    total = int(ends[-1]) if len(ends) else 0
    take(8 * total * (len(columns) + 2) + 32 * len(series_ids))
    row_ends = _joined(found, [part.ends for part, *_ in found], begins, total, np.int64)
    joined = {
        name: _joined(
            found, [part.columns[name] for part, *_ in found], begins, total, _type_of(name)
        )
        for name in columns
    }
    sketches = _joined_sketches(found, begins, total)
    if not ascends(row_ends, begins, ends):
        order, ends = _in_order(found, row_ends, begins, ends, total)
        row_ends = row_ends[order]
        joined = {name: column[order] for name, column in joined.items()}
        if sketches is not None:
            sketches = Sketches(
                sketches.begins[order], sketches.ends[order], sketches.keys, sketches.counts
            )
    return RollupRows(
        places[there], row_ends, begins[there].copy(), ends[there].copy(), joined, sketches
    )


_Found = list[tuple[RollupPart, slice, I64, I64]]


def _type_of(name: str) -> type:
    return np.int64 if name.endswith(("_ts", "count", "resets", "changes")) else np.float64


def _joined(found: _Found, sources: Sequence[Column], begins: I64, total: int, kind: Any) -> Any:
    """A column with each series' rows of all parts side by side."""
    out = np.empty(total, dtype=kind)
    filled = begins.copy()
    bits = out.view(np.int64)
    for (_, wanted, low, high), source in zip(found, sources, strict=True):
        append_bits(source.view(np.int64), low, high, bits, filled[wanted])
    return out


def _joined_sketches(found: _Found, begins: I64, total: int) -> Sketches | None:
    held = [part.sketches for part, *_ in found if part.sketches is not None]
    if not held:
        return None
    sizes = np.cumsum([0, *(len(sketch.keys) for sketch in held)]).tolist()
    firsts = [s.starts[:-1] + shift for s, shift in zip(held, sizes, strict=False)]
    lasts = [s.starts[1:] + shift for s, shift in zip(held, sizes, strict=False)]
    return Sketches(
        _joined(found, firsts, begins, total, np.int64),
        _joined(found, lasts, begins, total, np.int64),
        np.concatenate([sketch.keys for sketch in held]).astype(np.int32, copy=False),
        np.concatenate([sketch.counts for sketch in held]),
    )


def _in_order(found: _Found, row_ends: I64, begins: I64, ends: I64, total: int) -> tuple[I64, I64]:
    """For each row which one belongs there, so that each series' rows ascend, and where the series
    end then: of several rows of one window the newest is left.
    """
    revisions = [
        np.full(part.rows, part.revision) if isinstance(part.revision, int) else part.revision
        for part, *_ in found
    ]
    revision = _joined(found, revisions, begins, total, np.int64)
    order, ends = np.arange(total), ends.copy()
    settle_rows(row_ends, revision, begins, ends, order)
    return order, ends


def _first_end(part: RollupPart) -> int:
    return int(part.ends[0]) if part.rows else 0


def _taken(sketches: SketchColumn, rows: I64) -> SketchColumn:
    lengths = np.diff(sketches.starts)[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    entries = np.repeat(sketches.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
    return SketchColumn(starts, sketches.keys[entries], sketches.counts[entries])


@kernel("void(const int64[::1], const int64[::1], const int64[::1], int64[::1], int64[::1])")
def append_bits(source: I64, low: I64, high: I64, out: I64, filled: I64) -> None:
    """Copies each series' rows low:high to the output at filled[i], and moves filled[i] on."""
    for i in range(len(low)):
        at = filled[i]
        for k in range(low[i], high[i]):
            out[at] = source[k]
            at += 1
        filled[i] = at


@kernel("boolean(const int64[::1], const int64[::1], const int64[::1])")
def ascends(times: I64, begins: I64, ends: I64) -> bool:
    """Whether the times of each series are strictly ascending."""
    for i in range(len(begins)):
        for k in range(begins[i] + 1, ends[i]):
            if times[k] <= times[k - 1]:
                return False
    return True


@kernel("void(const int64[::1], const int64[::1], const int64[::1], int64[::1], int64[::1])")
def settle_rows(times: I64, revision: I64, begins: I64, ends: I64, order: I64) -> None:
    """Sorts each series' rows by time, as `order` then says, and leaves the newest of each time;
    moves the series' ends.
    """
    for i in range(len(begins)):
        begin, end = begins[i], ends[i]
        is_ascending = True
        for k in range(begin + 1, end):
            is_ascending = is_ascending and times[k] > times[k - 1]
        if is_ascending:
            continue
        by_time = begin + np.argsort(times[begin:end], kind="mergesort")
        kept = begin
        for row in by_time:
            if kept > begin and times[row] == times[order[kept - 1]]:
                if revision[row] > revision[order[kept - 1]]:
                    order[kept - 1] = row
            else:
                order[kept] = row
                kept += 1
        ends[i] = kept
