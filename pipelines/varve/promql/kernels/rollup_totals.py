"""Sums, means, variances and rates of ranges from rows of rollups.

Where ranges overlap, rows are not merged anew for each. Times that are multiples of a range's
length cut each range in two: rows before the cut are kept merged up to it from each row on, and
those after it as one, so that a step costs two or three merges however long its range is. Where a
range is cut depends on its end alone. So does the order in which its rows are merged, and a step
has the same bits whichever steps are evaluated with it.

Source: van Herk, "A fast algorithm for local minimum and maximum filters on rectangular and
octagonal kernels", 1992; Gil and Werman, "Computing 2-D min, median, and max filters", 1993.
"""

from __future__ import annotations

import math

from varve.model.compiled import inline
from varve.promql.kernels.codes import DELTA, RATE, STDDEV, SUM
from varve.promql.kernels.frames import extrapolation
from varve.promql.kernels.rates import extended
from varve.promql.kernels.rollup_rows import RowColumns, Workspace
from varve.promql.kernels.types import F64, I64, Bools
from varve.rollups.algebra import WIDE
from varve.rollups.sums import add, infinite, shifted, widened


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
def cut_at(w: Workspace, at: int, low: int, high: int, end_ms: int, length_ms: int) -> int:
    """The first place behind the cut of the range (end_ms - length_ms, end_ms], whose places are
    low:high; `low` for a shorter range that has none. at: a place that is not behind it.
    """
    cut_ms = end_ms // length_ms * length_ms
    at = max(at, low)
    while at < high and w.ends[at] <= cut_ms:
        at += 1
    return at


@inline
def total_row(
    function: int, c: RowColumns, w: Workspace, length_ms: int, range_ends: I64, out: F64,
    present: Bools,
) -> None:  # fmt: skip
    """sum_over_time or avg_over_time of each range. Any NaN makes them NaN."""
    middle, end = -1, 0
    total = error = 0.0
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = high > low
        out[step] = 0.0
        if high <= low:
            continue
        cut = cut_at(w, middle, low, high, range_ends[step], length_ms)
        if cut != middle:
            total = error = 0.0
            for k in range(cut - 1, low - 1, -1):
                row = w.place[k]
                total, error = merged_total(total, error, c.sum[row], c.sum_error[row])
                w.parts[k], w.errors[k] = total, error
            middle = end = cut
            total = error = 0.0
        for k in range(end, high):
            row = w.place[k]
            total, error = merged_total(total, error, c.sum[row], c.sum_error[row])
        end = max(end, high)
        all_total, all_error = total, error
        if low < middle:
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
def spread_row(
    function: int, c: RowColumns, w: Workspace, length_ms: int, range_ends: I64, out: F64,
    present: Bools,
) -> None:  # fmt: skip
    """stdvar_over_time or stddev_over_time of each range. Any NaN makes them NaN."""
    middle, end = -1, 0
    squares = total = error = base = 0.0
    numbers = 0
    for step in range(len(out)):
        low, high = w.low[step], w.high[step]
        present[step] = high > low
        out[step] = 0.0
        if high <= low:
            continue
        cut = cut_at(w, middle, low, high, range_ends[step], length_ms)
        if cut != middle:
            squares = total = error = base = 0.0
            numbers = 0
            for k in range(cut - 1, low - 1, -1):
                row = w.place[k]
                squares, numbers, total, error, base = merged_spread(
                    c.m2[row], c.count[row] - c.nan_count[row],
                    c.sum[row], c.sum_error[row], c.base[row],
                    squares, numbers, total, error, base,
                )  # fmt: skip
                w.squares[k], w.numbers[k], w.bases[k] = squares, numbers, base
                w.parts[k], w.errors[k] = total, error
            middle = end = cut
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
        q, n, s, e, b = squares, numbers, total, error, base
        if low < middle:
            q, n, s, e, b = merged_spread(
                w.squares[low], w.numbers[low], w.parts[low], w.errors[low], w.bases[low],
                squares, numbers, total, error, base,
            )  # fmt: skip
        if not math.isfinite(s):
            s, e = exact_total(c.sum, c.sum_error, w.place, low, high)
        out[step] = variance_of(q, n, s, e, b)
        if function == STDDEV:
            out[step] = math.sqrt(out[step])


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
    length_ms: int,
    range_starts: I64,
    range_ends: I64,
    out: F64,
    present: Bools,
) -> None:
    """rate, increase or delta of each range: of two samples at least."""
    is_counter = function != DELTA
    corrected = is_counter and drops(c, w, n)
    middle, end = -1, 0
    # Of the places behind the cut, and of those without the first of them.
    total = error = rest = rest_error = 0.0
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
            cut = cut_at(w, middle, low, high, range_ends[step], length_ms)
            if cut != middle:
                total = error = rest = rest_error = 0.0
                w.parts[cut] = w.errors[cut] = 0.0
                for k in range(cut - 1, low, -1):
                    total, error = add(total, error, w.squares[k])
                    w.parts[k], w.errors[k] = total, error
                middle = end = cut
                total = error = 0.0
            for k in range(end, high):
                total, error = add(total, error, w.squares[k])
                if k > middle:
                    rest, rest_error = add(rest, rest_error, w.squares[k])
            end = max(end, high)
            all_total, all_error = rest, rest_error
            if low < middle:
                all_total, all_error = merged_total(
                    w.parts[low + 1], w.errors[low + 1], total, error
                )
            correction = c.reset_correction[first] + (all_total + all_error)
            if correction != 0.0:
                growth += correction
        start_ms, end_ms = range_starts[step], range_ends[step]
        factor, sampled, to_start = extrapolation(
            function, c.first_ts[first], c.last_ts[last], count - 1, start_ms, end_ms
        )
        per_second = 1000.0 / (end_ms - start_ms) if function == RATE else 1.0
        out[step] = extended(
            growth, c.first_value[first], factor, sampled, to_start, per_second, is_counter
        )
