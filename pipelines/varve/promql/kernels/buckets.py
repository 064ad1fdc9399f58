"""Computes quantiles and fractions of classic histograms.

Source: Prometheus, promql/quantile.go, BucketQuantile and BucketFraction.
"""

from __future__ import annotations

import math

import numpy as np

from varve.model.compiled import inline, kernel
from varve.promql.kernels.types import F64, I64, Bools

_SMALL_DELTA = 1e-12
_LEAST_NORMAL = 2.2250738585072014e-308


@inline
def _almost_equal(a: float, b: float) -> bool:
    """Whether a and b differ by rounding alone, within a relative _SMALL_DELTA."""
    if a == b:
        return True
    total = abs(a) + abs(b)
    difference = abs(a - b)
    if a == 0.0 or b == 0.0 or total < _LEAST_NORMAL:
        return difference < _SMALL_DELTA * _LEAST_NORMAL
    return difference / min(total, 1.7976931348623157e308) < _SMALL_DELTA


@inline
def _gather(
    bounds: F64,
    rows: I64,
    begin: int,
    end: int,
    values: F64,
    present: Bools,
    s: int,
    upper: F64,
    count: F64,
) -> int:
    """The buckets present at step s, sorted by bound, equal bounds added up; returns how many."""
    n = 0
    for k in range(begin, end):
        i = rows[k]
        if not present[i, s]:
            continue
        if n > 0 and upper[n - 1] == bounds[k]:
            count[n - 1] += values[i, s]
        else:
            upper[n] = bounds[k]
            count[n] = values[i, s]
            n += 1
    return n


@inline
def _make_monotonic(upper: F64, count: F64, n: int, fix: F64) -> bool:
    """Lifts counts so that none falls. `fix` becomes (least, greatest bound, largest fall)."""
    fix[0], fix[1], fix[2] = math.inf, -math.inf, 0.0
    forced = False
    before = count[0]
    for i in range(1, n):
        current = count[i]
        if current == before:
            continue
        if _almost_equal(before, current):
            count[i] = before
        elif current < before:
            count[i] = before
            forced = True
            fix[0] = min(fix[0], upper[i])
            fix[1] = max(fix[1], upper[i])
            fix[2] = max(fix[2], before - current)
        else:
            before = current
    return forced


@inline
def _quantile(q: float, upper: F64, count: F64, n: int) -> float:
    """The quantile of monotonic cumulative counts whose last bound is +Inf."""
    if n < 2:
        return math.nan
    observations = count[n - 1]
    if observations == 0.0:
        return math.nan
    rank = q * observations
    b = 0
    while b < n - 1 and not count[b] >= rank:
        b += 1
    if b == n - 1:
        return upper[n - 2]
    if b == 0 and upper[0] <= 0.0:
        return upper[0]
    start = 0.0
    inside = count[b]
    if b > 0:
        start = upper[b - 1]
        inside -= count[b - 1]
        rank -= count[b - 1]
    return start + (upper[b] - start) * (rank / inside)


@kernel(
    "void(float64[::1], float64[::1], int64[::1], int64[::1], float64[:,::1], boolean[:,::1],"
    " float64[:,::1], boolean[:,::1], boolean[:,::1], float64[:,::1])"
)
def bucket_quantiles(
    q: F64,
    bounds: F64,
    rows: I64,
    indptr: I64,
    values: F64,
    present: Bools,
    out: F64,
    out_present: Bools,
    forced: Bools,
    fixes: F64,
) -> None:
    """The q[step]-quantile of each classic histogram.

    Histogram g has the buckets indptr[g]:indptr[g+1] of bounds (sorted) and rows, which index
    values and present, (series x step) cumulative counts. out, out_present, forced are
    (histogram x step); forced tells where counts fell. fixes, of shape (histograms, 3), gets
    the least and the greatest bound and the largest fall over all steps.
    """
    most = 1
    for g in range(len(indptr) - 1):
        most = max(most, indptr[g + 1] - indptr[g])
    upper, count, fix = np.empty(most), np.empty(most), np.empty(3)
    for g in range(len(indptr) - 1):
        fixes[g, 0], fixes[g, 1], fixes[g, 2] = math.inf, -math.inf, 0.0
        for s in range(values.shape[1]):
            n = _gather(bounds, rows, indptr[g], indptr[g + 1], values, present, s, upper, count)
            out_present[g, s] = n > 0
            forced[g, s] = False
            if n == 0:
                continue
            if math.isnan(q[s]):
                out[g, s] = math.nan
            elif q[s] < 0.0:
                out[g, s] = -math.inf
            elif q[s] > 1.0:
                out[g, s] = math.inf
            elif upper[n - 1] != math.inf:
                out[g, s] = math.nan
            else:
                if _make_monotonic(upper, count, n, fix):
                    forced[g, s] = True
                    fixes[g, 0] = min(fixes[g, 0], fix[0])
                    fixes[g, 1] = max(fixes[g, 1], fix[1])
                    fixes[g, 2] = max(fixes[g, 2], fix[2])
                out[g, s] = _quantile(q[s], upper, count, n)


@inline
def _interpolate(v: float, low: float, high: float, rank: float, cumulative: float) -> float:
    if low == -math.inf:
        return cumulative
    return rank + (cumulative - rank) * (v - low) / (high - low)


@inline
def _fraction(low: float, high: float, upper: F64, count: F64, n: int) -> float:
    """The share of observations between low and high."""
    if upper[n - 1] != math.inf:
        return math.nan
    total = count[n - 1]
    if total == 0.0 or math.isnan(low) or math.isnan(high):
        return math.nan
    if low >= high:
        return 0.0
    low_rank = high_rank = -1.0
    low_set = high_set = False
    rank = 0.0
    start = 0.0 if upper[0] > 0.0 else -math.inf
    for i in range(n):
        if i > 0:
            start = upper[i - 1]
        end = upper[i]
        if not low_set and start >= low:
            low_rank, low_set = rank, True
        if not high_set and start >= high:
            high_rank, high_set = rank, True
        if low_set and high_set:
            break
        if not low_set and start < low < end:
            low_rank, low_set = _interpolate(low, start, end, rank, count[i]), True
        if not high_set and start < high < end:
            high_rank, high_set = _interpolate(high, start, end, rank, count[i]), True
        if low_set and high_set:
            break
        rank = count[i]
    if not low_set or low_rank > total:
        low_rank = total
    if not high_set or high_rank > total:
        high_rank = total
    return (high_rank - low_rank) / total


@kernel(
    "void(float64[::1], float64[::1], float64[::1], int64[::1], int64[::1], float64[:,::1],"
    " boolean[:,::1], float64[:,::1], boolean[:,::1])"
)
def bucket_fractions(
    low: F64,
    high: F64,
    bounds: F64,
    rows: I64,
    indptr: I64,
    values: F64,
    present: Bools,
    out: F64,
    out_present: Bools,
) -> None:
    """The share of observations in low[step]..high[step]. The rest is as in `bucket_quantiles`."""
    most = 1
    for g in range(len(indptr) - 1):
        most = max(most, indptr[g + 1] - indptr[g])
    upper, count = np.empty(most), np.empty(most)
    for g in range(len(indptr) - 1):
        for s in range(values.shape[1]):
            n = _gather(bounds, rows, indptr[g], indptr[g + 1], values, present, s, upper, count)
            out_present[g, s] = n > 0
            if n > 0:
                out[g, s] = _fraction(low[s], high[s], upper, count, n)
