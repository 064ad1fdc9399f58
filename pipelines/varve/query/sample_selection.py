"""How a query selects samples from columns: found at once, gathered when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np

from varve.model import copies
from varve.model.compiled import kernel
from varve.model.raw_memory import ask_for_words, copy_words
from varve.promql.kernels.search import upper_bound
from varve.promql.kernels.types import F64, I64, Bools
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import SampleBlock, Samples, Selection
from varve.query.sample_columns import BYTES_PER_SAMPLE, SampleColumns, SeriesRows

# Samples that are gathered at once: with what a kernel makes of them they stay in a core's cache.
_BLOCK_SAMPLES = 48_000
# Bounds of series in parts, 16 bytes each, that are kept until samples are gathered; beyond, as
# where a selection has many series in many row groups, it is gathered at once.
_MOST_BOUNDS = 4_000_000

# From so many series on, those without samples are left out where they are more than half: what
# they would take in every step costs more than deriving from other labels than last time.
_MANY = 1_024


def _nothing(_: int) -> None:
    """Takes no notice of memory."""


@dataclass(frozen=True, slots=True)
class FoundPart:
    """Rows of the wanted series, those of a slice of them, in the columns of one part, whose times
    are in [first_ms, last_ms].
    """

    wanted: slice
    ts: I64
    values: F64
    rows: SeriesRows
    count: int
    first_ms: int
    last_ms: int

    @property
    def bounds_bytes(self) -> int:
        return 17 * len(self.rows.low)

    def within(self, start_ms: int, end_ms: int) -> FoundPart | None:
        """What of it is in (start_ms, end_ms]; None if nothing is."""
        if start_ms < self.first_ms and self.last_ms <= end_ms:
            return self
        if self.last_ms <= start_ms or end_ms < self.first_ms:
            return None
        low, high = self.rows.low.copy(), self.rows.high.copy()
        count = narrow(self.ts, low, high, start_ms, end_ms)
        rows = SeriesRows(low, high, self.rows.has_stale)
        return replace(self, rows=rows, count=count) if count else None


def find_parts(
    parts: Iterable[SampleColumns], wanted: I64, start_ms: int, end_ms: int
) -> Iterator[FoundPart]:
    """What of each part is selected: of the wanted series (ascending ids) in (start_ms, end_ms].
    Parts without any are left out.
    """
    for part in parts:
        if not part.rows or part.last_ms <= start_ms or part.first_ms > end_ms:
            continue
        begin = int(np.searchsorted(wanted, part.series_ids[0], "left"))
        end = int(np.searchsorted(wanted, part.series_ids[-1], "right"))
        rows = SeriesRows.empty(end - begin)
        count = part.find(np.ascontiguousarray(wanted[begin:end]), start_ms, end_ms, rows)
        if count:
            yield FoundPart(
                *(slice(begin, end), part.ts, part.values, rows, count),
                *(part.first_ms, part.last_ms),
            )


def count_found(found: Sequence[FoundPart], series: int) -> tuple[int, int]:
    """At most how many of so many series have samples, and how many."""
    there = sum(int(np.count_nonzero(one.rows.high > one.rows.low)) for one in found)
    return min(there, series), sum(one.count for one in found)


def select_samples(
    resident: Sequence[FoundPart],
    passing: Iterable[SampleColumns],
    series_ids: I64,
    by_id: I64,
    start_ms: int,
    end_ms: int,
    take: Callable[[int], None] = _nothing,
) -> Samples:
    """Selects the samples of some series in (start_ms, end_ms].

    `resident` is what `find_parts` found of what is in memory anyway. `passing` parts are there for
    this alone: what is wanted of each is copied out, unless it is most of it, before the next is
    asked for. `take` is asked for the bytes that this holds before they are allocated, and may
    raise. by_id holds the positions of series_ids in ascending order of id. Row i of the result is
    series_ids[i]. The samples may be gathered only when they are looked at.
    """
    wanted = series_ids[by_id]
    found = [*resident]
    take(sum(one.bounds_bytes for one in found))
    found += [_held(one, take) for one in find_parts(passing, wanted, start_ms, end_ms)]
    take(6 * 8 * len(wanted))
    found = _settled(found, len(wanted), take)
    if not found:
        none = np.zeros(len(wanted), dtype=np.int64)
        stale = np.zeros(len(wanted), dtype=np.bool_)
        return Samples(np.empty(0, dtype=np.int64), np.empty(0), none, none, stale)
    if len(found) == 1:
        rows = _by_row(found[0], by_id)
        return Samples(found[0].ts, found[0].values, rows.low, rows.high, rows.has_stale)
    gathered = GatheredSamples(found, by_id, take)
    return gathered.whole() if len(found) * len(wanted) > _MOST_BOUNDS else gathered


def without_empty(labels: LabelTable, samples: Samples) -> Selection:
    """The selection, without series that have no samples if there are too many of them."""
    there = samples.ends > samples.begins
    count = int(np.count_nonzero(there))
    if len(there) < _MANY or 2 * count > len(there):
        return Selection(labels, samples)
    rows = np.flatnonzero(there)
    return Selection(labels.take(rows), samples.take(rows))


class GatheredSamples(Samples):
    """Samples of several parts, in which each series' samples follow one another in time.

    They are copied side by side some series at a time, as `blocks` is asked for them, or all at
    once when a column is.
    """

    __slots__ = ("_bounds", "_by_id", "_parts", "_take", "_whole")

    _parts: Sequence[FoundPart]
    _by_id: I64
    _take: Callable[[int], None]
    _whole: Samples | None
    _bounds: tuple[I64, I64] | None

    def __init__(self, parts: Sequence[FoundPart], by_id: I64, take: Callable[[int], None]) -> None:
        """parts: in order of time. by_id: where each wanted series is in the result."""
        series = len(by_id)
        lengths = np.zeros(series, dtype=np.int64)
        stale = np.zeros(series, dtype=np.bool_)
        for one in parts:
            lengths[by_id[one.wanted]] += one.rows.high - one.rows.low
            stale[by_id[one.wanted]] |= one.rows.has_stale
        ends = np.cumsum(lengths)
        columns: dict[str, Any] = {"begins": ends - lengths, "ends": ends, "has_stale": stale}
        columns |= {"histograms": None, "has_histograms": None, "start_ts": None}
        columns |= {"_parts": parts, "_by_id": by_id, "_take": take, "_whole": None}
        columns |= {"_bounds": None}
        for name, value in columns.items():
            object.__setattr__(self, name, value)

    @property
    def ts(self) -> I64:
        return self.whole().ts

    @property
    def values(self) -> F64:
        return self.whole().values

    def whole(self) -> Samples:
        """All of it in columns."""
        if self._whole is not None:
            return self._whole
        size = int(self.ends[-1]) if self.series else 0
        self._take(BYTES_PER_SAMPLE * size)
        ts, values = np.empty(size, dtype=np.int64), np.empty(size)
        filled = self.begins.copy()
        for one in self._parts:
            places = filled[self._by_id[one.wanted]]
            append_ranges(one.ts, one.values, one.rows.low, one.rows.high, ts, values, places)
            filled[self._by_id[one.wanted]] = places
        whole = Samples(ts, values, self.begins, self.ends, self.has_stale)
        object.__setattr__(self, "_whole", whole)
        return whole

    def take(self, rows: I64) -> Samples:
        return self.whole().take(rows)

    def within(self, start_ms: int, end_ms: int) -> Samples:
        if self._whole is not None:
            return self._whole
        parts = [part for one in self._parts if (part := one.within(start_ms, end_ms)) is not None]
        return GatheredSamples(parts, self._by_id, self._take)

    def blocks(self, rows: slice) -> Iterator[SampleBlock]:
        if self._whole is not None:
            yield from self._whole.blocks(rows)
            return
        low, high = self._bounds_by_row()
        ts_at = np.array([one.ts.ctypes.data for one in self._parts], dtype=np.int64)
        values_at = np.array([one.values.ctypes.data for one in self._parts], dtype=np.int64)
        buffer: tuple[I64, F64] = np.empty(0, dtype=np.int64), np.empty(0)
        for block in _blocks_of(rows, self.ends - self.begins):
            begins, ends = self.begins[block], self.ends[block]
            first = int(begins[0]) if len(begins) else 0
            size = int(ends[-1]) - first if len(ends) else 0
            if size > len(buffer[0]):
                buffer = np.empty(size, dtype=np.int64), np.empty(size)
            gather_ranges(ts_at, values_at, low[block], high[block], *buffer)
            yield SampleBlock(block, *buffer, begins - first, ends - first, self.has_stale[block])

    def _bounds_by_row(self) -> tuple[I64, I64]:
        """The rows of each series (row) in each part (column)."""
        if self._bounds is None:
            shape = len(self._by_id), len(self._parts)
            self._take(16 * shape[0] * shape[1])
            low, high = np.zeros((2, *shape), dtype=np.int64)
            for i, one in enumerate(self._parts):
                rows = self._by_id[one.wanted]
                low[rows, i], high[rows, i] = one.rows.low, one.rows.high
            object.__setattr__(self, "_bounds", (low, high))
        return cast(tuple[I64, I64], self._bounds)


def spread(samples: Samples, rows: I64, size: int) -> Samples:
    """The series as those of some rows of `size`; all others have no samples."""
    begins, ends = np.zeros((2, size), dtype=np.int64)
    has_stale = np.zeros(size, dtype=np.bool_)
    begins[rows], ends[rows], has_stale[rows] = samples.begins, samples.ends, samples.has_stale
    return replace(samples, begins=begins, ends=ends, has_stale=has_stale)


def _blocks_of(rows: slice, lengths: I64) -> Iterator[slice]:
    """The rows, so many at a time that they have about _BLOCK_SAMPLES; an empty slice if none."""
    ends = np.cumsum(lengths[rows])
    count = int(ends[-1]) // _BLOCK_SAMPLES if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(1, count + 1) * _BLOCK_SAMPLES) + 1
    edges = [rows.start, *np.unique(rows.start + cuts).tolist(), rows.stop]
    for begin, end in pairwise(edges):
        if begin < end or rows.start == rows.stop:
            yield slice(begin, end)


def _by_row(found: FoundPart, by_id: I64) -> SeriesRows:
    """The bounds by row of the result."""
    low, high = np.zeros((2, len(by_id)), dtype=np.int64)
    stale = np.zeros(len(by_id), dtype=np.bool_)
    rows = by_id[found.wanted]
    low[rows], high[rows] = found.rows.low, found.rows.high
    stale[rows] = found.rows.has_stale
    return SeriesRows(low, high, stale)


def _held(found: FoundPart, take: Callable[[int], None]) -> FoundPart:
    """The rows, copied out of a part of which they are the smaller half, so that it can go."""
    if 2 * found.count > len(found.ts):
        take(found.bounds_bytes + BYTES_PER_SAMPLE * len(found.ts))
        return found
    take(found.bounds_bytes + BYTES_PER_SAMPLE * found.count)
    ts, values = np.empty(found.count, dtype=np.int64), np.empty(found.count)
    lengths = found.rows.high - found.rows.low
    high = np.cumsum(lengths)
    low = high - lengths
    append_ranges(found.ts, found.values, found.rows.low, found.rows.high, ts, values, low.copy())
    rows = SeriesRows(low, high, found.rows.has_stale)
    return replace(found, ts=ts, values=values, rows=rows)


def _settled(found: list[FoundPart], series: int, take: Callable[[int], None]) -> list[FoundPart]:
    """The parts, with series whose samples in several of them overlap in time in a part of their
    own, sorted and without copies.
    """
    if len(found) < 2:
        return found
    found = sorted(found, key=_first_ts)
    last = np.full(series, np.iinfo(np.int64).min, dtype=np.int64)
    overlaps = np.zeros(series, dtype=np.bool_)
    for one in found:
        mark_overlaps(one.ts, one.rows.low, one.rows.high, last[one.wanted], overlaps[one.wanted])
    if not overlaps.any():
        return found
    lengths = np.zeros(series, dtype=np.int64)
    stale = np.zeros(series, dtype=np.bool_)
    for one in found:
        here = overlaps[one.wanted]
        lengths[one.wanted] += np.where(here, one.rows.high - one.rows.low, 0)
        stale[one.wanted] |= here & one.rows.has_stale
    ends = np.cumsum(lengths)
    begins = ends - lengths
    take(BYTES_PER_SAMPLE * int(ends[-1]) + 17 * series)
    ts, values = np.empty(int(ends[-1]), dtype=np.int64), np.empty(int(ends[-1]))
    filled = begins.copy()
    rest = []
    for one in found:
        here, low, high = overlaps[one.wanted], one.rows.low, one.rows.high
        append_ranges(
            one.ts, one.values, low, np.where(here, high, low), ts, values, filled[one.wanted]
        )
        rows = SeriesRows(low, np.where(here, low, high), one.rows.has_stale & ~here)
        count = int((rows.high - rows.low).sum())
        if count:
            rest.append(replace(one, rows=rows, count=count))
    copies.settle(ts, values, begins, ends)
    settled = SeriesRows(begins, ends, stale)
    span_ms = min(one.first_ms for one in found), max(one.last_ms for one in found)
    count = int((ends - begins).sum())
    return [*rest, FoundPart(slice(0, series), ts, values, settled, count, *span_ms)]


def _first_ts(found: FoundPart) -> int:
    row = int(np.argmax(found.rows.high > found.rows.low))
    return int(found.ts[found.rows.low[row]])


@kernel("void(const int64[::1], const int64[::1], const int64[::1], int64[::1], boolean[::1])")
def mark_overlaps(ts: I64, low: I64, high: I64, last: I64, overlaps: Bools) -> None:
    """Marks series whose rows low:high do not all lie after `last`, which is moved on to them."""
    for i in range(len(low)):
        if low[i] < high[i]:
            overlaps[i] |= ts[low[i]] <= last[i]
            last[i] = max(last[i], ts[high[i] - 1])


@kernel("int64(const int64[::1], int64[::1], int64[::1], int64, int64)")
def narrow(ts: I64, low: I64, high: I64, start_ms: int, end_ms: int) -> int:
    """Narrows each series' rows low:high to those in (start_ms, end_ms]; returns how many are."""
    count = 0
    for i in range(len(low)):
        low[i] = upper_bound(ts, low[i], high[i], start_ms)
        high[i] = upper_bound(ts, low[i], high[i], end_ms)
        count += high[i] - low[i]
    return count


