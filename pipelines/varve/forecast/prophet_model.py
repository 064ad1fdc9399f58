"""Prophet, set up for the hours of operations data.

Only the trend and the seasons are taken from it: one fit by maximum a posteriori, no samples of
uncertainty, which cost more than the fit and are narrower than the errors it makes. Intervals come
from the backtest (varve.forecast.backtest).
"""

from __future__ import annotations

import logging
import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from varve.anomaly.minute_values import Floats
from varve.forecast.hourly import DAY, WEEK, Hourly, ordinary_days, seasonal_places
from varve.model.calendar import NO_HOLIDAYS, Calendar

_log = logging.getLogger(__name__)

NAME = "prophet"

_HOURS_PER_CHANGEPOINT = 2 * DAY
_MOST_CHANGEPOINTS = 12
_DAILY_ORDER = 6
_WEEKLY_ORDER = 5
_WEEKLY_FROM = 2 * WEEK
# L-BFGS ends once its steps gain less than 2e-8 of the objective. By default it creeps on to where
# rounding makes line searches fail, for which Prophet turns to Newton, in fifty times the time; the
# forecasts differ by a thousandth of their errors. Measured by `make bench-forecast`.
_STOPPING = {"iter": 2_000, "tol_rel_obj": 1e8, "tol_obj": 1e-8}
# Below, Prophet begins with Newton, which is quick there and has none of these options.
_LBFGS_FROM = 100


class NotInstalled(Exception):
    """Prophet is not in this environment. The text says what to do."""


def forecast(history: Hourly, seed: int, calendar: Calendar = NO_HOLIDAYS) -> Floats:
    """The next HORIZON hours; equal for equal arguments.

    Periods of Prophet's seasons are in days: 1 is a day. Daily from two days of history on, weekly
    from two weeks, which takes holidays for the day that the calendar says: Prophet's own effects
    of holidays need some of each in the history, and there are eight weeks of it. Raises
    NotInstalled, and whatever a fit fails with.
    """
    places = None
    if len(history.values) >= _WEEKLY_FROM:
        history, places = ordinary_days(history, calendar), seasonal_places(history, calendar)
    known = ~np.isnan(history.values)
    frame = pd.DataFrame(
        {"ds": pd.to_datetime(history.ends[known], unit="ms"), "y": history.values[known]}
    )
    ahead = pd.DataFrame({"ds": pd.to_datetime(history.ahead, unit="ms")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _fitted(frame, len(history.values), seed)
        parts = model.predict(ahead)
    found: Floats = parts["yhat"].to_numpy()
    if places is not None:
        trend = parts["trend"].to_numpy()
        found = trend + (found - trend)[places]
    if not np.isfinite(found).all():
        raise ArithmeticError("Prophet's fit has no finite forecast")
    return found


def version() -> str:
    """Name and version, for the rows. Raises NotInstalled."""
    _prophet()
    import prophet  # noqa: PLC0415 - there, as the line above tells

    return f"{NAME} {prophet.__version__}"


def _fitted(frame: pd.DataFrame, hours: int, seed: int) -> Any:
    """A model fitted to the hours of a frame; of those that fail, once more as Prophet likes it."""
    if len(frame) >= _LBFGS_FROM:
        model = _model(hours)
        model.stan_backend.newton_fallback = False
        try:
            return model.fit(frame, seed=seed, **_STOPPING)
        except RuntimeError:
            _log.debug("a fit ended early and is done again with Prophet's own options")
    return _model(hours).fit(frame, seed=seed)


def _model(hours: int) -> Any:
    """A model for so many hours of history."""
    return _prophet()(
        growth="linear",
        n_changepoints=min(_MOST_CHANGEPOINTS, hours // _HOURS_PER_CHANGEPOINT),
        changepoint_range=0.9,
        changepoint_prior_scale=0.05,
        seasonality_mode="additive",
        daily_seasonality=_DAILY_ORDER if hours >= 2 * DAY else False,
        weekly_seasonality=_WEEKLY_ORDER if hours >= _WEEKLY_FROM else False,
        yearly_seasonality=False,
        uncertainty_samples=0,
        mcmc_samples=0,
    )


@cache
def _prophet() -> Any:
    """The class, imported when it is first needed: that takes seconds."""
    for name in ("prophet", "prophet.models", "prophet.plot", "cmdstanpy"):
        logging.getLogger(name).disabled = True  # they set their levels themselves
    try:
        from prophet import Prophet  # noqa: PLC0415
    except ImportError as err:
        raise NotInstalled(
            "Prophet is not installed where the job runs, so only seasonal-naive was tried:"
            " install the package prophet there"
        ) from err
    return Prophet
