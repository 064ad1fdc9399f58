"""The forecast that every other has to beat: as a season ago, moved by the drift since. Pure."""

from __future__ import annotations

import numpy as np

from varve.anomaly.minute_values import Floats, Ints
from varve.forecast.hourly import (
    DAY,
    HORIZON,
    WEEK,
    Hourly,
    ordinary_days,
    seasonal_places,
)
from varve.model.calendar import NO_HOLIDAYS, Calendar

NAME = "seasonal-naive"

_WEEKLY_FROM = 2 * WEEK
_GAIN = 0.9
_TRIALS = 6


def forecast(history: Hourly, calendar: Calendar = NO_HOLIDAYS) -> Floats:
    """The next HORIZON hours.

    The season is a week from two weeks of history on, before that a day, or an hour where there is
    less than two days; a shorter one where that was better by a tenth on the end of the history: an
    hour, which is the last value, for what has none and wanders. Drift is the median change over a
    season: a few odd hours do not turn it. Hours of the last season without a number take that of
    the season before, or the last known. A season of a week takes holidays for the day that the
    calendar says.
    """
    season = _better_season(history.values, season_of(len(history.values)))
    places = None
    if season == WEEK:
        history, places = ordinary_days(history, calendar), seasonal_places(history, calendar)
    return _continued(history.values, season, HORIZON, places)


def season_of(hours: int) -> int:
    """Hours after which a series of so many hours is taken to repeat."""
    if hours >= _WEEKLY_FROM:
        return WEEK
    return DAY if hours >= 2 * DAY else 1


def _better_season(values: Floats, longest: int) -> int:
    """The longest season, or a shorter one that would have been better by a tenth on parts of the
    end of the history, each forecast by what was before it.
    """
    ahead = min(WEEK, len(values) // 4)
    starts = [len(values) - ahead - n * (ahead // 2) for n in range(_TRIALS)]
    starts = [start for start in starts if start >= 2 * longest]
    best, least = longest, np.inf
    for season in (WEEK, DAY, 1):
        if season > longest or not starts:
            continue
        errors = [
            np.abs(_continued(values[:at], season, ahead) - values[at : at + ahead])
            for at in starts
            if not np.isnan(values[:at]).all()
        ]
        known = np.concatenate([part[~np.isnan(part)] for part in errors] or [np.empty(0)])
        error = float(known.mean()) if len(known) else np.inf
        if error < _GAIN * least:
            best, least = season, error
    return best


def _continued(values: Floats, season: int, hours: int, places: Ints | None = None) -> Floats:
    """The next hours. places: the hour of the season that each takes, if not its own."""
    drift = _drift(values, season) if season > 1 else 0.0
    last = _last_season(values, season, drift)
    steps = np.arange(hours)
    return last[steps % season if places is None else places] + drift * (steps // season + 1)


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
