"""Decoded samples as sorted columns: how several of them merge, and how a query selects from them.

A (series_id, ts) is one sample; varve.model.copies has the rule of which of its copies stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from varve.model import copies
from varve.model.compiled import inline, kernel
from varve.model.staleness import NORMAL_NAN, STALE_BITS, STALE_NAN
from varve.promql.kernels.types import F64, I64, Bools
from varve.promql.storage import Samples

BYTES_PER_SAMPLE = 24
COLUMNS = ("series_id", "ts", "value")
"""What is read of the table samples."""

_STALE = STALE_BITS  # kernels take globals of their own module for constants


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Samples sorted by (series_id, ts), each once. Immutable.

    A staleness marker has the bits of STALE_NAN, every other NaN those of NORMAL_NAN.
    """

    series_ids: I64
    ts: I64
    values: F64
    derived: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)
    """What is made of them once, such as which series there are. Little beside the columns."""

    @property
    def rows(self) -> int:
        return len(self.ts)

    @property
    def nbytes(self) -> int:
        return self.rows * BYTES_PER_SAMPLE


def _nothing(_: int) -> None:
    """Takes no notice of memory."""


def from_arrow(rows: pa.Table) -> SampleColumns:
    """Converts COLUMNS of the table samples, in any order and with copies; NULL marks staleness."""
    rows = rows.combine_chunks()
    ids = np.ascontiguousarray(rows.column("series_id").to_numpy())
    ts = np.ascontiguousarray(rows.column("ts").to_numpy())
    column = rows.column("value")
    values = np.array(column.to_numpy(zero_copy_only=False))
    values[np.isnan(values)] = NORMAL_NAN
    if column.null_count:
        values[column.is_null().to_numpy()] = STALE_NAN
    if not strictly_sorted(ids, ts):
        ids, ts, values = copies.merge(ids, ts, values)
    return SampleColumns(ids, ts, values)


