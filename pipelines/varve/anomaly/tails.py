"""How far a series strays from its baseline by itself, and what is beyond that. Pure.

Three minutes in a row beyond three standard deviations are rare where minutes are independent of
each other. Where load lingers they come every few hours, and mean nothing. So each hour of the
history is scored by the hours beside it, as if it were new, and what the tail of these scores
exceeds once in _ONCE_IN_HOURS is what an episode has to be beyond.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varve.anomaly.hour_features import HELD_MINUTES, Hours
from varve.anomaly.minute_values import Floats
from varve.anomaly.moments import Moments

_ONCE_IN_HOURS = 20_000.0
"""On either side, so that it is once in 10,000."""
_LEAST_HOURS, _LEAST_DAYS = 24, 5
"""From which on there is a tail."""
_MIDDLE = 0.5
_OF_HOURS, _OF_DAYS = 0.9, 0.8
"""Quantiles of greatest scores that a tail is drawn through. What is above may be incidents: in a
tenth of the hours, on one day of a week."""
_DAYS_AS_HOURS = 3.0
"""So many days say as much of how fast the tail falls as all hours do."""
_DAY = 24
_FLOOR = 0.001
"""Least standard deviation, as a share of what is expected."""
_FEW = 4.5
"""Numbers in an hour under which three in a row are looked for over several hours."""


@dataclass(frozen=True, slots=True)
class Tails:
    """Scores that are exceeded once in _ONCE_IN_HOURS, of each series; NaN: not known."""

    held_above: Floats
    """By HELD_MINUTES numbers in a row, on the upper side."""
    held_below: Floats
    """As a score without its sign, as extreme_below."""
    extreme_above: Floats
    """By a single number."""
    extreme_below: Floats


def tails(parts: Sequence[tuple[Hours, Moments]], floor: Floats) -> Tails:
    """parts: hours, in order, and what is expected of each without it, shape (series, hours); count
    is 0 where unknown. floor: least standard deviation of each series.
    """
    sides = zip(*(_scores(hours, expected, floor) for hours, expected in parts), strict=True)
    return Tails(*(exceeded_rarely(np.concatenate(side, axis=1)) for side in sides))


def _scores(hours: Hours, expected: Moments, floor: Floats) -> list[Floats]:
    """Greatest scores of each hour, in the order of Tails; NaN where unknown."""
    low, high = _held(hours)
    known = (hours.count > 0) & (expected.count > 0)
    spread = np.maximum(expected.stddev, _FLOOR * np.abs(expected.mean))
    spread = np.maximum(spread, floor[:, None])
    with np.errstate(all="ignore"):
        return [
            np.where(known & (spread > 0), sign * (numbers - expected.mean) / spread, np.nan)
            for sign, numbers in ((1, high), (-1, low), (1, hours.high), (-1, hours.low))
        ]


@np.errstate(over="ignore", invalid="ignore")
def exceeded_rarely(scores: Floats) -> Floats:
    """What the greatest score of an hour exceeds once in _ONCE_IN_HOURS. scores: the greatest of
    each hour, shape (series, hours), NaN where there is none; the answer is NaN if there are few.

    The tail is that of greatest values (Gumbel), through two quantiles: of hours, and of days
    where that is further, as for bursts that few hours have.
    """
    whole = scores.shape[1] // _DAY * _DAY
    by_day = scores[:, scores.shape[1] - whole :].reshape(len(scores), -1, _DAY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # days without a score
        greatest = np.nanmax(by_day, axis=2) if whole else scores[:, :0]
    hours, days = _Line.through(scores, _OF_HOURS), _Line.through(greatest, _OF_DAYS)
    found = np.where(hours.count >= _LEAST_HOURS, hours.exceeded(_ONCE_IN_HOURS), np.nan)
    # A tail falls as fast over days as over hours; few days say that less well.
    share = days.count / (days.count + _DAYS_AS_HOURS)
    slope = days.slope * share + hours.slope * (1 - share)
    rare = days.middle + slope * _gumbel(1 - _DAY / _ONCE_IN_HOURS, _MIDDLE)
    return np.fmax(found, np.where(np.isnan(found) | (days.count < _LEAST_DAYS), np.nan, rare))


@dataclass(frozen=True, slots=True)
class _Line:
    """The tail of greatest values of some series."""

    middle: Floats
    slope: Floats
    count: np.ndarray

    @classmethod
    def through(cls, scores: Floats, upper: float) -> _Line:
        """The tail through the median and another quantile, of scores of the shape (series, n)."""
        count = (~np.isnan(scores)).sum(axis=1)
        if not scores.shape[1]:
            none = np.full(len(scores), np.nan)
            return cls(none, none, count)
        ordered = np.sort(scores, axis=1)  # NaN goes last
        low, high = (_quantile(ordered, count, share) for share in (_MIDDLE, upper))
        return cls(low, (high - low) / _gumbel(upper, _MIDDLE), count)

    def exceeded(self, once_in: float) -> Floats:
        """What one of so many exceeds."""
        return self.middle + self.slope * _gumbel(1 - 1 / once_in, _MIDDLE)


def _gumbel(share: float, above: float) -> float:
    """How far a quantile of the greatest values is above another, in slopes."""
    return math.log(math.log(above) / math.log(share))


def _quantile(ordered: Floats, count: np.ndarray, share: float) -> Floats:
    last = np.maximum(count - 1, 0)
    below = np.floor(last * share).astype(np.int64)
    part = last * share - below
    rows = np.arange(len(ordered))
    found: Floats = ordered[rows, below] * (1 - part)
    return found + ordered[rows, np.minimum(below + 1, last)] * part


def _held(hours: Hours) -> tuple[Floats, Floats]:
    """Least and greatest number that HELD_MINUTES in a row were at or beyond, by hour; of a series
    with few numbers in an hour, over as many of its hours as have so many.
    """
    low, high = hours.held_low, hours.held_high
    there = hours.count > 0
    with np.errstate(all="ignore"):
        numbers = hours.count.sum(axis=1) / there.sum(axis=1)
    few = np.flatnonzero(numbers < _FEW)
    if not len(few):
        return low, high
    low, high = low.copy(), high.copy()
    for series in few.tolist():
        at = np.flatnonzero(there[series])
        width = int(np.ceil(HELD_MINUTES / numbers[series]))
        low[series], high[series] = np.nan, np.nan
        if len(at) >= width:
            lows, highs = (
                np.lib.stride_tricks.sliding_window_view(values[series, at], width)
                for values in (hours.low, hours.high)
            )
            low[series, at[width - 1 :]] = highs.max(axis=1)
            high[series, at[width - 1 :]] = lows.min(axis=1)
    return low, high
