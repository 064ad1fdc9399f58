"""Evaluates range functions and instant selectors over rows of rollups, one value a step.

A range is a whole number of rows, whose merge is the row of the range. Counts, resets and changes
are integers and taken as differences of running sums; rollup_totals.py has what rounds.
"""

from __future__ import annotations

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
from varve.promql.kernels.rollup_rows import (
    INTEGERS,
    RowColumns,
    Workspace,
    add_up,
    between,
    extreme_row,
    find_rows,
    new_workspace,
)
from varve.promql.kernels.rollup_totals import rate_row, spread_row, total_row
from varve.promql.kernels.types import F64, I64, Bools

_SIGNATURE = ", ".join(
    [
        "int64",
        *(f"const {'int64' if n in INTEGERS else 'float64'}[::1]" for n in RowColumns._fields),
        *["const int64[::1]"] * 4,
        "float64[:,::1]",
        "boolean[:,::1]",
    ]
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
    length_ms = max(1, range_ends[0] - range_starts[0])
    if function in (COUNT, RESETS, CHANGES):
        count_row(function, c, w, out, present)
    elif function in (SUM, AVG):
        total_row(function, c, w, length_ms, range_ends, out, present)
    elif function in (STDDEV, STDVAR):
        spread_row(function, c, w, length_ms, range_ends, out, present)
    elif function in (RATE, INCREASE, DELTA):
        rate_row(function, c, w, n, length_ms, range_starts, range_ends, out, present)


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
