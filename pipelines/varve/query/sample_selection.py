"""How a query selects samples from columns: found at once, gathered when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from varve.model import copies
from varve.model.compiled import kernel
from varve.promql.kernels.types import F64, I64, Bools
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import SampleBlock, Samples, Selection
from varve.query.sample_columns import BYTES_PER_SAMPLE, SampleColumns, SeriesRows

# Samples that are gathered at once: with what a kernel makes of them they stay in a core's cache.
_BLOCK_SAMPLES = 48_000
# Bounds of series in parts, 17 bytes each, that are kept until samples are gathered; beyond, as
# where a selection has many series in many row groups, it is gathered at once.
_MOST_BOUNDS = 4_000_000

# From so many series on, those without samples are left out where they are more than half: what
# they would take in every step costs more than deriving from other labels than last time.
_MANY = 1_024


def _nothing(_: int) -> None:
    """Takes no notice of memory."""


@dataclass(frozen=True, slots=True)
class FoundPart:
    """Rows of the wanted series, those of a slice of them, in the columns of one part."""

    wanted: slice
    ts: I64
    values: F64
    rows: SeriesRows
    count: int

    @property
    def bounds_bytes(self) -> int:
        return 17 * len(self.rows.low)


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
            yield FoundPart(slice(begin, end), part.ts, part.values, rows, count)


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
    if len(found) * len(wanted) > _MOST_BOUNDS:
        return gathered.whole()
    take(17 * len(found) * len(wanted))
    return gathered


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

    __slots__ = ("_by_id", "_parts", "_take", "_whole")

    _parts: Sequence[FoundPart]
    _by_id: I64
    _take: Callable[[int], None]
    _whole: Samples | None

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

    def blocks(self, rows: slice) -> Iterator[SampleBlock]:
        if self._whole is not None:
            yield from self._whole.blocks(rows)
            return
        bounds = [(one.ts, one.values, _by_row(one, self._by_id)) for one in self._parts]
        buffer: tuple[I64, F64] = np.empty(0, dtype=np.int64), np.empty(0)
        for block in _blocks_of(rows, self.ends - self.begins):
            begins = self.begins[block] - self.begins[block][:1]
            size = int((self.ends[block] - self.begins[block]).sum())
            if size > len(buffer[0]):
                buffer = np.empty(size, dtype=np.int64), np.empty(size)
            filled = begins.copy()
            for ts, values, part in bounds:
                append_ranges(ts, values, part.low[block], part.high[block], *buffer, filled)
            yield SampleBlock(block, *buffer, begins, filled, self.has_stale[block])


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
    return FoundPart(found.wanted, ts, values, rows, found.count)


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
            rest.append(FoundPart(one.wanted, one.ts, one.values, rows, count))
    copies.settle(ts, values, begins, ends)
    settled = SeriesRows(begins, ends, stale)
    return [*rest, FoundPart(slice(0, series), ts, values, settled, int((ends - begins).sum()))]


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
