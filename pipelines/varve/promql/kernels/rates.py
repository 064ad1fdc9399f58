"""rate, increase, delta, irate and idelta over one series.

Source: Prometheus, promql/functions.go, extrapolatedRate and instantValue.
"""

from __future__ import annotations

from varve.promql.kernels.codes import DELTA, IRATE, RATE
from varve.promql.kernels.locate import advance
from varve.promql.kernels.registry import inline
from varve.promql.kernels.types import F64, I64, Bools


@inline
def resets_in(values: F64, low: int, high: int) -> float:
    """Sum of the values before each fall within [low, high): what resets took away."""
    lost = 0.0
    for i in range(low + 1, high):
        if values[i] < values[i - 1]:
            lost += values[i - 1]
    return lost


@inline
def extrapolated(
    function: int,
    first: float,
    growth: float,
    sampled_ms: int,
    to_start_ms: int,
    to_end_ms: int,
    gaps: int,
    range_ms: int,
) -> float:
    """`growth` over the sampled interval, extended towards the ends of the window.

    growth: last - first, resets put back. gaps: samples less one. Times in ms; the result is
    per second for RATE.
    """
    sampled = sampled_ms / 1000.0
    average = sampled / gaps
    threshold = average * 1.1
    to_start = to_start_ms / 1000.0
    to_end = to_end_ms / 1000.0
    if to_start >= threshold:
        to_start = average / 2.0
    # A counter is not extended below zero.
    if function != DELTA and growth > 0.0 and first >= 0.0:
        to_zero = sampled * (first / growth)
        to_start = min(to_start, to_zero)
    if to_end >= threshold:
        to_end = average / 2.0
    factor = (sampled + to_start + to_end) / sampled
    if function == RATE:
        factor /= range_ms / 1000.0
    return growth * factor


@inline
def rate_row(
    function: int,
    ts: I64,
    values: F64,
    begin: int,
    end: int,
    times: I64,
    range_ms: int,
    out: F64,
    present: Bools,
) -> int:
    """rate, increase or delta at each of `times`; returns the samples touched."""
    is_counter = function != DELTA
    low = high = begin
    falls = 0  # within [low, high)
    touched = 0
    for step in range(len(times)):
        t = times[step]
        start = t - range_ms
        new_low = advance(ts, low, end, start)
        if new_low >= high:
            high = new_low
            falls = 0
        elif falls > 0:
            for i in range(low, new_low):
                if values[i + 1] < values[i]:
                    falls -= 1
        low = new_low
        while high < end and ts[high] <= t:
            if high > low and values[high] < values[high - 1]:
                falls += 1
            high += 1
        count = high - low
        touched += count
        if count < 2:
            present[step] = False
            out[step] = 0.0
            continue
        first = values[low]
        growth = values[high - 1] - first
        if is_counter and falls > 0:
            growth += resets_in(values, low, high)
        out[step] = extrapolated(
            function,
            first,
            growth,
            ts[high - 1] - ts[low],
            ts[low] - start,
            t - ts[high - 1],
            count - 1,
            range_ms,
        )
        present[step] = True
    return touched


@inline
def instant_rate_row(
    function: int,
    ts: I64,
    values: F64,
    begin: int,
    end: int,
    times: I64,
    range_ms: int,
    out: F64,
    present: Bools,
) -> int:
    """irate or idelta, of the last two samples of each window."""
    low = high = begin
    touched = 0
    for step in range(len(times)):
        t = times[step]
        low = advance(ts, low, end, t - range_ms)
        high = advance(ts, max(low, high), end, t)
        touched += high - low
        present[step] = False
        out[step] = 0.0
        if high - low < 2:
            continue
        elapsed_ms = ts[high - 1] - ts[high - 2]
        if elapsed_ms == 0:
            continue
        last, before = values[high - 1], values[high - 2]
        change = last - before
        if function == IRATE:
            if last < before:
                change = last
            change /= elapsed_ms / 1000.0
        out[step] = change
        present[step] = True
    return touched
