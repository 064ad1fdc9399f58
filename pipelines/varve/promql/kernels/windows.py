"""Every range function and instant selection as a row: one series, one value a step."""

from __future__ import annotations

import numpy as np

from varve.promql.kernels.codes import (
    DELTA,
    DERIV,
    DOUBLE_EXPONENTIAL_SMOOTHING,
    IDELTA,
    INCREASE,
    IRATE,
    LOOKBACK,
    MAD,
    PREDICT_LINEAR,
    QUANTILE,
    RATE,
    TIMESTAMP,
)
from varve.promql.kernels.locate import advance, upper_bound
from varve.promql.kernels.over_time import over_time, window_mad, window_quantile
from varve.promql.kernels.rates import instant_rate_row, rate_row
from varve.promql.kernels.registry import inline, kernel
from varve.promql.kernels.regression import linear_regression, smoothed_value
from varve.promql.kernels.types import F64, I64, Bools

_STALE = np.int64(0x7FF0000000000002)


@inline
def lookback_row(
    function: int,
    ts: I64,
    values: F64,
    bits: I64,
    begin: int,
    end: int,
    times: I64,
    range_ms: int,
    out: F64,
    present: Bools,
) -> int:
    """The last sample in (t - range_ms, t] of each step, absent if it is a stale marker."""
    i = begin
    touched = 0
    for step in range(len(times)):
        t = times[step]
        i = upper_bound(ts, begin, end, t) if step == 0 else advance(ts, i, end, t)
        last = i - 1
        if last < begin or ts[last] <= t - range_ms or bits[last] == _STALE:
            present[step] = False
            out[step] = 0.0
            continue
        out[step] = ts[last] / 1000.0 if function == TIMESTAMP else values[last]
        present[step] = True
        touched += 1
    return touched


@inline
def window_row(
    function: int,
    ts: I64,
    values: F64,
    begin: int,
    end: int,
    times: I64,
    eval_times: I64,
    range_ms: int,
    first_parameter: F64,
    second_parameter: F64,
    scratch: F64,
    out: F64,
    present: Bools,
) -> int:
    """A function of all samples in each window; no stale markers among them."""
    low = high = begin
    touched = 0
    for step in range(len(times)):
        t = times[step]
        low = advance(ts, low, end, t - range_ms)
        high = advance(ts, max(low, high), end, t)
        count = high - low
        touched += count
        present[step] = count > 0
        out[step] = 0.0
        if count == 0:
            continue
        if function == QUANTILE:
            out[step] = window_quantile(first_parameter[step], values, low, high, scratch)
        elif function == MAD:
            out[step] = window_mad(values, low, high, scratch)
        elif function < QUANTILE:
            out[step] = over_time(function, ts, values, low, high)
        elif count < 2:
            present[step] = False
        elif function == DERIV:
            out[step] = linear_regression(ts, values, low, high, ts[low])[0]
        elif function == PREDICT_LINEAR:
            slope, at = linear_regression(ts, values, low, high, eval_times[step])
            out[step] = slope * first_parameter[step] + at
        elif function == DOUBLE_EXPONENTIAL_SMOOTHING:
            out[step] = smoothed_value(
                values, low, high, first_parameter[step], second_parameter[step]
            )
    return touched


@inline
def without_stale(
    ts: I64, values: F64, bits: I64, begin: int, end: int, kept_ts: I64, kept_values: F64
) -> int:
    """Copy the samples that are no stale markers; returns how many."""
    n = 0
    for i in range(begin, end):
        if bits[i] != _STALE:
            kept_ts[n] = ts[i]
            kept_values[n] = values[i]
            n += 1
    return n


@inline
def row(
    function: int,
    ts: I64,
    values: F64,
    bits: I64,
    begin: int,
    end: int,
    has_stale: bool,
    times: I64,
    eval_times: I64,
    range_ms: int,
    first_parameter: F64,
    second_parameter: F64,
    scratch: F64,
    scratch_ts: I64,
    scratch_values: F64,
    out: F64,
    present: Bools,
) -> int:
    """The value of `function` at each step; returns the samples touched, windows added up.

    times: where each step's window ends, offsets taken off; ascending. The window is
    (time - range_ms, time]. eval_times: the steps themselves. bits: `values` as integers.
    scratch arrays: as long as the longest series.
    """
    if function in (LOOKBACK, TIMESTAMP):
        return lookback_row(function, ts, values, bits, begin, end, times, range_ms, out, present)
    if len(times) == 0:
        return 0
    begin = upper_bound(ts, begin, end, times[0] - range_ms)
    end = upper_bound(ts, begin, end, times[-1])
    if has_stale:
        end = without_stale(ts, values, bits, begin, end, scratch_ts, scratch_values)
        begin, ts, values = 0, scratch_ts, scratch_values
    if function in (RATE, INCREASE, DELTA):
        return rate_row(function, ts, values, begin, end, times, range_ms, out, present)
    if function in (IRATE, IDELTA):
        return instant_rate_row(function, ts, values, begin, end, times, range_ms, out, present)
    return window_row(
        function,
        ts,
        values,
        begin,
        end,
        times,
        eval_times,
        range_ms,
        first_parameter,
        second_parameter,
        scratch,
        out,
        present,
    )


@inline
def scratch_length(begins: I64, ends: I64) -> int:
    longest = 1
    for i in range(len(begins)):
        longest = max(longest, ends[i] - begins[i])
    return longest


@kernel(
    "int64(int64, int64[::1], float64[::1], int64[::1], int64[::1], boolean[::1], int64[::1],"
    " int64[::1], int64, float64[::1], float64[::1], float64[:,::1], boolean[:,::1])"
)
def rows(
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
    """`row` for each series: out and present are (series x step). Returns the samples touched.

    Series i has the samples [begins[i], ends[i]) of ts and values, sorted by time.
    """
    bits = values.view(np.int64)
    longest = scratch_length(begins, ends)
    scratch = np.empty(longest if function in (QUANTILE, MAD) else 1, np.float64)
    stale_length = longest if has_stale.any() else 1
    scratch_ts = np.empty(stale_length, np.int64)
    scratch_values = np.empty(stale_length, np.float64)
    touched = 0
    for i in range(len(begins)):
        touched += row(
            function,
            ts,
            values,
            bits,
            begins[i],
            ends[i],
            has_stale[i],
            times,
            eval_times,
            range_ms,
            first_parameter,
            second_parameter,
            scratch,
            scratch_ts,
            scratch_values,
            out[i],
            present[i],
        )
    return touched


@kernel("int64(int64[::1], int64[::1], int64[::1], int64, int64)")
def samples_between(ts: I64, begins: I64, ends: I64, start: int, end: int) -> int:
    """How many samples of all series are in (start, end]."""
    count = 0
    for i in range(len(begins)):
        count += upper_bound(ts, begins[i], ends[i], end) - upper_bound(
            ts, begins[i], ends[i], start
        )
    return count


@kernel("void(int64[::1], int64[::1], int64[::1], int64, int64, int64[::1], int64[::1])")
def window_bounds(
    ts: I64, begins: I64, ends: I64, start: int, end: int, low: I64, high: I64
) -> None:
    """For each series the range [low, high) of its samples in (start, end]."""
    for i in range(len(begins)):
        low[i] = upper_bound(ts, begins[i], ends[i], start)
        high[i] = upper_bound(ts, begins[i], ends[i], end)
