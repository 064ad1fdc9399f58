"""Finds where the windows of all steps begin and end in a series, and shares that between series.

Series of one scrape target have the same timestamps: what follows from those alone is computed
once for as long as they stay the same.
"""

from __future__ import annotations

import numpy as np

from varve.model.compiled import inline
from varve.promql.kernels.codes import DELTA, INCREASE, RATE
from varve.promql.kernels.search import advance
from varve.promql.kernels.types import F64, I64

# The fields of a frame's state.
BEGIN = 0
END = 1
TOUCHED = 2
LEAST = 3
STATE_LENGTH = 4

_BLOCK = 64


@inline
def new_state() -> I64:
    """The state of a frame that no series has filled yet."""
    state = np.zeros(STATE_LENGTH, np.int64)
    state[BEGIN] = -1
    return state


@inline
def same_times(ts: I64, begin: int, end: int, state: I64) -> bool:
    """Whether ts[begin:end] are the times that the frame was made for."""
    before = state[BEGIN]
    if before < 0 or end - begin != state[END] - before:
        return False
    # Indices are unsigned: signed ones may count from the end, and nothing would be vectorised.
    these, those = ts[begin:end], ts[before : state[END]]
    i, n = 0, end - begin
    while i < n:
        stop = min(n, i + _BLOCK)
        difference = np.int64(0)
        for k in range(np.uint64(i), np.uint64(stop)):
            difference |= these[k] ^ those[k]
        if difference != 0:
            return False
        i = stop
    return True


@inline
def find_windows(
    ts: I64, begin: int, end: int, times: I64, range_ms: int, low: I64, high: I64, state: I64
) -> None:
    """Finds the samples [begin + low[step], begin + high[step]) in each (time - range_ms, time]."""
    first = last = begin
    touched = 0
    least = 1 << 62
    for step in range(len(times)):
        t = times[step]
        first = advance(ts, first, end, t - range_ms)
        last = advance(ts, max(first, last), end, t)
        low[step] = first - begin
        high[step] = last - begin
        touched += last - first
        least = min(least, int(last - first))
    state[BEGIN] = begin
    state[END] = end
    state[TOUCHED] = touched
    state[LEAST] = least


@inline
def is_extrapolated(function: int) -> bool:
    return function in (RATE, INCREASE, DELTA)


@inline
def extrapolation(
    function: int, first_ms: int, last_ms: int, gaps: int, start_ms: int, end_ms: int
) -> tuple[float, float, float]:
    """The factor that extrapolates what grew from first to last to all of (start_ms, end_ms].

    gaps: between samples, one at least. With it come the seconds between first and last sample,
    and the seconds of extension before the first.
    """
    between = (last_ms - first_ms) / 1000.0
    average = between / gaps
    threshold = average * 1.1
    before = (first_ms - start_ms) / 1000.0
    after = (end_ms - last_ms) / 1000.0
    if before >= threshold:
        before = average / 2.0
    if after >= threshold:
        after = average / 2.0
    multiplier = (between + before + after) / between
    if function == RATE:
        multiplier /= (end_ms - start_ms) / 1000.0
    return multiplier, between, before


@inline
def find_factors(
    function: int,
    ts: I64,
    begin: int,
    times: I64,
    range_ms: int,
    low: I64,
    high: I64,
    factor: F64,
    sampled: F64,
    to_start: F64,
) -> None:
    """Finds the factor that extrapolates the growth in each window that need not be cut at zero.

    `sampled` becomes the seconds between first and last sample, and `to_start` the seconds of
    extension before the first, by which a counter's extension can be cut. Windows of fewer than two
    samples are skipped.
    """
    for step in range(len(times)):
        gaps = high[step] - low[step] - 1
        if gaps < 1:
            continue
        first_ms, last_ms = ts[begin + low[step]], ts[begin + high[step] - 1]
        factor[step], sampled[step], to_start[step] = extrapolation(
            function, first_ms, last_ms, gaps, times[step] - range_ms, times[step]
        )
