"""When a forecast reaches a threshold, and how likely it does at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from varve.anomaly.minute_values import Floats, Ints
from varve.forecast.backtest import COVERAGE
from varve.forecast.resources import BELOW

CLEAR, PENDING, FIRING = "clear", "pending", "firing"

_Z = NormalDist().inv_cdf((1 + COVERAGE) / 2)


@dataclass(frozen=True, slots=True)
class Breach:
    """What a forecast says of a threshold."""

    reaches_at: int | None
    """When the expected value is there, ms; None if not within the horizon."""
    earliest_at: int | None
    """When the near bound of the interval is."""
    probability: float

    @property
    def state(self) -> str:
        if self.reaches_at is not None:
            return FIRING
        return CLEAR if self.earliest_at is None else PENDING


def find_breach(
    ts: Ints, value: Floats, lower: Floats, upper: Floats, *, threshold: float, reached: str
) -> Breach:
    """reached: above or below, the threshold included.

    The probability is the greatest of any hour, taking errors to be normal with the interval's
    width: hours are far from independent, so of all of them together it says the least.
    """
    if reached == BELOW:
        value, lower, upper, threshold = -value, -upper, -lower, -threshold
    there, near = value >= threshold, upper >= threshold
    sigma = np.maximum(upper - value, value - lower) / _Z  # a floor may have cut one side
    with np.errstate(all="ignore"):
        distance = np.where(
            sigma > 0, (value - threshold) / sigma, np.where(there, np.inf, -np.inf)
        )
    return Breach(_first(ts, there), _first(ts, near), NormalDist().cdf(float(distance.max())))


def _first(ts: Ints, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int | None:
    return int(ts[mask.argmax()]) if mask.any() else None
