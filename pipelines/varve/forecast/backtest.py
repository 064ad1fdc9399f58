"""What a model would have forecast from earlier hours, against what came: errors and intervals.

Rolling origins: a model is fitted to the hours before each origin and judged by those after it, so
nothing of what it is judged by was known to it. Pure, but for the models it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from varve.anomaly.minute_values import Floats
from varve.forecast.hourly import DAY, HORIZON, LEAST_HOURS, Hourly

Model = Callable[[Hourly], Floats]
"""The next HORIZON hours of a history."""

COVERAGE = 0.8
"""Share of the hours to come that an interval is to hold."""

ORIGINS = 3
"""Fits of a backtest at most."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """Errors of one model over all origins."""

    mae: float
    """Mean absolute error. Unit of the metric."""
    mase: float
    """The same over what the last day would have been off; below 1 it is better than that."""
    mape: float | None
    """Mean absolute percentage error; None where a value is 0."""
    coverage: float | None
    """Share of hours inside the interval that the other origins give; None with a single one."""
    half_widths: Floats
    """Half of the width of the interval at each hour of the horizon."""


def origins(hours: int) -> tuple[int, list[int]]:
    """Hours that are forecast from each origin, and the origins: hours of history before each.

    A quarter of the history is forecast, up to HORIZON, in whole days. Origins are half of that
    apart. None where less than LEAST_HOURS would be left to fit to.
    """
    ahead = min(HORIZON, max(DAY, hours // 4 // DAY * DAY))
    step = ahead // 2
    found = [hours - ahead - n * step for n in range(ORIGINS)]
    return ahead, [at for at in found if at >= LEAST_HOURS]


def backtest(history: Hourly, model: Model) -> Backtest | None:
    """None for too short a history. Raises what the model raises."""
    values = history.values
    ahead, starts = origins(len(values))
    errors = np.full((len(starts), ahead), np.nan)
    for row, start in enumerate(starts):
        begun = _begun(history.until(start))
        if begun is not None:
            part, gap = begun
            errors[row] = (model(part)[gap : gap + ahead] - values[start : start + ahead])[:ahead]
    known = ~np.isnan(errors)
    if not known.any():
        return None
    actual = np.stack([values[start : start + ahead] for start in starts])
    mae = float(np.abs(errors[known]).mean())
    scale = _scale(values)
    sizes = np.abs(actual[known])
    return Backtest(
        mae,
        mae / scale if scale > 0 else (0.0 if mae == 0 else float("inf")),
        float((np.abs(errors[known]) / sizes).mean()) if (sizes > 0).all() else None,
        _coverage(errors),
        half_widths(errors),
    )


def half_widths(errors: Floats) -> Floats:
    """Half widths of the interval for each hour of HORIZON, by errors of shape (origins, hours).

    By day ahead the conformal quantile of the absolute errors: of n the one in place (n + 1)
    COVERAGE. They do not fall with time: where those of days do, they are the mean of these days,
    since the greatest of several quantiles would hold more than they promise. What lies beyond the
    hours that were tried grows with the square root of time, as a random walk.
    """
    days = errors.shape[1] // DAY
    sizes = np.abs(errors[:, : days * DAY]).reshape(len(errors), days, DAY)
    widths = _ascending([_conformal(sizes[:, day]) for day in range(days)])
    beyond = widths[-1] * np.sqrt(np.arange(days + 1, HORIZON // DAY + 1) / days)
    return np.repeat(np.append(widths, beyond), DAY)


def _conformal(sizes: Floats) -> float:
    """What COVERAGE of errors yet to come are below; NaN without any."""
    known = np.sort(sizes[~np.isnan(sizes)])
    if not len(known):
        return float("nan")
    place = math.ceil((len(known) + 1) * COVERAGE)
    return float(known[min(place, len(known)) - 1])


def _ascending(quantiles: Sequence[float]) -> Floats:
    """The nearest widths that never fall from day to day (isotonic regression). A day of which
    nothing is known has the width of the one before.
    """
    pools: list[tuple[float, int]] = []  # mean and number of days that share a width
    for quantile in quantiles:
        if math.isnan(quantile):
            mean, days = pools.pop() if pools else (0.0, 0)
            pools.append((mean, days + 1))
            continue
        pools.append((quantile, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (high, some), (low, more) = pools[-2:]
            pools[-2:] = [((high * some + low * more) / (some + more), some + more)]
    return np.concatenate([np.full(days, mean) for mean, days in pools])


def _begun(history: Hourly) -> tuple[Hourly, int] | None:
    """The history without the gap at its end, and the hours of that; None if too little is left."""
    known = np.flatnonzero(~np.isnan(history.values))
    if len(known) < LEAST_HOURS // 2:
        return None
    last = int(known[-1]) + 1
    gap = len(history.values) - last
    return (history.until(last), gap) if gap < DAY else None


def _coverage(errors: Floats) -> float | None:
    """Share of the hours of each origin inside the interval that the others give."""
    inside = total = 0
    for row in range(len(errors)):
        others = np.delete(errors, row, axis=0)
        known = ~np.isnan(errors[row])
        if not known.any() or np.isnan(others).all():
            continue
        widths = half_widths(others)[: errors.shape[1]]
        inside += int((np.abs(errors[row][known]) <= widths[known]).sum())
        total += int(known.sum())
    return inside / total if total else None


def _scale(values: Floats) -> float:
    """Mean absolute difference from a day before: what MASE is in units of."""
    lag = DAY if len(values) > DAY else 1
    change = np.abs(values[lag:] - values[:-lag])
    known = change[~np.isnan(change)]
    return float(known.mean()) if len(known) else 0.0
