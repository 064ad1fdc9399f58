"""The aggregate over sorted columns, compiled: samples to rows, rows to rows of a wider tier.

Both kernels keep the same state for each window, in local variables: a loop for both, which keeps
it in a tuple of columns, takes 2.7 times as long.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from varve.model.compiled import inline, kernel
from varve.model.staleness import STALE_BITS
from varve.rollups.algebra import NEVER, WIDE, Floats, Ints, Rows
from varve.rollups.sketch import BOUNDS, key_of
from varve.rollups.sums import add, infinite, shifted, widened

_STALE = np.int64(STALE_BITS)
_BOUNDS = np.array(BOUNDS)
# Sketch entries up to which insertion beats merging.
_SHORT = 24


def aggregate(series_ids: Ints, ts: Ints, values: Floats, width_ms: int) -> Rows:
    """Rows of width_ms from samples sorted by (series_id, ts), unique; NULL is the stale marker."""
    starts = _starts(series_ids, ts, width_ms)
    return Rows(*_lift(series_ids, ts, values, starts, width_ms))


def aggregate_between(series_ids: Ints, ts: Ints, values: Floats, cuts: Ints) -> Rows:
    """Rows of samples as in `aggregate`, one for the samples after a cut up to and with the next.

    cuts: ascending; a sample after the last is in no row. window_end is the cut that ends the row.
    """
    place = np.searchsorted(cuts, ts, side="left")
    inside = place < len(cuts)
    if not inside.all():
        series_ids, ts, values, place = (
            series_ids[inside],
            ts[inside],
            values[inside],
            place[inside],
        )
    first = np.ones(len(ts), np.bool_)
    first[1:] = (series_ids[1:] != series_ids[:-1]) | (place[1:] != place[:-1])
    starts = np.append(np.flatnonzero(first), len(ts))
    rows = Rows(*_lift(series_ids, ts, values, starts, 1))
    return replace(rows, window_end=cuts[place[starts[:-1]]])


def merge(rows: Rows, order: Ints, width_ms: int) -> Rows:
    """Rows of width_ms from rows of a narrower tier whose width divides it.

    order: indices of the rows to merge, which sort them by (series_id, window_end), unique.
    """
    starts = _starts(rows.series_id[order], rows.window_end[order], width_ms)
    columns = [getattr(rows, name) for name in Rows.__slots__]
    return Rows(*_merge(*columns, order, starts, width_ms))  # type: ignore[call-arg]


@kernel("(const int64[::1], const int64[::1], int64)")
def _starts(ids, times, width):
    """Index of the first entry of each window, and the number of entries at the end."""
    n = len(ids)
    starts = np.empty(n + 1, np.int64)
    found = 0
    end = np.int64(0)
    for i in range(n):
        # Windows are left-open: a time on the boundary ends its window.
        if i == 0 or ids[i] != ids[i - 1] or times[i] > end:
            starts[found] = i
            found += 1
            end = -(-times[i] // width) * width
    starts[found] = n
    return starts[: found + 1].copy()


_key_of = inline(key_of)


@inline
def _sorted_entries(keys, counts, first, end):
    """Sorts the entries [first, end) by key in place, adds up equal keys; returns the new end."""
    size = end - first
    if size == 0:
        return end
    if size <= _SHORT:
        for i in range(first + 1, end):
            key, count, j = keys[i], counts[i], i - 1
            while j >= first and keys[j] > key:
                keys[j + 1], counts[j + 1] = keys[j], counts[j]
                j -= 1
            keys[j + 1], counts[j + 1] = key, count
    else:
        _merge_sort(keys[first:end], counts[first:end])
    last = first
    for i in range(first + 1, end):
        if keys[i] == keys[last]:
            counts[last] += counts[i]
        else:
            last += 1
            keys[last], counts[last] = keys[i], counts[i]
    return last + 1


@inline
def _merge_sort(keys, counts):
    """Sorts both by key in place."""
    n, width = len(keys), 1
    other_keys, other_counts = np.empty_like(keys), np.empty_like(counts)
    while width < n:
        for begin in range(0, n, 2 * width):
            middle, end = min(begin + width, n), min(begin + 2 * width, n)
            i, j = begin, middle
            for out in range(begin, end):
                if i < middle and (j >= end or keys[i] <= keys[j]):
                    other_keys[out], other_counts[out] = keys[i], counts[i]
                    i += 1
                else:
                    other_keys[out], other_counts[out] = keys[j], counts[j]
                    j += 1
        keys[:] = other_keys
        counts[:] = other_counts
        width *= 2


@inline
def _differ(left, right):
    """Whether two values differ; NaN equals NaN."""
    return left != right and not (math.isnan(left) and math.isnan(right))


@inline
def _blank(rows, entries):
    """The columns of `Rows` for so many rows, with room for so many sketch entries."""
    return (
        np.empty(rows, np.int64), np.empty(rows, np.int64),
        np.zeros(rows, np.int64), np.zeros(rows, np.int64),
        np.zeros(rows), np.zeros(rows), np.zeros(rows), np.zeros(rows), np.zeros(rows),
        np.zeros(rows), np.full(rows, NEVER), np.zeros(rows), np.full(rows, NEVER), np.zeros(rows),
        np.full(rows, NEVER), np.zeros(rows), np.zeros(rows),
        np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.full(rows, NEVER),
        np.zeros(rows + 1, np.int64), np.empty(entries, np.int32), np.empty(entries, np.int64),
    )  # fmt: skip


@kernel("(const int64[::1], const int64[::1], const float64[::1], const int64[::1], int64)")
def _lift(ids, ts, values, starts, width):
    rows = len(starts) - 1
    bits = values.view(np.int64)
    (
        series_id, window_end, count, nan_count, total, error, least, greatest, m2, base,
        first_ts, first, previous_ts, previous, last_ts, last, correction, resets, changes,
        stale_ts, sketch_starts, keys, counts,
    ) = _blank(rows, len(ts))  # fmt: skip
    end = 0
    for r in range(rows):
        begin = end
        series_id[r] = ids[starts[r]]
        window_end[r] = -(-ts[starts[r]] // width) * width
        s, e, zero, number = 0.0, 0.0, 0.0, 0.0
        squares, lost = 0.0, 0.0
        low, high = math.inf, -math.inf
        n, nans = 0, 0
        for i in range(starts[r], starts[r + 1]):
            if bits[i] == _STALE:
                stale_ts[r] = ts[i]
                continue
            v = values[i]
            if n == 0:
                first_ts[r], first[r] = ts[i], v
            else:
                before = last[r]
                if v < before:
                    correction[r] += before
                    resets[r] += 1
                changes[r] += _differ(before, v)
                previous_ts[r], previous[r] = last_ts[r], before
            last_ts[r], last[r] = ts[i], v
            n += 1
            if math.isnan(v):
                nans += 1
                continue
            s, e = add(s, e, v)
            low, high = min(low, v), max(high, v)
            if n - nans == 1:
                zero = v
            elif v == number:
                counts[end - 1] += 1
            if n - nans == 1 or v != number:
                keys[end], counts[end] = _key_of(v, _BOUNDS), 1
                end += 1
            number = v
            # Kahan: a window of 60,000 samples would lose five digits.
            d = v - zero
            term = d * d - lost
            grown = squares + term
            lost = (grown - squares) - term
            squares = grown
        count[r], nan_count[r] = n, nans
        if n == nans:
            least[r] = greatest[r] = math.nan if n else 0.0
            sketch_starts[r + 1] = end
            continue
        if math.isinf(low) or math.isinf(high):
            s, e, squares = infinite(low, high), 0.0, math.nan
        elif not math.isfinite(s):
            s, e = 0.0, 0.0
            for i in range(starts[r], starts[r + 1]):
                if not math.isnan(values[i]):
                    s, e = add(s, e, values[i] * WIDE)
            s, e = widened(s, e)
        if math.isnan(squares) and math.isfinite(low) and math.isfinite(high):
            squares = math.inf
        total[r], error[r], m2[r], base[r] = s, e, squares, zero
        least[r], greatest[r] = low, high
        end = _sorted_entries(keys, counts, begin, end)
        sketch_starts[r + 1] = end
    return (
        series_id, window_end, count, nan_count, total, error, least, greatest, m2, base,
        first_ts, first, previous_ts, previous, last_ts, last, correction, resets, changes,
        stale_ts, sketch_starts, keys[:end].copy(), counts[:end].copy(),
    )  # fmt: skip


@kernel(
    "(const int64[::1], const int64[::1], const int64[::1], const int64[::1],"
    " const float64[::1], const float64[::1], const float64[::1], const float64[::1],"
    " const float64[::1], const float64[::1], const int64[::1], const float64[::1],"
    " const int64[::1], const float64[::1], const int64[::1], const float64[::1],"
    " const float64[::1], const int64[::1], const int64[::1], const int64[::1],"
    " const int64[::1], const int32[::1], const int64[::1], const int64[::1],"
    " const int64[::1], int64)"
)
def _merge(
    ids, ends, n_in, nan_in, sum_in, error_in, min_in, max_in, m2_in, base_in,
    first_ts_in, first_in, previous_ts_in, previous_in, last_ts_in, last_in, correction_in,
    resets_in, changes_in, stale_ts_in, starts_in, keys_in, counts_in, order, starts, width,
):  # fmt: skip
    rows = len(starts) - 1
    (
        series_id, window_end, count, nan_count, total, error, least, greatest, m2, base,
        first_ts, first, previous_ts, previous, last_ts, last, correction, resets, changes,
        stale_ts, sketch_starts, keys, counts,
    ) = _blank(rows, len(keys_in))  # fmt: skip
    end = 0
    for r in range(rows):
        begin = end
        series_id[r] = ids[order[starts[r]]]
        window_end[r] = -(-ends[order[starts[r]]] // width) * width
        s, e, squares, zero = 0.0, 0.0, 0.0, 0.0
        low, high = math.inf, -math.inf
        n, numbers = 0, 0
        wide = False
        for place in range(starts[r], starts[r + 1]):
            i = order[place]
            stale_ts[r] = max(stale_ts[r], stale_ts_in[i])
            if n_in[i] == 0:
                continue
            if n == 0:
                first_ts[r], first[r] = first_ts_in[i], first_in[i]
            else:
                before, v = last[r], first_in[i]
                if v < before:
                    correction[r] += before
                    resets[r] += 1
                changes[r] += _differ(before, v)
            if n_in[i] > 1:
                previous_ts[r], previous[r] = previous_ts_in[i], previous_in[i]
            elif n > 0:
                previous_ts[r], previous[r] = last_ts[r], last[r]
            last_ts[r], last[r] = last_ts_in[i], last_in[i]
            correction[r] += correction_in[i]
            resets[r] += resets_in[i]
            changes[r] += changes_in[i]
            n += n_in[i]
            nan_count[r] += nan_in[i]
            m = n_in[i] - nan_in[i]
            if m == 0:
                continue
            if numbers == 0:
                zero = base_in[i]
            low, high = min(low, min_in[i]), max(high, max_in[i])
            squares += shifted(m2_in[i], m, sum_in[i], error_in[i], base_in[i], zero)
            wide |= math.isinf(sum_in[i])
            s, e = add(s, e, sum_in[i])
            e += error_in[i]
            numbers += m
            for k in range(starts_in[i], starts_in[i + 1]):
                keys[end], counts[end] = keys_in[k], counts_in[k]
                end += 1
        count[r] = n
        if numbers == 0:
            least[r] = greatest[r] = math.nan if n else 0.0
            sketch_starts[r + 1] = end
            continue
        if math.isinf(low) or math.isinf(high):
            s, e, squares = infinite(low, high), 0.0, math.nan
        elif wide or not math.isfinite(s):
            s, e = 0.0, 0.0
            for place in range(starts[r], starts[r + 1]):
                i = order[place]
                if math.isinf(sum_in[i]):
                    s, e = add(s, e, error_in[i])
                else:
                    s, e = add(s, e, sum_in[i] * WIDE)
                    e += error_in[i] * WIDE
            s, e = widened(s, e)
        total[r], error[r], m2[r], base[r] = s, e, squares, zero
        least[r], greatest[r] = low, high
        end = _sorted_entries(keys, counts, begin, end)
        sketch_starts[r + 1] = end
    return (
        series_id, window_end, count, nan_count, total, error, least, greatest, m2, base,
        first_ts, first, previous_ts, previous, last_ts, last, correction, resets, changes,
        stale_ts, sketch_starts, keys[:end].copy(), counts[:end].copy(),
    )  # fmt: skip
