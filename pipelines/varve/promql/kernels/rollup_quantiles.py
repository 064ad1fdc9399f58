"""Evaluates quantile_over_time over rows of rollups, from their sketches."""

from __future__ import annotations

import math

import numpy as np

from varve.model.compiled import inline, kernel
from varve.promql.kernels.codes import AVG
from varve.promql.kernels.rollup_rows import (
    RowColumns,
    Workspace,
    add_up,
    extreme_row,
    find_rows,
    new_workspace,
)
from varve.promql.kernels.types import F64, I32, I64, Bools
from varve.rollups.sketch import BOUNDS, estimate_of

_BOUNDS = np.array(BOUNDS)
_estimate_of = inline(estimate_of)


@inline
def order_statistic(held: I64, keys: I64, rank: int, least: float, greatest: float) -> float:
    """About the value of a rank, from 0, among the values that `held` counts by key."""
    before = 0
    for k in range(len(keys)):
        before += held[k]
        if before > rank:
            return min(max(_estimate_of(keys[k], _BOUNDS), least), greatest)
    return math.nan


@inline
def quantile_of(
    q: float, held: I64, keys: I64, count: int, nans: int, least: float, greatest: float
) -> float:
    """The q-quantile of `count` values, of which `nans` are NaN and less than all others."""
    if math.isnan(q):
        return math.nan
    if q < 0.0:
        return -math.inf
    if q > 1.0:
        return math.inf
    rank = q * (count - 1)
    lower = math.floor(rank)
    upper = min(count - 1, lower + 1)
    weight = rank - lower
    if lower < nans:
        return math.nan
    below = order_statistic(held, keys, lower - nans, least, greatest)
    if weight == 0.0:
        return below
    above = order_statistic(held, keys, upper - nans, least, greatest)
    # Weighted, not by the difference, which overflows between the greatest doubles.
    return below if below == above else below * (1.0 - weight) + above * weight


@inline
def sketch_row(
    c: RowColumns,
    w: Workspace,
    n: int,
    entry_begins: I64,
    entry_ends: I64,
    keys: I32,
    counts: I64,
    quantiles: F64,
    out: F64,
    present: Bools,
) -> None:
    """The quantile of each range of one series: entries of rows are added as they come into the
    range and taken away as they leave it.
    """
    size = 0
    for k in range(n):
        size += entry_ends[w.place[k]] - entry_begins[w.place[k]]
    distinct = np.empty(size, np.int64)
    size = 0
    for k in range(n):
        for i in range(entry_begins[w.place[k]], entry_ends[w.place[k]]):
            distinct[size] = keys[i]
            size += 1
    distinct = np.unique(distinct)
    held = np.zeros(len(distinct), np.int64)
    least, greatest = np.empty(len(out)), np.empty(len(out))
    extreme_row(c.min, 1.0, w, least, present)
    extreme_row(c.max, -1.0, w, greatest, present)
    first = last = 0
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        for k in range(first, min(low, last)):
            change(held, distinct, entry_begins, entry_ends, keys, counts, w.place[k], -1)
        first = low
        for k in range(max(last, low), high):
            change(held, distinct, entry_begins, entry_ends, keys, counts, w.place[k], 1)
        last = max(last, high)
        out[step] = 0.0
        if not present[step]:
            continue
        count = w.running[high] - w.running[low]
        nans = w.running_nan[high] - w.running_nan[low]
        out[step] = quantile_of(
            quantiles[step], held, distinct, count, nans, least[step], greatest[step]
        )


@inline
def change(
    held: I64, distinct: I64, entry_begins: I64, entry_ends: I64, keys: I32, counts: I64,
    row: int, sign: int,
) -> None:  # fmt: skip
    """Adds a row's counts to `held`, or takes them away."""
    at = 0
    for i in range(entry_begins[row], entry_ends[row]):
        if i == entry_begins[row]:
            at = np.searchsorted(distinct, keys[i])
        while distinct[at] < keys[i]:
            at += 1
        held[at] += sign * counts[i]


@kernel(
    "int64(const int64[::1], const int64[::1], const int64[::1], const float64[::1],"
    " const float64[::1], const int64[::1], const int64[::1], const int32[::1], const int64[::1],"
    " const int64[::1], const int64[::1], const int64[::1], const int64[::1], const float64[::1],"
    " float64[:,::1], boolean[:,::1])"
)
def evaluate_sketches(
    end: I64, count: I64, nan_count: I64, least: F64, greatest: F64,
    entry_begins: I64, entry_ends: I64, keys: I32, counts: I64,
    begins: I64, ends: I64, range_starts: I64, range_ends: I64, quantiles: F64,
    out: F64, present: Bools,
) -> int:  # fmt: skip
    """Evaluates quantile_over_time as kernels.rollups.evaluate_rollups does other functions.

    The sketch of a row is keys and counts [entry_begins, entry_ends), ascending by key. quantiles:
    one a step.
    """
    if len(range_ends) == 0:
        return 0
    none, nothing = np.empty(0, np.int64), np.empty(0, np.float64)
    columns = RowColumns(
        end, count, nan_count, nothing, nothing, least, greatest, nothing, nothing, none, nothing,
        none, nothing, none, nothing, nothing, none, none, none,
    )  # fmt: skip
    w = new_workspace(begins, ends, len(range_ends))
    touched = 0
    for i in range(len(begins)):
        n, seen = find_rows(
            end, count, begins[i], ends[i], range_starts, range_ends, True,
            w.place, w.ends, w.low, w.high,
        )  # fmt: skip
        touched += seen
        add_up(AVG, columns, w, n)
        sketch_row(
            columns, w, n, entry_begins, entry_ends, keys, counts, quantiles, out[i], present[i]
        )
    return touched
