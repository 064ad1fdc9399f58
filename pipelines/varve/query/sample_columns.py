"""Decoded samples as sorted columns, series by series, and how several of them merge.

A (series_id, ts) is one sample; varve.model.copies has the rule of which of its copies stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from varve.model import copies
from varve.model.compiled import inline, kernel
from varve.model.copies import rank_of
from varve.model.staleness import NORMAL_NAN, STALE_BITS, STALE_NAN
from varve.promql.kernels.search import lower_bound, upper_bound
from varve.promql.kernels.types import F64, I64, Bools

BYTES_PER_SAMPLE = 16
BYTES_PER_SERIES = 17
COLUMNS = ("series_id", "ts", "value")
"""What is read of the table samples."""

_STALE = STALE_BITS  # kernels take globals of their own module for constants


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Samples of series_ids[i] are rows offsets[i]:offsets[i + 1], strictly ascending by ts.

    series_ids is strictly ascending, and each series has rows. A staleness marker has the bits of
    STALE_NAN, every other NaN those of NORMAL_NAN; has_stale[i] is False only if series i has no
    marker. All times are in [first_ms, last_ms]; both are 0 without rows. Immutable.
    """

    series_ids: I64
    offsets: I64
    ts: I64
    values: F64
    has_stale: Bools
    first_ms: int
    last_ms: int
    derived: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)
    """What is made of them once, such as which series there are. Little beside the columns."""

    @classmethod
    def of(cls, series_ids: I64, offsets: I64, ts: I64, values: F64) -> SampleColumns:
        """Looks for staleness markers, and for the first and last time."""
        has_stale = np.empty(len(series_ids), dtype=np.bool_)
        first_ms, last_ms = _look_through(offsets, ts, values.view(np.int64), has_stale)
        return cls(series_ids, offsets, ts, values, has_stale, int(first_ms), int(last_ms))

    @property
    def rows(self) -> int:
        return len(self.ts)

    @property
    def nbytes(self) -> int:
        return self.rows * BYTES_PER_SAMPLE + len(self.series_ids) * BYTES_PER_SERIES

    def find(self, wanted: I64, start_ms: int, end_ms: int, found: SeriesRows) -> int:
        """Finds the rows of the wanted series (ascending ids) in (start_ms, end_ms]; returns how
        many there are.
        """
        return find_series_rows(
            self.series_ids,
            self.offsets,
            self.ts,
            self.has_stale,
            wanted,
            start_ms,
            end_ms,
            self.first_ms,
            self.last_ms,
            found.low,
            found.high,
            found.has_stale,
        )

    def within(self, inside: Bools) -> SampleColumns:
        """The rows of a mask."""
        offsets = np.concatenate([[0], np.cumsum(inside)])[self.offsets]
        there = offsets[1:] > offsets[:-1]
        return SampleColumns.of(
            self.series_ids[there],
            np.concatenate([[0], offsets[1:][there]]),
            self.ts[inside],
            self.values[inside],
        )

    def between(self, begin_ms: int, end_ms: int) -> SampleColumns:
        """The samples in [begin_ms, end_ms)."""
        if begin_ms <= self.first_ms and self.last_ms < end_ms:
            return self
        return self.within((self.ts >= begin_ms) & (self.ts < end_ms))


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """Rows low[i]:high[i] of some columns are those of the i-th of some series."""

    low: I64
    high: I64
    has_stale: Bools

    @classmethod
    def empty(cls, series: int) -> SeriesRows:
        low, high = np.empty((2, series), dtype=np.int64)
        return cls(low, high, np.empty(series, dtype=np.bool_))


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
    begins = np.flatnonzero(ids[1:] != ids[:-1]) + 1
    begins = np.concatenate([np.zeros(min(1, len(ids)), np.int64), begins])
    offsets = np.concatenate([begins, [len(ids)]])
    return SampleColumns.of(ids[begins], offsets, np.array(ts), values)


