"""Decoded rollup rows as sorted columns, and how rows of many parts become those of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model.compiled import kernel
from varve.model.raw_memory import ask_for_words, copy_words
from varve.promql.kernels.search import lower_bound
from varve.promql.kernels.types import I64, Bools
from varve.promql.storage import RollupRows, Sketches
from varve.query.cover import Ranges
from varve.rollups.algebra import NEVER, Rows

SERIES_ID, WINDOW_END, REVISION, SKETCH = "series_id", "window_end", "revision", "sketch"

Column = npt.NDArray[Any]

_ASKED_AHEAD = 4
"""Series whose memory is on its way while one is copied."""


@dataclass(frozen=True, slots=True)
class SketchColumn:
    """The sketch of row r is keys and counts [starts[r], starts[r + 1])."""

    starts: I64
    keys: npt.NDArray[np.int32]
    counts: I64

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.keys.nbytes + self.counts.nbytes


class RollupPart(Protocol):
    """Some rows sorted by (series_id, window_end), whose columns are had one by one."""

    def load(self, name: str) -> Column | SketchColumn:
        """A column by its name in schemas/tables/rollup.sql, as varve.rollups.algebra.Rows has it.

        Raises OSError if it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class MadePart:
    """Rows that were made of samples just now; they replace no others."""

    rows: Rows

    def load(self, name: str) -> Column | SketchColumn:
        if name == SKETCH:
            return SketchColumn(
                self.rows.sketch_starts, self.rows.sketch_keys, self.rows.sketch_counts
            )
        if name == REVISION:
            return np.zeros(len(self.rows), dtype=np.int64)
        column: Column = getattr(self.rows, name)
        return column


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """Which rows of a part are selected.

    Of the rows `rows` of the part, all if None, low[i]:high[i] are those of the i-th series of the
    slice `wanted` of those that are asked for. ends: window_end of the rows.
    """

    part: RollupPart
    wanted: slice
    low: I64
    high: I64
    rows: I64 | None
    ends: I64

    @property
    def count(self) -> int:
        return int((self.high - self.low).sum())

    @property
    def nbytes(self) -> int:
        rows = 0 if self.rows is None else self.rows.nbytes
        return self.low.nbytes + self.high.nbytes + self.ends.nbytes + rows

    def of(self, column: Column) -> Column:
        """The rows' values of a column of the part."""
        return column if self.rows is None else column[self.rows]


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


def choose_rows(
    part: RollupPart,
    part_ids: I64,
    part_ends: I64,
    series_ids: I64,
    span: tuple[int, int],
    uses: Callable[[I64], Bools] | None = None,
) -> ChosenRows | None:
    """The rows of some series (ascending ids) that end in `span`, (start, end]; None if there are
    none. uses: which windows are meant, by their ends.
    """
    if not len(part_ids):
        return None
    rows: I64 | None = None
    if uses is not None:
        rows = np.flatnonzero(uses(part_ends))
        if not len(rows):
            return None
        part_ids, part_ends = part_ids[rows], part_ends[rows]
    begin = int(np.searchsorted(series_ids, part_ids[0], "left"))
    end = int(np.searchsorted(series_ids, part_ids[-1], "right"))
    low, high = np.empty((2, end - begin), dtype=np.int64)
    ids = np.ascontiguousarray(series_ids[begin:end])
    if not find_row_ranges(part_ids, part_ends, ids, *span, low, high):
        return None
    ends = np.cumsum(high - low)
    count = int(ends[-1])
    if 2 * count < len(part_ends):  # the keys of the others need not be held
        begins = ends - (high - low)
        places = np.repeat(low - begins, high - low) + np.arange(count)
        rows = places if rows is None else rows[places]
        part_ends, low, high = part_ends[places], begins, ends
    return ChosenRows(part, slice(begin, end), low, high, rows, part_ends)


def join_rows(
    chosen: Sequence[ChosenRows],
    places: I64,
    ranges: Ranges,
    columns: Sequence[str],
    load: Callable[[Sequence[RollupPart], str], Iterable[Column | SketchColumn]],
    take: Callable[[int], None],
) -> RollupRows:
    """The rows of all parts, each series' side by side in order of time.

    places: what each series that was asked for is called in the result. ranges: those that the rows
    are for. Of rows of one window the
    greatest revision counts. Series without rows are left out. `load` gives a column of some parts,
    one after the other: no more than a column of a few parts is in memory beside what is made of
    them. `take` is asked for that before it is allocated.
    """
    chosen = sorted(chosen, key=_first_end)
    counts = np.zeros(len(places), dtype=np.int64)
    for part in chosen:
        counts[part.wanted] += part.high - part.low
    ends = np.cumsum(counts)
    begins = ends - counts
    total = int(ends[-1]) if len(ends) else 0
    take(8 * total * (len(columns) + 2) + 32 * len(places))
    parts = [one.part for one in chosen]

    def joined(name: str) -> Column:
        out: Column = np.empty(total, dtype=_type_of(name))
        _fill(out, chosen, load(parts, name), begins)
        return out

    row_ends = np.empty(total, dtype=np.int64)
    filled = begins.copy()
    for one in chosen:
        append_bits(one.ends, one.low, one.high, row_ends, filled[one.wanted])
    found = {name: joined(name) for name in columns if name != SKETCH}
    sketches = None
    if SKETCH in columns:
        sketches = _joined_sketches(chosen, load(parts, SKETCH), begins, total, take)
    if not ascends(row_ends, begins, ends):
        order, ends = np.arange(total), ends.copy()
        settle_rows(row_ends, joined(REVISION).view(np.int64), begins, ends, order)
        row_ends = row_ends[order]
        found = {name: column[order] for name, column in found.items()}
        if sketches is not None:
            sketches = Sketches(
                sketches.begins[order], sketches.ends[order], sketches.keys, sketches.counts
            )
    there = np.flatnonzero(counts)
    return RollupRows(
        places[there],
        row_ends,
        begins[there].copy(),
        ends[there].copy(),
        ranges.starts,
        ranges.ends,
        found,
        sketches,
    )


