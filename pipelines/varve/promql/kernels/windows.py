"""Evaluates range functions and instant selectors series by series, one value a step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from varve.model.compiled import inline, kernel
from varve.model.raw_memory import ask_for_words
from varve.promql.kernels.codes import (
    DERIV,
    DOUBLE_EXPONENTIAL_SMOOTHING,
    IDELTA,
    IRATE,
    LOOKBACK,
    MAD,
    PREDICT_LINEAR,
    QUANTILE,
    TIMESTAMP,
)
from varve.promql.kernels.frames import (
    BEGIN,
    LEAST,
    TOUCHED,
    find_factors,
    find_windows,
    is_extrapolated,
    new_state,
    same_times,
)
from varve.promql.kernels.over_time import over_time, window_mad, window_quantile
from varve.promql.kernels.rates import instant_rate_row, rate_row
from varve.promql.kernels.regression import linear_regression, smoothed_value
from varve.promql.kernels.search import upper_bound
from varve.promql.kernels.types import F64, I64, Bools

_STALE = np.int64(0x7FF0000000000002)

AHEAD = 4
"""How many series before its turn one is asked for."""
_NEWEST = 32


class WindowQuery(NamedTuple):
    """A function over windows.

    times: where each step's window ends, offsets taken off; ascending, one at least. The window
    is (time - range_ms, time]. eval_times: the steps themselves. first and second parameter: one
    value a step, or nothing.
    """

    function: int
    times: I64
    eval_times: I64
    range_ms: int
    first_parameter: F64
    second_parameter: F64


class SampleColumns(NamedTuple):
    """Series i has the samples [begins[i], ends[i]) of ts and values, sorted by time.

    bits: the values as integers. has_stale: whether series i may have a stale marker.
    """

    ts: I64
    values: F64
    bits: I64
    begins: I64
    ends: I64
    has_stale: Bools


class Workspace(NamedTuple):
    """Memory that goes from series to series.

    scratch, stale_ts, stale_values: room for the longest series, where it is needed. state, low,
    high, frame: what frames.py finds for one series and may use again for the next.
    """

    scratch: F64
    stale_ts: I64
    stale_values: F64
    state: I64
    low: I64
    high: I64
    frame: F64


@inline
def ask_for_series(columns: SampleColumns, i: int) -> None:
    """Has the newest samples of a series that comes soon read from main memory, if there is one:
    where little of each is looked at, waiting for it takes longest.
    """
    if i < len(columns.begins):
        begin, end = columns.begins[i], columns.ends[i]
        ask_for_words(columns.ts.ctypes.data, max(begin, end - _NEWEST), end)
        ask_for_words(columns.bits.ctypes.data, max(begin, end - _NEWEST // 4), end)


@inline
def new_workspace(query: WindowQuery, columns: SampleColumns) -> Workspace:
    steps, longest = len(query.times), 1
    for i in range(len(columns.begins)):
        longest = max(longest, columns.ends[i] - columns.begins[i])
    stale_length = longest if columns.has_stale.any() else 1
    return Workspace(
        np.empty(longest if query.function in (QUANTILE, MAD) else 1, np.float64),
        np.empty(stale_length, np.int64),
        np.empty(stale_length, np.float64),
        new_state(),
        np.empty(steps, np.int64),
        np.empty(steps, np.int64),
        np.empty((3, steps if is_extrapolated(query.function) else 1)),
    )


@inline
def is_complete(
    function: int,
    has_stale: bool,  # noqa: FBT001 - numba passes arguments by position
    state: I64,
) -> bool:
    """Whether a row is known to have a value at every step, by its frame alone."""
    if function in (LOOKBACK, TIMESTAMP):
        return not has_stale and state[LEAST] > 0
    return is_extrapolated(function) and state[LEAST] > 1


@inline
def lookback_row(
    function: int,
    ts: I64,
    values: F64,
    bits: I64,
    begin: int,
    low: I64,
    high: I64,
    has_stale: bool,  # noqa: FBT001 - numba passes arguments by position
    complete: bool,  # noqa: FBT001
    out: F64,
    present: Bools,
) -> int:
    """The last sample of each window, unless that is a stale marker; returns how many there are.

    complete: every window is known to have one that is no stale marker.
    """
    found = 0
    if complete:
        for step in range(len(out)):
            last = begin + high[step] - 1
            out[step] = ts[last] / 1000.0 if function == TIMESTAMP else values[last]
            present[step] = True
        return len(out)
    for step in range(len(out)):
        last = begin + high[step] - 1
        if high[step] == low[step] or (has_stale and bits[last] == _STALE):
            present[step] = False
            out[step] = 0.0
            continue
        out[step] = ts[last] / 1000.0 if function == TIMESTAMP else values[last]
        present[step] = True
        found += 1
    return found


@inline
def window_row(
    function: int,
    ts: I64,
    values: F64,
    begin: int,
    low: I64,
    high: I64,
    eval_times: I64,
    first_parameter: F64,
    second_parameter: F64,
    scratch: F64,
    out: F64,
    present: Bools,
) -> None:
    """A function of all samples in each window; no stale markers among them."""
    for step in range(len(out)):
        first, last = begin + low[step], begin + high[step]
        count = last - first
        present[step] = count > 0
        out[step] = 0.0
        if count == 0:
            continue
        if function == QUANTILE:
            out[step] = window_quantile(first_parameter[step], values, first, last, scratch)
        elif function == MAD:
            out[step] = window_mad(values, first, last, scratch)
        elif function < QUANTILE:
            out[step] = over_time(function, ts, values, first, last)
        elif count < 2:
            present[step] = False
        elif function == DERIV:
            out[step] = linear_regression(ts, values, first, last, ts[first])[0]
        elif function == PREDICT_LINEAR:
            slope, at = linear_regression(ts, values, first, last, eval_times[step])
            out[step] = slope * first_parameter[step] + at
        elif function == DOUBLE_EXPONENTIAL_SMOOTHING:
            out[step] = smoothed_value(
                values, first, last, first_parameter[step], second_parameter[step]
            )


@inline
def without_stale(
    ts: I64, values: F64, bits: I64, begin: int, end: int, kept_ts: I64, kept_values: F64
) -> int:
    """Copies the samples that are no stale markers; returns how many."""
    n = 0
    for i in range(begin, end):
        if bits[i] != _STALE:
            kept_ts[n] = ts[i]
            kept_values[n] = values[i]
            n += 1
    return n


@inline
def evaluate_row(
    query: WindowQuery,
    columns: SampleColumns,
    i: int,
    workspace: Workspace,
    out: F64,
    present: Bools,
) -> int:
    """Evaluates the query for series i at each step; returns the samples touched."""
    function, times, range_ms = query.function, query.times, query.range_ms
    ts, values, has_stale = columns.ts, columns.values, columns.has_stale[i]
    state, low, high, frame = workspace.state, workspace.low, workspace.high, workspace.frame
    is_lookback = function in (LOOKBACK, TIMESTAMP)
    begin = upper_bound(ts, columns.begins[i], columns.ends[i], times[0] - range_ms)
    end = upper_bound(ts, begin, columns.ends[i], times[len(times) - 1])
    is_copied = has_stale and not is_lookback
    if is_copied:
        end = without_stale(
            ts, values, columns.bits, begin, end, workspace.stale_ts, workspace.stale_values
        )
        begin, ts, values = 0, workspace.stale_ts, workspace.stale_values
        state[BEGIN] = -1
    if not same_times(ts, begin, end, state):
        find_windows(ts, begin, end, times, range_ms, low, high, state)
        if is_extrapolated(function):
            find_factors(
                function, ts, begin, times, range_ms, low, high, frame[0], frame[1], frame[2]
            )
    if is_copied:
        state[BEGIN] = -1
    complete = is_complete(function, has_stale, state)
    if is_lookback:
        return lookback_row(
            function, ts, values, columns.bits, begin, low, high, has_stale, complete, out, present
        )
    if is_extrapolated(function):
        rate_row(
            function,
            values,
            begin,
            low,
            high,
            range_ms,
            frame[0],
            frame[1],
            frame[2],
            complete,
            out,
            present,
        )
    elif function in (IRATE, IDELTA):
        instant_rate_row(function, ts, values, begin, low, high, out, present)
    else:
        window_row(
            function,
            ts,
            values,
            begin,
            low,
            high,
            query.eval_times,
            query.first_parameter,
            query.second_parameter,
            workspace.scratch,
            out,
            present,
        )
    return state[TOUCHED]


@kernel(
    "int64(int64, const int64[::1], const float64[::1], const int64[::1], const int64[::1],"
    " const boolean[::1], int64[::1], int64[::1], int64, float64[::1], float64[::1],"
    " float64[:,::1], boolean[:,::1])"
)
def evaluate_rows(
    function: int,
    ts: I64,
    values: F64,
    begins: I64,
    ends: I64,
    has_stale: Bools,
    times: I64,
    eval_times: I64,
    range_ms: int,
    first_parameter: F64,
    second_parameter: F64,
    out: F64,
    present: Bools,
) -> int:
    """Evaluates a query for each series into out and present, which are (series x step).

    Returns the samples touched, each counted once for every window that it is in. The arguments
    are the fields of WindowQuery and SampleColumns.
    """
    if len(times) == 0:
        return 0
    query = WindowQuery(function, times, eval_times, range_ms, first_parameter, second_parameter)
    columns = SampleColumns(ts, values, values.view(np.int64), begins, ends, has_stale)
    workspace = new_workspace(query, columns)
    touched = 0
    for i in range(len(begins)):
        ask_for_series(columns, i + AHEAD)
        touched += evaluate_row(query, columns, i, workspace, out[i], present[i])
    return touched


@kernel(
    "void(const int64[::1], const int64[::1], const int64[::1], int64, int64, int64[::1],"
    " int64[::1])"
)
def window_bounds(
    ts: I64, begins: I64, ends: I64, start: int, end: int, low: I64, high: I64
) -> None:
    """Finds each series' range [low, high) of samples in (start, end]."""
    for i in range(len(begins)):
        low[i] = upper_bound(ts, begins[i], ends[i], start)
        high[i] = upper_bound(ts, begins[i], ends[i], end)