def merge(parts: Sequence[SampleColumns]) -> SampleColumns:
    """Merges all samples of the parts into one. ValueError without parts."""
    if not parts:
        raise ValueError("nothing to merge")
    while len(parts) > 1:  # pairs of like size, so that no row is copied more than log n times
        ordered = sorted(parts, key=lambda part: part.rows)
        pairs = [ordered[i : i + 2] for i in range(0, len(ordered), 2)]
        parts = [_merge_two(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def _merge_two(left: SampleColumns, right: SampleColumns) -> SampleColumns:
    ids, offsets, ts, bits = _joined(
        left.series_ids, left.offsets, left.ts, left.values.view(np.int64),
        right.series_ids, right.offsets, right.ts, right.values.view(np.int64),
    )  # fmt: skip
    if offsets[-1] < len(ts):
        ts, bits = ts[: offsets[-1]].copy(), bits[: offsets[-1]].copy()
    return SampleColumns.of(ids, offsets, ts, bits.view(np.float64))


@kernel("boolean(const int64[::1], const int64[::1])")
def strictly_sorted(ids: I64, ts: I64) -> bool:
    for i in range(1, len(ids)):
        if ids[i] < ids[i - 1] or (ids[i] == ids[i - 1] and ts[i] <= ts[i - 1]):
            return False
    return True


@kernel("(const int64[::1], const int64[::1], const int64[::1], boolean[::1])")
def _look_through(offsets: I64, ts: I64, bits: I64, has_stale: Bools) -> tuple[np.int64, np.int64]:
    first, last = np.int64(0), np.int64(0)
    any_row = False
    for i in range(len(has_stale)):
        has_stale[i] = False
        begin, end = offsets[i], offsets[i + 1]
        for k in range(begin, end):
            has_stale[i] |= bits[k] == _STALE
        if begin < end:
            first = min(first, ts[begin]) if any_row else ts[begin]
            last = max(last, ts[end - 1]) if any_row else ts[end - 1]
            any_row = True
    return first, last


@kernel(
    "int64(const int64[::1], const int64[::1], const int64[::1], const boolean[::1],"
    " const int64[::1], int64, int64, int64, int64, int64[::1], int64[::1], boolean[::1])"
)
def find_series_rows(
    ids: I64, offsets: I64, ts: I64, stale: Bools, wanted: I64, start_ms: int, end_ms: int,
    first_ms: int, last_ms: int, low: I64, high: I64, has_stale: Bools,
) -> int:  # fmt: skip
    """Sets rows low[i]:high[i] of series wanted[i] (ascending ids) in (start_ms, end_ms], and
    whether it has stale markers; returns how many rows there are. All times are in
    [first_ms, last_ms].
    """
    is_whole = start_ms < first_ms and end_ms >= last_ms
    found = 0
    place = 0
    for i in range(len(wanted)):
        # Gallop: many wanted ids lie close together.
        step = 1
        stop = place
        while stop < len(ids) and ids[stop] < wanted[i]:
            place = stop + 1
            stop = min(stop + step, len(ids))
            step *= 2
        place = lower_bound(ids, place, stop, wanted[i])
        if place == len(ids) or ids[place] != wanted[i]:
            low[i] = high[i] = 0
            has_stale[i] = False
            continue
        low[i], high[i] = offsets[place], offsets[place + 1]
        if not is_whole:
            low[i] = upper_bound(ts, low[i], high[i], start_ms)
            high[i] = upper_bound(ts, low[i], high[i], end_ms)
        has_stale[i] = stale[place] and high[i] > low[i]
        found += high[i] - low[i]
    return found


@inline
def _copy(ts: I64, bits: I64, begin: int, end: int, ts_out: I64, bits_out: I64, at: int) -> int:
    for k in range(begin, end):
        ts_out[at] = ts[k]
        bits_out[at] = bits[k]
        at += 1
    return at


@kernel(
    "(const int64[::1], const int64[::1], const int64[::1], const int64[::1],"
    " const int64[::1], const int64[::1], const int64[::1], const int64[::1])"
)
def _joined(
    a_ids: I64, a_offsets: I64, a_ts: I64, a_bits: I64,
    b_ids: I64, b_offsets: I64, b_ts: I64, b_bits: I64,
) -> tuple[I64, I64, I64, I64]:  # fmt: skip
    """Ids, offsets, times and values of both; the last two may have room to spare."""
    ids = np.empty(len(a_ids) + len(b_ids), np.int64)
    offsets = np.empty(len(ids) + 1, np.int64)
    ts, bits = np.empty(len(a_ts) + len(b_ts), np.int64), np.empty(len(a_ts) + len(b_ts), np.int64)
    i = j = count = at = 0
    while i < len(a_ids) or j < len(b_ids):
        is_a = i < len(a_ids) and (j == len(b_ids) or a_ids[i] <= b_ids[j])
        is_b = j < len(b_ids) and (i == len(a_ids) or b_ids[j] <= a_ids[i])
        offsets[count] = at
        ids[count] = a_ids[i] if is_a else b_ids[j]
        count += 1
        a, a_end = (a_offsets[i], a_offsets[i + 1]) if is_a else (0, 0)
        b, b_end = (b_offsets[j], b_offsets[j + 1]) if is_b else (0, 0)
        i += is_a
        j += is_b
        if a < a_end and b < b_end and b_ts[b_end - 1] < a_ts[a]:
            at = _copy(b_ts, b_bits, b, b_end, ts, bits, at)
            b = b_end
        if a < a_end and b < b_end and a_ts[a_end - 1] >= b_ts[b]:
            while a < a_end and b < b_end:
                if a_ts[a] <= b_ts[b]:
                    ts[at], bits[at] = a_ts[a], a_bits[a]
                    if a_ts[a] == b_ts[b]:
                        if rank_of(b_bits[b]) > rank_of(a_bits[a]):
                            bits[at] = b_bits[b]
                        b += 1
                    a += 1
                else:
                    ts[at], bits[at] = b_ts[b], b_bits[b]
                    b += 1
                at += 1
        at = _copy(a_ts, a_bits, a, a_end, ts, bits, at)
        at = _copy(b_ts, b_bits, b, b_end, ts, bits, at)
    offsets[count] = at
    return ids[:count].copy(), offsets[: count + 1].copy(), ts, bits
