"""The forecast that every other has to beat: as a season ago, moved by the drift since. Pure."""

from __future__ import annotations

import numpy as np

from varve.anomaly.minute_values import Floats
from varve.forecast.hourly import DAY, HORIZON, WEEK, Hourly

NAME = "seasonal-naive"

_WEEKLY_FROM = 2 * WEEK


def forecast(history: Hourly) -> Floats:
    """The next HORIZON hours.

    The season is a week from two weeks of history on, before that a day, or an hour where there is
    less than two days. Drift is the median change over a season: a few odd hours do not turn it.
    Hours of the last season without a number take that of the season before, or the last known.
    """
    values = history.values
    season = season_of(len(values))
    drift = _drift(values, season)
    last = _last_season(values, season, drift)
    steps = np.arange(HORIZON)
    return last[steps % season] + drift * (steps // season + 1)


def season_of(hours: int) -> int:
    """Hours after which a series of so many hours is taken to repeat."""
    if hours >= _WEEKLY_FROM:
        return WEEK
    return DAY if hours >= 2 * DAY else 1


def _drift(values: Floats, season: int) -> float:
    """Change over one season."""
    change = values[season:] - values[:-season]
    known = change[~np.isnan(change)]
    return float(np.median(known)) if len(known) else 0.0


def _last_season(values: Floats, season: int, drift: float) -> Floats:
    found = values[-season:].copy()
    for back in range(1, len(values) // season):
        gaps = np.isnan(found)
        if not gaps.any():
            break
        earlier = values[-(back + 1) * season : -back * season]
        found[gaps] = earlier[gaps] + back * drift
    known = values[~np.isnan(values)]
    found[np.isnan(found)] = known[-1]
    return found