def _type_of(name: str) -> type:
    integers = ("_ts", "count", "resets", "changes", REVISION)
    return np.int64 if name.endswith(integers) else np.float64


def _fill(
    out: Column,
    chosen: Sequence[ChosenRows],
    columns: Iterable[Column | SketchColumn],
    begins: I64,
) -> None:
    """Fills a column with each series' rows of all parts side by side."""
    filled, bits = begins.copy(), out.view(np.int64)
    for one, column in zip(chosen, columns, strict=True):
        if isinstance(column, SketchColumn):
            raise TypeError("a sketch is no column of numbers")
        source = np.ascontiguousarray(one.of(column)).view(np.int64)
        append_bits(source, one.low, one.high, bits, filled[one.wanted])


def _joined_sketches(
    chosen: Sequence[ChosenRows],
    columns: Iterable[Column | SketchColumn],
    begins: I64,
    total: int,
    take: Callable[[int], None],
) -> Sketches:
    first, last = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    keys, counts = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    size = 0
    filled, also = begins.copy(), begins.copy()
    take(16 * total)
    for one, column in zip(chosen, columns, strict=True):
        if not isinstance(column, SketchColumn):
            raise TypeError("a column of numbers is no sketch")
        held = column if one.rows is None else _taken(column, one.rows)
        take(2 * held.nbytes)
        append_bits(held.starts[:-1] + size, one.low, one.high, first, filled[one.wanted])
        append_bits(held.starts[1:] + size, one.low, one.high, last, also[one.wanted])
        keys.append(held.keys)
        counts.append(held.counts)
        size += len(held.keys)
    return Sketches(
        first, last, np.concatenate(keys).astype(np.int32, copy=False), np.concatenate(counts)
    )


def _first_end(chosen: ChosenRows) -> int:
    return int(chosen.ends[0])


def _taken(sketches: SketchColumn, rows: I64) -> SketchColumn:
    lengths = np.diff(sketches.starts)[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    entries = np.repeat(sketches.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
    return SketchColumn(starts, sketches.keys[entries], sketches.counts[entries])


@kernel("void(const int64[::1], const int64[::1], const int64[::1], int64[::1], int64[::1])")
def append_bits(source: I64, low: I64, high: I64, out: I64, filled: I64) -> None:
    """Copies each series' rows low:high to the output at filled[i], and moves filled[i] on.

    Series lie far apart in the output, of which what is written soon is asked for ahead.
    """
    to, begin = out.ctypes.data, source.ctypes.data
    for i in range(len(low)):
        later = i + _ASKED_AHEAD
        if later < len(low):
            ask_for_words(to, filled[later], filled[later] + high[later] - low[later])
        count = high[i] - low[i]
        if count > 0:
            copy_words(to + 8 * filled[i], begin + 8 * low[i], count)
            filled[i] += count


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


@kernel(
    "boolean(const int64[::1], const int64[::1], const int64[::1], int64, int64,"
    " int64[::1], int64[::1])"
)
def find_row_ranges(
    ids: I64, ts: I64, wanted: I64, start_ms: int, end_ms: int, low: I64, high: I64
) -> bool:
    """Sets rows low[i]:high[i] of series wanted[i] (ascending ids) in (start_ms, end_ms].

    Returns whether there is any row.
    """
    found = False
    begin = 0
    for i in range(len(wanted)):
        # Gallop: many wanted ids lie close together.
        step = 1
        stop = begin
        while stop < len(ids) and ids[stop] < wanted[i]:
            begin = stop + 1
            stop = min(stop + step, len(ids))
            step *= 2
        begin = lower_bound(ids, begin, stop, wanted[i])
        step = 1
        last = begin
        while last < len(ids) and ids[last] == wanted[i]:
            last = min(last + step, len(ids))
            step *= 2
        end = lower_bound(ids, begin, last, wanted[i] + 1)
        low[i] = lower_bound(ts, begin, end, start_ms + 1)
        high[i] = lower_bound(ts, low[i], end, end_ms + 1)
        found = found or high[i] > low[i]
        begin = end
    return found
