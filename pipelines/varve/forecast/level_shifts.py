"""Level shifts in a history: what was before one is moved to the new level. Pure.

A shift is no season and no trend, and says nothing of the week to come. Left in, it bends the
trend, and makes intervals as wide as itself for as long as it is in the backtest.
"""

from __future__ import annotations

import numpy as np

from varve.anomaly.minute_values import Floats
from varve.forecast.hourly import DAY, Hourly

_MOST = 3
_LEAST_DAYS = 3
"""Days on either side: a shorter stretch may be an incident that ends."""
_LEAST_RATIO = 6.0
"""The shift over the spread of the days around their levels. A trend has 3, a random walk up to 5,
a saw-tooth of a week 1.
"""
_SUDDEN = 0.7
"""Part of the shift that two days have to make: a trend has far less."""
_MAD_TO_STDDEV = 1.4826
_ROUNDING = 1e-9


def levelled(history: Hourly) -> Hourly:
    """The history as if it had always been on its last level, _MOST shifts at most taken out."""
    values = history.values
    for _ in range(_MOST):
        found = _last_shift(values)
        if found is None:
            break
        at, by = found
        values = values.copy()
        values[:at] += by
    return Hourly(history.end_ms, values)


def _last_shift(values: Floats) -> tuple[int, float] | None:
    """The hour from which on the greatest shift counts, and by how much; None if there is none."""
    days = len(values) // DAY
    first = len(values) - days * DAY
    levels = _medians(values[first:].reshape(days, DAY))
    if np.isnan(levels).any():
        return None
    best, at, by = _LEAST_RATIO, 0, 0.0
    least = _ROUNDING * max(float(np.abs(levels).max()), np.finfo(float).tiny)
    for day in range(_LEAST_DAYS, days - _LEAST_DAYS + 1):
        before, after = levels[:day], levels[day:]
        shift = float(np.median(after) - np.median(before))
        apart = np.concatenate([before - np.median(before), after - np.median(after)])
        spread = max(_MAD_TO_STDDEV * float(np.median(np.abs(apart))), least)
        step = float(np.median(levels[day : day + 2]) - np.median(levels[day - 2 : day]))
        is_sudden = abs(step) >= _SUDDEN * abs(shift) and step * shift > 0
        if is_sudden and abs(shift) > best * spread:
            best, at, by = abs(shift) / spread, first + day * DAY, shift
    return None if at == 0 else (_exact(values, at, by), by)


def _exact(values: Floats, at: int, by: float) -> int:
    """The hour within a day of `at` from which on values are nearer to the level behind it."""
    around = np.arange(max(at - DAY, 0), min(at + DAY, len(values)))
    middle = float(np.nanmedian(values[max(at - 2 * DAY, 0) : at + 2 * DAY]))
    is_after = (values[around] > middle) == (by > 0)
    # The cut with the fewest hours on the wrong side.
    wrong = np.concatenate([[0], np.cumsum(is_after)]) + np.concatenate(
        [np.cumsum(~is_after[::-1])[::-1], [0]]
    )
    return int(around[0]) + int(wrong.argmin())


def _medians(days: Floats) -> Floats:
    """Of each day; NaN for one without a number."""
    there = ~np.isnan(days).all(axis=1)
    found = np.full(len(days), np.nan)
    found[there] = np.nanmedian(days[there], axis=1)
    return found
