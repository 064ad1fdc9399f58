"""Rows of rollups as kernels see them, and which of them are in each range of a query."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from varve.model.compiled import inline
from varve.promql.kernels.codes import AVG, CHANGES, RESETS, STDDEV, STDVAR, SUM
from varve.promql.kernels.search import advance, upper_bound
from varve.promql.kernels.types import F64, I64, Bools

INTEGERS: Final = frozenset(
    [
        "end",
        "count",
        "nan_count",
        "first_ts",
        "previous_ts",
        "last_ts",
        "resets",
        "changes",
        "stale_ts",
    ]
)
"""Columns that are integers; the others are floats."""


class RowColumns(NamedTuple):
    """Columns of rollup rows, by the names of schemas/tables/rollup.sql.

    end: where the row's span ends; ascending in a series. Columns that a function does not read
    may be empty. What is NULL in the table is 0, times NEVER, as in varve.rollups.algebra.
    """

    end: I64
    count: I64  # type: ignore[assignment]  # as the table calls it
    nan_count: I64
    sum: F64
    sum_error: F64
    min: F64
    max: F64
    m2: F64
    base: F64
    first_ts: I64
    first_value: F64
    previous_ts: I64
    previous_value: F64
    last_ts: I64
    last_value: F64
    reset_correction: F64
    resets: I64
    changes: I64
    stale_ts: I64


class Workspace(NamedTuple):
    """Memory that goes from series to series.

    place: the rows that count; ends: where they end. low, high: the places of each step's range.
    running, running_nan: sums of integers over the places before each. parts, errors, bases,
    numbers: what is merged from a place on up to the middle.
    """

    place: I64
    ends: I64
    low: I64
    high: I64
    running: I64
    running_nan: I64
    parts: F64
    errors: F64
    squares: F64
    bases: F64
    numbers: I64


@inline
def new_workspace(begins: I64, ends: I64, steps: int) -> Workspace:
    longest = 0
    for i in range(len(begins)):
        longest = max(longest, ends[i] - begins[i])
    return Workspace(
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.empty(steps, np.int64),
        np.empty(steps, np.int64),
        np.empty(longest + 1, np.int64),
        np.empty(longest + 1, np.int64),
        np.empty(longest + 1, np.float64),
        np.empty(longest + 1, np.float64),
        np.empty(longest + 1, np.float64),
        np.empty(longest + 1, np.float64),
        np.empty(longest + 1, np.int64),
    )


@inline
def find_rows(
    rows_end: I64,
    count: I64,
    begin: int,
    end: int,
    range_starts: I64,
    range_ends: I64,
    skip_empty: bool,  # noqa: FBT001 - numba passes arguments by position
    place: I64,
    place_ends: I64,
    low: I64,
    high: I64,
) -> tuple[int, int]:
    """Finds the rows of each step's range: place[low[step]:high[step]] end in it.

    skip_empty: rows without samples, which only tell of a staleness marker, do not count. Returns
    how many rows count, and how many there are in all ranges together.
    """
    begin = upper_bound(rows_end, begin, end, range_starts[0])
    end = upper_bound(rows_end, begin, end, range_ends[len(range_ends) - 1])
    n = 0
    for row in range(begin, end):
        if not skip_empty or count[row] > 0:
            place[n] = row
            place_ends[n] = rows_end[row]
            n += 1
    first = last = touched = 0
    for step in range(len(range_ends)):
        first = advance(place_ends, first, n, range_starts[step])
        last = advance(place_ends, max(first, last), n, range_ends[step])
        low[step] = first
        high[step] = last
        touched += last - first
    return n, touched


@inline
def differ(left: float, right: float) -> bool:
    """Whether two values differ; NaN equals NaN."""
    return left != right and not (math.isnan(left) and math.isnan(right))


@inline
def between(function: int, c: RowColumns, left: int, right: int) -> int:
    """Whether the value falls, or changes, from one row to the next."""
    before, after = c.last_value[left], c.first_value[right]
    if function == RESETS:
        return 1 if after < before else 0
    return 1 if differ(before, after) else 0


@inline
def add_up(function: int, c: RowColumns, w: Workspace, n: int) -> None:
    """Fills w.running with sums over the places before each, and w.running_nan."""
    counted = nans = 0
    w.running[0] = w.running_nan[0] = 0
    for k in range(n):
        row = w.place[k]
        if function in (RESETS, CHANGES):
            counted += c.resets[row] if function == RESETS else c.changes[row]
            if k > 0:
                counted += between(function, c, w.place[k - 1], row)
        else:
            counted += c.count[row]
        if function in (SUM, AVG, STDDEV, STDVAR):
            nans += c.nan_count[row]
        w.running[k + 1] = counted
        w.running_nan[k + 1] = nans


@inline
def lesser(left: float, right: float) -> float:
    """The lesser of two; a number beats NaN."""
    return left if math.isnan(right) or left < right else right


@inline
def extreme_row(
    values: F64,
    sign: float,
    w: Workspace,
    out: F64,
    present: Bools,
) -> None:
    """The least of sign * values in each range, times sign; NaN only where there is no number."""
    middle = end = 0
    best = math.nan
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = high > low
        out[step] = 0.0
        if high <= low:
            continue
        if low >= middle:
            best = math.nan
            for k in range(high - 1, low - 1, -1):
                best = lesser(sign * values[w.place[k]], best)
                w.parts[k] = best
            middle = end = high
            best = math.nan
        for k in range(end, high):
            best = lesser(best, sign * values[w.place[k]])
        end = max(end, high)
        out[step] = sign * lesser(w.parts[low], best)