def merge(parts: Sequence[SampleColumns]) -> SampleColumns:
    """Merges all samples of the parts into one. ValueError without parts."""
    if not parts:
        raise ValueError("nothing to merge")
    while len(parts) > 1:  # pairs of like size, so that no row is copied more than log n times
        ordered = sorted(parts, key=lambda part: part.rows)
        pairs = [ordered[i : i + 2] for i in range(0, len(ordered), 2)]
        parts = [_merge_two(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def select_samples(
    resident: Iterable[SampleColumns],
    passing: Iterable[SampleColumns],
    series_ids: I64,
    by_id: I64,
    start_ms: int,
    end_ms: int,
    take: Callable[[int], None] = _nothing,
) -> Samples:
    """Selects the samples of some series in (start_ms, end_ms] from all parts.

    `resident` parts are in memory anyway. `passing` ones are there for this alone: what is wanted
    of each is copied out, unless it is most of it, before the next is asked for. `take` is asked
    for the bytes that this holds before they are allocated, and may raise. by_id holds the
    positions of series_ids in ascending order of id. Row i of the result is series_ids[i].
    """
    wanted = series_ids[by_id]
    found = list(_find_all(resident, wanted, start_ms, end_ms))
    take(sum(ranges.bounds_bytes for ranges in found))
    found += [_held(ranges, take) for ranges in _find_all(passing, wanted, start_ms, end_ms)]
    back = np.empty_like(by_id)
    back[by_id] = np.arange(len(by_id))
    take(6 * 8 * len(wanted))
    low, high = np.zeros((2, len(wanted)), dtype=np.int64)
    if not found:
        empty = np.empty(0, dtype=np.int64)
        return Samples(empty, np.empty(0), low, high, np.zeros(len(wanted), dtype=np.bool_))
    if len(found) == 1:
        (one,) = found
        ts, values = one.ts, one.values
        low[one.wanted], high[one.wanted] = one.low, one.high
    else:
        ts, values = _concatenate(found, low, high, take)
    stale = np.empty(len(wanted), dtype=np.bool_)
    mark_stale(values.view(np.int64), low, high, stale)
    return Samples(ts, values, low[back], high[back], stale[back])


def count_samples(
    parts: Iterable[SampleColumns], ids: I64, start_ms: int, end_ms: int
) -> tuple[int, int]:
    """At most how many of the series (ascending ids) have samples in the range, and how many."""
    series = rows = 0
    for ranges in _find_all(parts, ids, start_ms, end_ms):
        series += int(np.count_nonzero(ranges.high > ranges.low))
        rows += ranges.rows
    return min(series, len(ids)), rows


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Rows low[i]:high[i] of the columns are those of the i-th wanted series of a slice."""

    wanted: slice
    ts: I64
    values: F64
    low: I64
    high: I64
    rows: int

    @property
    def bounds_bytes(self) -> int:
        return 16 * len(self.low)


def _find_all(
    parts: Iterable[SampleColumns], wanted: I64, start_ms: int, end_ms: int
) -> Iterator[_Ranges]:
    """The rows of each part that are selected, of those parts that have any."""
    for part in parts:
        if not part.rows:
            continue
        begin = int(np.searchsorted(wanted, part.series_ids[0], "left"))
        end = int(np.searchsorted(wanted, part.series_ids[-1], "right"))
        low, high = np.empty((2, end - begin), dtype=np.int64)
        ids = np.ascontiguousarray(wanted[begin:end])
        if find_row_ranges(part.series_ids, part.ts, ids, start_ms, end_ms, low, high):
            rows = int((high - low).sum())
            yield _Ranges(slice(begin, end), part.ts, part.values, low, high, rows)


def _held(found: _Ranges, take: Callable[[int], None]) -> _Ranges:
    """The ranges, copied out of a part of which they are the smaller half, so that it can go."""
    if 2 * found.rows > len(found.ts):
        take(found.bounds_bytes + BYTES_PER_SAMPLE * len(found.ts))
        return found
    take(found.bounds_bytes + 16 * found.rows)
    ts, values = np.empty(found.rows, dtype=np.int64), np.empty(found.rows, dtype=np.float64)
    high = np.cumsum(found.high - found.low)
    low = high - (found.high - found.low)
    append_ranges(found.ts, found.values, found.low, found.high, ts, values, low.copy())
    return _Ranges(found.wanted, ts, values, low, high, found.rows)


def _concatenate(
    found: list[_Ranges], begins: I64, ends: I64, take: Callable[[int], None]
) -> tuple[I64, F64]:
    """Copies each series' rows of all parts side by side; sets where each begins and ends."""
    # Mostly each part is a time of its own: in their order nothing has to be sorted.
    found.sort(key=_first_ts)
    for one in found:
        ends[one.wanted] += one.high - one.low
    rows = int(ends.sum())
    np.cumsum(ends, out=begins)
    begins -= ends
    ends += begins
    take(16 * rows)
    ts, values = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.float64)
    filled = begins.copy()
    for one in found:
        append_ranges(one.ts, one.values, one.low, one.high, ts, values, filled[one.wanted])
    copies.settle(ts, values, begins, ends)
    return ts, values


def _first_ts(found: _Ranges) -> int:
    row = int(np.argmax(found.high > found.low))
    return int(found.ts[found.low[row]])


def _merge_two(left: SampleColumns, right: SampleColumns) -> SampleColumns:
    size = left.rows + right.rows
    ids, ts = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    values = np.empty(size, dtype=np.float64)
    kept = copies.merge_two(
        left.series_ids, left.ts, left.values, right.series_ids, right.ts, right.values,
        ids, ts, values,
    )  # fmt: skip
    if kept < size:
        ids, ts, values = ids[:kept].copy(), ts[:kept].copy(), values[:kept].copy()
    return SampleColumns(ids, ts, values)


@kernel("boolean(const int64[::1], const int64[::1])")
def strictly_sorted(ids: I64, ts: I64) -> bool:
    for i in range(1, len(ids)):
        if ids[i] < ids[i - 1] or (ids[i] == ids[i - 1] and ts[i] <= ts[i - 1]):
            return False
    return True


@inline
def _lower_bound(column: I64, begin: int, end: int, value: int) -> int:
    """The first index in [begin, end] of an ascending column with column[i] >= value."""
    while begin < end:
        middle = (begin + end) >> 1
        if column[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin


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
        begin = _lower_bound(ids, begin, stop, wanted[i])
        step = 1
        last = begin
        while last < len(ids) and ids[last] == wanted[i]:
            last = min(last + step, len(ids))
            step *= 2
        end = _lower_bound(ids, begin, last, wanted[i] + 1)
        low[i] = _lower_bound(ts, begin, end, start_ms + 1)
        high[i] = _lower_bound(ts, low[i], end, end_ms + 1)
        found = found or high[i] > low[i]
        begin = end
    return found


@kernel(
    "void(const int64[::1], const float64[::1], const int64[::1], const int64[::1],"
    " int64[::1], float64[::1], int64[::1])"
)
def append_ranges(
    ts: I64, values: F64, low: I64, high: I64, ts_out: I64, values_out: F64, filled: I64
) -> None:
    """Copies each series' rows low:high to the output at filled[i], and moves filled[i] on."""
    bits, bits_out = values.view(np.int64), values_out.view(np.int64)
    for i in range(len(low)):
        at = filled[i]
        for k in range(low[i], high[i]):
            ts_out[at] = ts[k]
            bits_out[at] = bits[k]
            at += 1
        filled[i] = at


@kernel("void(const int64[::1], const int64[::1], const int64[::1], boolean[::1])")
def mark_stale(bits: I64, begins: I64, ends: I64, stale: Bools) -> None:
    """Sets for each series whether there is a staleness marker among its rows."""
    for i in range(len(begins)):
        stale[i] = False
        for k in range(begins[i], ends[i]):
            if bits[k] == _STALE:
                stale[i] = True
                break
