"""rate, increase, delta, irate and idelta over one series.

Source: Prometheus, promql/functions.go, extrapolatedRate and instantValue.
"""

from __future__ import annotations

from varve.promql.kernels.codes import DELTA, IRATE, RATE
from varve.promql.kernels.registry import inline
from varve.promql.kernels.types import F64, I64, Bools


@inline
def count_falls(values: F64, begin: int, end: int) -> int:
    """How often a value is less than the one before it."""
    falls = 0
    for i in range(begin + 1, end):
        falls += values[i] < values[i - 1]
    return falls


@inline
def with_resets(growth: float, values: F64, low: int, high: int) -> float:
    """`growth` and what resets took away: the values before each fall within [low, high).

    They are added one by one, as upstream does, since sums of large ones round.
    """
    for i in range(low + 1, high):
        if values[i] < values[i - 1]:
            growth += values[i - 1]
    return growth


@inline
def rate_row(
    function: int,
    values: F64,
    begin: int,
    low: I64,
    high: I64,
    range_ms: int,
    factor: F64,
    sampled: F64,
    to_start: F64,
    out: F64,
    present: Bools,
) -> None:
    """rate, increase or delta in each window; factor, sampled, to_start as in find_factors."""
    steps = len(out)
    is_counter = function != DELTA
    resets = is_counter and count_falls(values, begin + low[0], begin + high[steps - 1]) > 0
    per_second = 1000.0 / range_ms if function == RATE else 1.0
    for step in range(steps):
        present[step] = high[step] - low[step] > 1
        if not present[step]:
            out[step] = 0.0
            continue
        first_index, last_index = begin + low[step], begin + high[step] - 1
        first = values[first_index]
        growth = values[last_index] - first
        if resets:
            growth = with_resets(growth, values, first_index, last_index + 1)
        multiplier = factor[step]
        if is_counter and growth > 0.0 and first >= 0.0:
            # A counter is not extended below zero.
            surplus = to_start[step] - sampled[step] * (first / growth)
            if surplus > 0.0:
                multiplier -= surplus / sampled[step] * per_second
        out[step] = growth * multiplier


@inline
def instant_rate_row(
    function: int,
    ts: I64,
    values: F64,
    begin: int,
    low: I64,
    high: I64,
    out: F64,
    present: Bools,
) -> None:
    """irate or idelta, of the last two samples of each window."""
    for step in range(len(out)):
        present[step] = False
        out[step] = 0.0
        if high[step] - low[step] < 2:
            continue
        last_index = begin + high[step] - 1
        elapsed_ms = ts[last_index] - ts[last_index - 1]
        if elapsed_ms == 0:
            continue
        last, before = values[last_index], values[last_index - 1]
        change = last - before
        if function == IRATE:
            if last < before:
                change = last
            change /= elapsed_ms / 1000.0
        out[step] = change
        present[step] = True
