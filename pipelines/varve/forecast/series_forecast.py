"""The forecast of one series: both models tried on its past, the better one published.

Whatever goes wrong with a series is a reason, not an error: the others go on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from varve.anomaly.minute_values import Floats
from varve.forecast import prophet_model, seasonal_naive
from varve.forecast.backtest import Backtest, Model, backtest
from varve.forecast.hourly import HORIZON, LEAST_HOURS, Hourly
from varve.forecast.level_shifts import levelled
from varve.model.calendar import NO_HOLIDAYS, Calendar

FORECAST, SKIPPED, FAILED = "forecast", "skipped", "failed"

_SEEDS = 2**31 - 1
_ROUNDING = 1e-9
_LONGEST_REASON = 120


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """What became of one series."""

    series_id: int
    trained_until: int
    """End of its last hour, ms."""
    hours: int
    """Hours of history that have a number."""
    status: str
    """forecast, skipped (too little history) or failed."""
    reason: str
    """Why it was skipped or failed, or why a model is missing; else empty."""
    model: str
    """Name and version of the chosen model; empty unless forecast."""
    naive: Backtest | None
    prophet: Backtest | None
    seconds: float
    """Time that all fits took."""
    value: Floats
    lower: Floats
    upper: Floats
    """Of HORIZON hours; empty unless forecast."""

    @property
    def chosen(self) -> Backtest | None:
        """The backtest of the model that was chosen."""
        return self.prophet if self.model.startswith(prophet_model.NAME) else self.naive


@np.errstate(over="ignore", invalid="ignore")  # of what is beyond all numbers there is a reason
def forecast_series(
    series_id: int,
    history: Hourly,
    *,
    floor: float | None = None,
    cap: float | None = None,
    calendar: Calendar = NO_HOLIDAYS,
) -> SeriesForecast:
    """Tries seasonal naive and Prophet and forecasts with the one of the smaller error.

    Level shifts are taken out of its history. floor, cap: what the series cannot go beyond. A
    series that was never negative has floor 0. The same arguments give the same forecast.
    """
    begun = time.perf_counter()
    known = ~np.isnan(history.values)
    hours = int(known.sum())
    nothing = np.empty(0)

    def ended(status: str, reason: str) -> SeriesForecast:
        taken = time.perf_counter() - begun
        return SeriesForecast(
            *(series_id, history.end_ms, hours, status, reason, "", None, None, taken),
            *(nothing, nothing, nothing),
        )

    if hours < LEAST_HOURS:
        return ended(SKIPPED, f"{hours} hours have a number, {LEAST_HOURS} are needed")
    if floor is None and (history.values[known] >= 0).all():
        floor = 0.0
    # Of values before a shift that are moved some may be beyond the floor: it is told by now.
    history = levelled(history)
    simple = partial(seasonal_naive.forecast, calendar=calendar)
    fitted = partial(prophet_model.forecast, seed=series_id % _SEEDS, calendar=calendar)
    try:
        naive = backtest(history, simple)
    except ArithmeticError as err:
        return ended(FAILED, f"seasonal naive: {err}")
    prophet, reason = _prophet_backtest(history, fitted, naive)
    model, best = seasonal_naive.NAME, naive
    value = simple(history)
    if prophet is not None and (naive is None or prophet.mae < naive.mae):
        try:
            value = fitted(history)
            model, best = prophet_model.version(), prophet
        except Exception as err:  # noqa: BLE001 - of one series: the other model is there
            reason = _reason(err)
    widths = _unknown_widths(history) if best is None else best.half_widths
    if not (np.isfinite(value).all() and np.isfinite(widths).all()):
        return ended(FAILED, "its numbers are too far apart to be forecast")
    low, high = (-np.inf if floor is None else floor), (np.inf if cap is None else cap)
    return SeriesForecast(
        series_id,
        history.end_ms,
        hours,
        FORECAST,
        reason,
        model,
        naive,
        prophet,
        time.perf_counter() - begun,
        np.clip(value, low, high),
        np.clip(value - widths, low, high),
        np.clip(value + widths, low, high),
    )


def _prophet_backtest(
    history: Hourly, fitted: Model, naive: Backtest | None
) -> tuple[Backtest | None, str]:
    """The backtest, or why there is none. A series that seasonal naive knows but for rounding needs
    no other model, and without noise Prophet takes a hundred times as long.
    """
    if naive is not None and naive.mae <= _ROUNDING * float(np.nanmax(np.abs(history.values))):
        return None, ""
    try:
        return backtest(history, fitted), ""
    except prophet_model.NotInstalled as err:
        return None, str(err)
    except Exception as err:  # noqa: BLE001 - Prophet and Stan raise what they like, of one series
        return None, _reason(err)


def _reason(err: Exception) -> str:
    """Why a fit failed, for a person: Stan's errors go on for pages."""
    text = str(err).split("\n", 1)[0]
    return f"Prophet: {type(err).__name__}: {text[:_LONGEST_REASON]}"


def _unknown_widths(history: Hourly) -> Floats:
    """Half widths where nothing could be tried: the spread of the history, growing."""
    return np.nanstd(history.values) * np.sqrt(np.arange(1, HORIZON + 1) / 24)
