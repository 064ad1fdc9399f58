"""Computes rate, increase, delta, irate and idelta over one series.

Source: Prometheus, promql/functions.go, extrapolatedRate and instantValue.
"""

from __future__ import annotations

import numpy as np

from varve.model.compiled import inline
from varve.promql.kernels.codes import DELTA, IRATE, RATE
from varve.promql.kernels.types import F64, I64, Bools

_NEARLY_ONE = 1.0 + 1e-9
"""One, and more than rounding can add to a product."""


@inline
def falls(values: F64, begin: int, end: int) -> bool:
    """Whether a value is less than the one before it."""
    if end - begin < 2:
        return False
    # Indices are unsigned: signed ones may count from the end, and nothing would be vectorised.
    before, after = values[begin : end - 1], values[begin + 1 : end]
    found = False
    for i in range(np.uint64(end - begin - 1)):
        found |= after[i] < before[i]
    return found


@inline
def with_resets(growth: float, values: F64, low: int, high: int) -> float:
    """`growth` plus what resets took away: the values before each fall within [low, high).

    They are added one by one, as upstream does, since sums of large ones round.
    """
    for i in range(low + 1, high):
        if values[i] < values[i - 1]:
            growth += values[i - 1]
    return growth


@inline
def extended(
    growth: float,
    first: float,
    factor: float,
    sampled: float,
    to_start: float,
    per_second: float,
    is_counter: bool,  # noqa: FBT001 - numba passes arguments by position
) -> float:
    """`growth` over the window; a counter is not extended below zero."""
    if is_counter and growth > 0.0 and first >= 0.0:
        surplus = to_start - sampled * (first / growth)
        if surplus > 0.0:
            factor -= surplus / sampled * per_second
    return growth * factor


@inline
def grown_row(
    values: F64,
    begin: int,
    low: I64,
    high: I64,
    factor: F64,
    sampled: F64,
    to_start: F64,
    out: F64,
    doubtful: Bools,
) -> bool:
    """Writes growth times factor, where every window has two samples and no reset.

    `doubtful` becomes where a counter's extension may have to be cut; returns whether it is
    anywhere. There are no branches and no divisions, so that it vectorises.
    """
    any_doubt = False
    for step in range(len(out)):
        first = values[np.uint64(begin + low[step])]
        growth = values[np.uint64(begin + high[step] - 1)] - first
        out[step] = growth * factor[step]
        reach = to_start[step] * growth * _NEARLY_ONE
        doubt = (growth > 0.0) & (first >= 0.0) & (reach > sampled[step] * first)
        doubtful[step] = doubt
        any_doubt |= doubt
    return any_doubt


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
    complete: bool,  # noqa: FBT001 - numba passes arguments by position
    out: F64,
    present: Bools,
) -> None:
    """rate, increase or delta in each window; factor, sampled, to_start as in find_factors.

    complete: every window is known to have two samples.
    """
    steps = len(out)
    is_counter = function != DELTA
    resets = is_counter and falls(values, begin + low[0], begin + high[steps - 1])
    per_second = 1000.0 / range_ms if function == RATE else 1.0
    easy = complete and not resets
    if easy and not (
        grown_row(values, begin, low, high, factor, sampled, to_start, out, present) and is_counter
    ):
        present[:] = True
        return
    for step in range(steps):
        if easy and not present[step]:
            present[step] = True
            continue
        present[step] = high[step] - low[step] > 1
        if not present[step]:
            out[step] = 0.0
            continue
        first_index, last_index = begin + low[step], begin + high[step] - 1
        first = values[first_index]
        growth = values[last_index] - first
        if resets:
            growth = with_resets(growth, values, first_index, last_index + 1)
        out[step] = extended(
            growth, first, factor[step], sampled[step], to_start[step], per_second, is_counter
        )


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
    """irate or idelta: of the last two samples of each window."""
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
