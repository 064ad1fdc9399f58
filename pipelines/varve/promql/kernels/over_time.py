"""Computes functions of the samples in one window: sums, extremes, moments, quantiles, counts.

Source: Prometheus, promql/functions.go.
"""

from __future__ import annotations

import math

from varve.model.compiled import inline
from varve.promql.kernels.codes import (
    AVG,
    CHANGES,
    COUNT,
    FIRST,
    LAST,
    MAX,
    MIN,
    PRESENT,
    RESETS,
    STDDEV,
    STDVAR,
    SUM,
    TS_OF_FIRST,
    TS_OF_LAST,
    TS_OF_MAX,
    TS_OF_MIN,
)
from varve.promql.kernels.kahan import kahan_sum
from varve.promql.kernels.types import F64, I64


@inline
def window_sum(values: F64, low: int, high: int) -> float:
    total = c = 0.0
    for i in range(low, high):
        total, c = kahan_sum(values[i], total, c)
    return total if math.isinf(total) else total + c


@inline
def window_average(values: F64, low: int, high: int) -> float:
    """The sum over the count, or a running mean from where the sum would overflow."""
    total = values[low]
    c = mean = 0.0
    count = 1.0
    incremental = False
    for i in range(low + 1, high):
        count += 1.0
        if not incremental:
            new_total, new_c = kahan_sum(values[i], total, c)
            if not math.isinf(new_total):
                total, c = new_total, new_c
                continue
            incremental = True
            mean = total / (count - 1.0)
            c /= count - 1.0
        q = (count - 1.0) / count
        mean, c = kahan_sum(values[i] / count, q * mean, q * c)
    if incremental:
        return mean + c
    return total / count + c / count


@inline
def window_variance(values: F64, low: int, high: int) -> float:
    count = mean = c_mean = aux = c_aux = 0.0
    for i in range(low, high):
        count += 1.0
        delta = values[i] - (mean + c_mean)
        mean, c_mean = kahan_sum(delta / count, mean, c_mean)
        aux, c_aux = kahan_sum(delta * (values[i] - (mean + c_mean)), aux, c_aux)
    return (aux + c_aux) / count


@inline
def window_extreme(function: int, values: F64, low: int, high: int) -> int:
    """Index of the least or greatest value; a number beats NaN.

    MIN and MAX take the first of equals, TS_OF_MIN and TS_OF_MAX the last.
    """
    best = low
    for i in range(low, high):
        v, b = values[i], values[best]
        if (
            (function == MAX and v > b)
            or (function == MIN and v < b)
            or (function == TS_OF_MAX and v >= b)
            or (function == TS_OF_MIN and v <= b)
            or math.isnan(b)
        ):
            best = i
    return best


@inline
def window_changes(function: int, values: F64, low: int, high: int) -> int:
    """How often the value fell (RESETS) or became another (CHANGES)."""
    count = 0
    for i in range(low + 1, high):
        v, before = values[i], values[i - 1]
        if function == RESETS:
            if v < before:
                count += 1
        elif v != before and not (math.isnan(v) and math.isnan(before)):
            count += 1
    return count


@inline
def over_time(function: int, ts: I64, values: F64, low: int, high: int) -> float:
    """The value of `function` over the samples [low, high), of which there is one at least."""
    if function == SUM:
        return window_sum(values, low, high)
    if function == AVG:
        return window_average(values, low, high)
    if function in (MIN, MAX):
        return values[window_extreme(function, values, low, high)]
    if function in (TS_OF_MIN, TS_OF_MAX):
        return ts[window_extreme(function, values, low, high)] / 1000.0
    if function == COUNT:
        return float(high - low)
    if function == PRESENT:
        return 1.0
    if function == FIRST:
        return values[low]
    if function == LAST:
        return values[high - 1]
    if function == STDVAR:
        return window_variance(values, low, high)
    if function == STDDEV:
        return math.sqrt(window_variance(values, low, high))
    if function in (CHANGES, RESETS):
        return float(window_changes(function, values, low, high))
    if function == TS_OF_FIRST:
        return ts[low] / 1000.0
    if function == TS_OF_LAST:
        return ts[high - 1] / 1000.0
    return math.nan


@inline
def select_rank(a: F64, n: int, k: int) -> float:
    """The k-th least of a[:n], which has no NaN; reorders it so that a[k:] are not less."""
    low, high = 0, n - 1
    while low < high:
        pivot = a[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while a[i] < pivot:
                i += 1
            while a[j] > pivot:
                j -= 1
            if i <= j:
                a[i], a[j] = a[j], a[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return a[k]


@inline
def quantile_of(q: float, scratch: F64, n: int, nans: int) -> float:
    """The q-quantile of `nans` NaN values, which sort first, and the n numbers scratch[:n]."""
    total = n + nans
    if total == 0 or math.isnan(q):
        return math.nan
    if q < 0.0:
        return -math.inf
    if q > 1.0:
        return math.inf
    rank = q * (total - 1)
    lower = math.floor(rank)
    upper = min(total - 1, lower + 1)
    weight = rank - lower
    below = int(lower) - nans
    above = int(upper) - nans
    if below < 0:
        return math.nan
    first = select_rank(scratch, n, below)
    second = first
    if above > below:
        second = scratch[above]
        for i in range(above + 1, n):
            second = min(second, scratch[i])
    return first * (1.0 - weight) + second * weight


@inline
def window_quantile(q: float, values: F64, low: int, high: int, scratch: F64) -> float:
    n = nans = 0
    for i in range(low, high):
        if math.isnan(values[i]):
            nans += 1
        else:
            scratch[n] = values[i]
            n += 1
    return quantile_of(q, scratch, n, nans)


@inline
def window_mad(values: F64, low: int, high: int, scratch: F64) -> float:
    """Median of the absolute deviations from the median; NaN if any value is."""
    n = high - low
    for i in range(n):
        if math.isnan(values[low + i]):
            return math.nan
        scratch[i] = values[low + i]
    median = quantile_of(0.5, scratch, n, 0)
    nans = kept = 0
    for i in range(n):
        deviation = abs(values[low + i] - median)
        if math.isnan(deviation):
            nans += 1
        else:
            scratch[kept] = deviation
            kept += 1
    return quantile_of(0.5, scratch, kept, nans)