@kernel(
    "void(const int64[::1], const float64[::1], const int64[::1], const int64[::1],"
    " int64[::1], float64[::1], int64[::1])"
)
def append_ranges(
    ts: I64, values: F64, low: I64, high: I64, ts_out: I64, values_out: F64, filled: I64
) -> None:
    """Copies each series' rows low:high to the output at filled[i], and moves filled[i] on."""
    ts_at, values_at = ts.ctypes.data, values.ctypes.data
    ts_to, values_to = ts_out.ctypes.data, values_out.ctypes.data
    for i in range(len(low)):
        if i + 1 < len(low):
            ask_for_words(ts_at, low[i + 1], high[i + 1])
            ask_for_words(values_at, low[i + 1], high[i + 1])
        count = high[i] - low[i]
        if count > 0:
            copy_words(ts_to + 8 * filled[i], ts_at + 8 * low[i], count)
            copy_words(values_to + 8 * filled[i], values_at + 8 * low[i], count)
            filled[i] += count


@kernel("void(int64[::1], int64[::1], int64[:,::1], int64[:,::1], int64[::1], float64[::1])")
def gather_ranges(
    ts_at: I64, values_at: I64, low: I64, high: I64, ts_out: I64, values_out: F64
) -> None:
    """Copies rows low:high of each series (row) in each part (column), one behind the other.

    ts_at and values_at are the addresses of the parts' columns.
    """
    series, parts = low.shape
    ts_to, values_to = ts_out.ctypes.data, values_out.ctypes.data
    for i in range(series):
        for p in range(parts):
            row, part = (i, p + 1) if p + 1 < parts else (i + 1, 0)
            if row < series:
                ask_for_words(ts_at[part], low[row, part], high[row, part])
                ask_for_words(values_at[part], low[row, part], high[row, part])
            count = high[i, p] - low[i, p]
            if count > 0:
                copy_words(ts_to, ts_at[p] + 8 * low[i, p], count)
                copy_words(values_to, values_at[p] + 8 * low[i, p], count)
                ts_to += 8 * count
                values_to += 8 * count
