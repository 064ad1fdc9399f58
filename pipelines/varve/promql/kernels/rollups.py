"""Evaluates range functions and instant selectors over rows of rollups, one value a step.

A range is a whole number of rows, whose merge is the row of the range. Where ranges overlap, rows
are not merged anew for each: what is behind the middle of a range is kept merged up to there from
each row on, and what is after it as one, so that a step costs two or three merges however long its
range is. Counts, resets and changes are integers and taken as differences of running sums.

Source: Tangwongsan, Hirzel, Schneider, "Low-latency sliding-window aggregation in worst-case
constant time", 2017 (the amortised form, two stacks).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from varve.model.compiled import inline, kernel
from varve.promql.kernels.codes import (
    AVG,
    CHANGES,
    COUNT,
    DELTA,
    FIRST,
    IDELTA,
    INCREASE,
    IRATE,
    LAST,
    LOOKBACK,
    MAX,
    MIN,
    PRESENT,
    RATE,
    RESETS,
    STDDEV,
    STDVAR,
    SUM,
    TIMESTAMP,
    TS_OF_FIRST,
    TS_OF_LAST,
)
from varve.promql.kernels.frames import extrapolation
from varve.promql.kernels.rates import extended
from varve.promql.kernels.search import advance, upper_bound
from varve.promql.kernels.types import F64, I64, Bools
from varve.rollups.algebra import WIDE
from varve.rollups.sums import add, infinite, shifted, widened


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
def exact_total(sums: F64, errors: F64, place: I64, low: int, high: int) -> tuple[float, float]:
    """The columns sum and sum_error over rows whose sum is infinite on the way.

    A row with an infinite sum has an error only if its values are finite: it is the sum times WIDE
    then.
    """
    total = error = 0.0
    least, greatest = math.inf, -math.inf
    for k in range(low, high):
        row = place[k]
        if math.isnan(sums[row]):
            return math.nan, 0.0
        if math.isinf(sums[row]):
            if errors[row] == 0.0:
                least, greatest = min(least, sums[row]), max(greatest, sums[row])
            else:
                total, error = add(total, error, errors[row])
        else:
            total, error = add(total, error, sums[row] * WIDE)
            error += errors[row] * WIDE
    if least <= greatest:
        return infinite(least, greatest), 0.0
    return widened(total, error)


@inline
def mean_of(total: float, error: float, numbers: int) -> float:
    """The mean of so many numbers; finite even where their sum is not."""
    if math.isinf(total) and error != 0.0:
        return error / numbers / WIDE
    return (total + error if math.isfinite(total) else total) / numbers


@inline
def merged_total(total: float, error: float, more: float, more_error: float) -> tuple[float, float]:
    total, error = add(total, error, more)
    return total, error + more_error


@inline
def total_row(function: int, c: RowColumns, w: Workspace, out: F64, present: Bools) -> None:
    """sum_over_time or avg_over_time of each range. Any NaN makes them NaN."""
    middle = end = 0
    total = error = 0.0
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = high > low
        out[step] = 0.0
        if high <= low:
            continue
        if low >= middle:
            total = error = 0.0
            for k in range(high - 1, low - 1, -1):
                row = w.place[k]
                total, error = merged_total(total, error, c.sum[row], c.sum_error[row])
                w.parts[k], w.errors[k] = total, error
            middle = end = high
            total = error = 0.0
        for k in range(end, high):
            row = w.place[k]
            total, error = merged_total(total, error, c.sum[row], c.sum_error[row])
        end = max(end, high)
        all_total, all_error = w.parts[low], w.errors[low]
        if high > middle:
            all_total, all_error = merged_total(all_total, all_error, total, error)
        if not math.isfinite(all_total):
            all_total, all_error = exact_total(c.sum, c.sum_error, w.place, low, high)
        if w.running_nan[high] > w.running_nan[low]:
            out[step] = math.nan
        elif function == SUM:
            out[step] = all_total + all_error if math.isfinite(all_total) else all_total
        else:
            out[step] = mean_of(all_total, all_error, w.running[high] - w.running[low])


@inline
def merged_spread(
    squares: float, numbers: int, total: float, error: float, base: float,
    more: float, more_numbers: int, more_total: float, more_error: float, more_base: float,
) -> tuple[float, int, float, float, float]:  # fmt: skip
    """m2, how many numbers, sum, sum_error and base of two neighbours."""
    if more_numbers == 0:
        return squares, numbers, total, error, base
    if numbers == 0:
        return more, more_numbers, more_total, more_error, more_base
    squares += shifted(more, more_numbers, more_total, more_error, more_base, base)
    total, error = merged_total(total, error, more_total, more_error)
    return squares, numbers + more_numbers, total, error, base


@inline
def variance_of(squares: float, numbers: int, total: float, error: float, base: float) -> float:
    """The variance from m2 about base; NaN with infinite values."""
    if math.isnan(total) or (math.isinf(total) and error == 0.0):
        return math.nan
    if squares == 0.0:
        return 0.0
    spread = squares / numbers - (mean_of(total, error, numbers) - base) ** 2
    return spread if math.isnan(spread) else max(spread, 0.0)


@inline
def spread_row(function: int, c: RowColumns, w: Workspace, out: F64, present: Bools) -> None:
    """stdvar_over_time or stddev_over_time of each range. Any NaN makes them NaN."""
    middle = end = 0
    squares = total = error = base = 0.0
    numbers = 0
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = high > low
        out[step] = 0.0
        if high <= low:
            continue
        if low >= middle:
            squares = total = error = base = 0.0
            numbers = 0
            for k in range(high - 1, low - 1, -1):
                row = w.place[k]
                squares, numbers, total, error, base = merged_spread(
                    c.m2[row], c.count[row] - c.nan_count[row],
                    c.sum[row], c.sum_error[row], c.base[row],
                    squares, numbers, total, error, base,
                )  # fmt: skip
                w.squares[k], w.numbers[k], w.bases[k] = squares, numbers, base
                w.parts[k], w.errors[k] = total, error
            middle = end = high
            squares = total = error = base = 0.0
            numbers = 0
        for k in range(end, high):
            row = w.place[k]
            squares, numbers, total, error, base = merged_spread(
                squares, numbers, total, error, base,
                c.m2[row], c.count[row] - c.nan_count[row],
                c.sum[row], c.sum_error[row], c.base[row],
            )  # fmt: skip
        end = max(end, high)
        if w.running_nan[high] > w.running_nan[low]:
            out[step] = math.nan
            continue
        q, n, s, e, b = (
            w.squares[low], w.numbers[low], w.parts[low], w.errors[low], w.bases[low],
        )  # fmt: skip
        if high > middle:
            q, n, s, e, b = merged_spread(q, n, s, e, b, squares, numbers, total, error, base)
        if not math.isfinite(s):
            s, e = exact_total(c.sum, c.sum_error, w.place, low, high)
        out[step] = variance_of(q, n, s, e, b)
        if function == STDDEV:
            out[step] = math.sqrt(out[step])


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


@inline
def drops(c: RowColumns, w: Workspace, n: int) -> bool:
    """Writes to w.squares what each place adds to the correction of a range it is not the first in;
    returns whether that is anything anywhere.
    """
    found = False
    for k in range(n):
        row = w.place[k]
        correction = c.reset_correction[row]
        if k > 0:
            before = c.last_value[w.place[k - 1]]
            if c.first_value[row] < before:
                correction += before
        w.squares[k] = correction
        found |= correction != 0.0
    return found


@inline
def rate_row(
    function: int,
    c: RowColumns,
    w: Workspace,
    n: int,
    range_starts: I64,
    range_ends: I64,
    out: F64,
    present: Bools,
) -> None:
    """rate, increase or delta of each range: of two samples at least."""
    is_counter = function != DELTA
    corrected = is_counter and drops(c, w, n)
    middle = end = 0
    total = error = 0.0
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        count = w.running[high] - w.running[low]
        present[step] = high > low and count > 1
        out[step] = 0.0
        if not present[step]:
            continue
        first, last = w.place[low], w.place[high - 1]
        growth = c.last_value[last] - c.first_value[first]
        if corrected:
            # The first row's own drops, and those of the rows after it with their edges.
            if low + 1 > middle:
                total = error = 0.0
                w.parts[high] = w.errors[high] = 0.0
                for k in range(high - 1, low, -1):
                    total, error = add(total, error, w.squares[k])
                    w.parts[k], w.errors[k] = total, error
                middle = end = high
                total = error = 0.0
            for k in range(end, high):
                total, error = add(total, error, w.squares[k])
            end = max(end, high)
            all_total, all_error = merged_total(w.parts[low + 1], w.errors[low + 1], total, error)
            growth += c.reset_correction[first] + (all_total + all_error)
        start_ms, end_ms = range_starts[step], range_ends[step]
        factor, sampled, to_start = extrapolation(
            function, c.first_ts[first], c.last_ts[last], count - 1, start_ms, end_ms
        )
        per_second = 1000.0 / (end_ms - start_ms) if function == RATE else 1.0
        out[step] = extended(
            growth, c.first_value[first], factor, sampled, to_start, per_second, is_counter
        )


@inline
def last_two_row(function: int, c: RowColumns, w: Workspace, out: F64, present: Bools) -> None:
    """irate or idelta: of the last two samples of each range."""
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = False
        out[step] = 0.0
        if high <= low:
            continue
        row = w.place[high - 1]
        last = c.last_value[row]
        if c.count[row] > 1:
            before = c.previous_value[row]
        elif high - 1 > low:
            before = c.last_value[w.place[high - 2]]
        else:
            continue
        change = last - before
        if function == IRATE:
            if c.count[row] > 1:
                elapsed_ms = c.last_ts[row] - c.previous_ts[row]
            else:
                elapsed_ms = c.last_ts[row] - c.last_ts[w.place[high - 2]]
            if last < before:
                change = last
            change /= elapsed_ms / 1000.0
        out[step] = change
        present[step] = True


@inline
def lookback_row(
    function: int, c: RowColumns, w: Workspace, range_starts: I64, out: F64, present: Bools
) -> None:
    """The last sample of each range, unless a staleness marker came after it.

    The first row of a range may begin before it: only the last sample counts.
    """
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = False
        out[step] = 0.0
        if high <= low:
            continue
        row = w.place[high - 1]
        if c.last_ts[row] > range_starts[step] and c.last_ts[row] > c.stale_ts[row]:
            present[step] = True
            out[step] = c.last_ts[row] / 1000.0 if function == TIMESTAMP else c.last_value[row]


@inline
def end_row(function: int, c: RowColumns, w: Workspace, out: F64, present: Bools) -> None:
    """Functions of the first or the last sample of each range alone."""
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = high > low
        out[step] = 0.0
        if high <= low:
            continue
        if function == FIRST:
            out[step] = c.first_value[w.place[low]]
        elif function == LAST:
            out[step] = c.last_value[w.place[high - 1]]
        elif function == TS_OF_FIRST:
            out[step] = c.first_ts[w.place[low]] / 1000.0
        elif function == TS_OF_LAST:
            out[step] = c.last_ts[w.place[high - 1]] / 1000.0
        else:
            out[step] = 1.0


@inline
def count_row(function: int, c: RowColumns, w: Workspace, out: F64, present: Bools) -> None:
    """count_over_time, resets or changes of each range, from w.running."""
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = high > low
        out[step] = 0.0
        if high <= low:
            continue
        counted = w.running[high] - w.running[low]
        if function != COUNT and low > 0:
            # What lies between the first row and the one before it is outside.
            counted -= between(function, c, w.place[low - 1], w.place[low])
        out[step] = counted


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
def evaluate_series(
    function: int,
    c: RowColumns,
    w: Workspace,
    n: int,
    range_starts: I64,
    range_ends: I64,
    out: F64,
    present: Bools,
) -> None:
    """Evaluates a function for the n places of one series."""
    if function in (LOOKBACK, TIMESTAMP):
        lookback_row(function, c, w, range_starts, out, present)
        return
    if function in (FIRST, LAST, TS_OF_FIRST, TS_OF_LAST, PRESENT):
        end_row(function, c, w, out, present)
        return
    if function in (IRATE, IDELTA):
        last_two_row(function, c, w, out, present)
        return
    if function == MIN:
        extreme_row(c.min, 1.0, w, out, present)
        return
    if function == MAX:
        extreme_row(c.max, -1.0, w, out, present)
        return
    add_up(function, c, w, n)
    if function in (COUNT, RESETS, CHANGES):
        count_row(function, c, w, out, present)
    elif function in (SUM, AVG):
        total_row(function, c, w, out, present)
    elif function in (STDDEV, STDVAR):
        spread_row(function, c, w, out, present)
    elif function in (RATE, INCREASE, DELTA):
        rate_row(function, c, w, n, range_starts, range_ends, out, present)


INTEGERS = frozenset(
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
_SIGNATURE = ", ".join(
    [
        "int64",
        *(f"const {'int64' if n in INTEGERS else 'float64'}[::1]" for n in RowColumns._fields),
        *["const int64[::1]"] * 4,
        "float64[:,::1]",
        "boolean[:,::1]",
    ]
)


@kernel(f"int64({_SIGNATURE})")
def evaluate_rollups(
    function: int,
    end: I64, count: I64, nan_count: I64, total: F64, sum_error: F64, least: F64, greatest: F64,
    m2: F64, base: F64, first_ts: I64, first_value: F64, previous_ts: I64, previous_value: F64,
    last_ts: I64, last_value: F64, reset_correction: F64, resets: I64, changes: I64, stale_ts: I64,
    begins: I64, ends: I64, range_starts: I64, range_ends: I64, out: F64, present: Bools,
) -> int:  # fmt: skip
    """Evaluates a function over the rows [begins[i], ends[i]) of each series into out and present,
    which are (series x step).

    The columns are those of RowColumns. range_starts, range_ends: the range of each step is
    (start, end], both ascending; no row reaches across one of them, but for instant selectors
    across a start. Returns the rows touched, each counted once for every range that it is in.
    """
    if len(range_ends) == 0:
        return 0
    columns = RowColumns(
        end, count, nan_count, total, sum_error, least, greatest, m2, base, first_ts, first_value,
        previous_ts, previous_value, last_ts, last_value, reset_correction, resets, changes,
        stale_ts,
    )  # fmt: skip
    w = new_workspace(begins, ends, len(range_ends))
    skip_empty = function not in (LOOKBACK, TIMESTAMP)
    touched = 0
    for i in range(len(begins)):
        n, seen = find_rows(
            end, count, begins[i], ends[i], range_starts, range_ends, skip_empty,
            w.place, w.ends, w.low, w.high,
        )  # fmt: skip
        touched += seen
        evaluate_series(function, columns, w, n, range_starts, range_ends, out[i], present[i])
    return touched
