"""Finds values in a sorted column."""

from __future__ import annotations

from varve.model.compiled import inline
from varve.promql.kernels.types import I64


@inline
def upper_bound(ts: I64, begin: int, end: int, t: int) -> int:
    """The first index in [begin, end) whose timestamp is > t; `end` if there is none.

    Guesses by interpolation, as scrapes are nearly regular, then searches around the guess.
    """
    if begin >= end or ts[end - 1] <= t:
        return end
    if ts[begin] > t:
        return begin
    span = ts[end - 1] - ts[begin]
    guess = begin + int((end - 1 - begin) * ((t - ts[begin]) / span))
    # From here on ts[low] <= t < ts[high].
    low, high = begin, end - 1
    if ts[guess] <= t:
        low, step = guess, 1
        while low + step < high and ts[low + step] <= t:
            low += step
            step *= 2
        high = min(high, low + step)
    else:
        high, step = guess, 1
        while high - step > low and ts[high - step] > t:
            high -= step
            step *= 2
        low = max(low, high - step)
    while high - low > 1:
        middle = (low + high) >> 1
        if ts[middle] <= t:
            low = middle
        else:
            high = middle
    return high


@inline
def advance(ts: I64, i: int, end: int, t: int) -> int:
    """The first index in [i, end) whose timestamp is > t, near `i` in all likelihood."""
    if i >= end or ts[i] > t:
        return i
    if i + 1 >= end or ts[i + 1] > t:
        return i + 1
    low, step = i + 1, 1
    while low + step < end and ts[low + step] <= t:
        low += step
        step *= 2
    high = min(end, low + step)
    while high - low > 1:
        middle = (low + high) >> 1
        if ts[middle] <= t:
            low = middle
        else:
            high = middle
    return high


@inline
def lower_bound(column: I64, begin: int, end: int, value: int) -> int:
    """The first index in [begin, end] of an ascending column with column[i] >= value. The values
    may lie as far apart as int64 allows.
    """
    while begin < end:
        middle = (begin + end) >> 1
        if column[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin
