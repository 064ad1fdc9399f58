"""Generated series of services, five weeks of minutes each, and the incidents put into them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Floats = npt.NDArray[np.float64]

DAY, WEEK = 1_440, 10_080
LENGTH = 5 * WEEK
INCIDENTS = ("spike", "level shift", "slow leak", "outage", "wide noise")
_MINUTES = {"spike": 5, "level shift": 180, "slow leak": 480, "outage": 30, "wide noise": 120}
_LEAST_NUMBERS = {"spike": 1}
"""Of a series with few numbers; 6 otherwise."""

Made = tuple[Floats, float, int]
"""Values by the minute, NaN where there is none; the spread that incidents are measured in; minutes
from one number to the next."""


def noise(random: np.random.Generator) -> Made:
    return 100 + 5 * random.normal(0, 1, LENGTH), 5.0, 1


def daily(random: np.random.Generator) -> Made:
    return 100 + 40 * _day() + 4 * random.normal(0, 1, LENGTH), 4.0, 1


def weekly(random: np.random.Generator) -> Made:
    level = 40 * _day() * (0.3 + _workday()) + 30 * _workday()
    return 100 + level + 4 * random.normal(0, 1, LENGTH), 4.0, 1


def counts(random: np.random.Generator) -> Made:
    return random.poisson(20 + 15 * _day()).astype(float), float(np.sqrt(20)), 1


def rare_events(random: np.random.Generator) -> Made:
    """A counter: its growth per second."""
    return random.poisson(0.01, LENGTH) / 60, 1 / 60, 1


def skewed(random: np.random.Generator) -> Made:
    return random.gamma(4, 5, LENGTH) * (1.5 + _day()), 15.0, 1


def lingering(random: np.random.Generator) -> Made:
    """What a minute strays lasts for twenty."""
    return 100 + 30 * _day() + 5 * _lasting(random, 0.95), 5.0, 1


def wandering(random: np.random.Generator) -> Made:
    """The same for a day."""
    values = 4 * _lasting(random, 0.9993) + 3 * random.normal(0, 1, LENGTH)
    return 100 + 30 * _day() + values, 5.0, 1


def uneven_days(random: np.random.Generator) -> Made:
    """No day is as high as another."""
    height = np.repeat(1 + 0.12 * random.normal(0, 1, LENGTH // DAY), DAY)
    return 100 + 30 * _day() * height + 3 * _lasting(random, 0.8), 5.0, 1


def traffic(random: np.random.Generator) -> Made:
    level = 200 * np.exp(0.6 * _day()) * (0.55 + 0.45 * _workday())
    return random.poisson(level * np.exp(0.05 * _lasting(random, 0.99))).astype(float), 20.0, 1


def bursts(random: np.random.Generator) -> Made:
    """A processor with a job each night, and busy minutes now and then."""
    values = 5 + 1.2 * _lasting(random, 0.7) + 20 * (np.arange(LENGTH) % DAY < 30)
    busy = random.random(LENGTH) < 1 / 600
    values[busy] += random.gamma(2, 3, busy.sum())
    return np.maximum(values, 0), 1.5, 1


def every_5_minutes(random: np.random.Generator) -> Made:
    values = 40 + 6 * _day() + 1.5 * random.normal(0, 1, LENGTH)
    return _every(values, 5), 2.0, 5


def every_half_hour(random: np.random.Generator) -> Made:
    level = 8_000 * _day() * (0.7 + 0.3 * _workday()) + 2_000 * _workday()
    return _every(15_000 + level + 600 * _lasting(random, 0.98), 30), 700.0, 30


def every_hour(random: np.random.Generator) -> Made:
    return _every(random.gamma(6, 0.02, LENGTH) * (1.2 + 0.4 * _day()), 60), 0.06, 60


KINDS: dict[str, Callable[[np.random.Generator], Made]] = {
    "noise": noise,
    "daily": daily,
    "weekly": weekly,
    "counts": counts,
    "rare events": rare_events,
    "skewed": skewed,
    "lingering": lingering,
    "wandering": wandering,
    "uneven days": uneven_days,
    "traffic": traffic,
    "bursts": bursts,
    "every 5 min": every_5_minutes,
    "every 30 min": every_half_hour,
    "every hour": every_hour,
}


def inject(
    random: np.random.Generator, values: Floats, kind: str, begin: int, made: tuple[float, int]
) -> int:
    """Writes the incident into the minutes from `begin`; returns its end. made: spread and interval
    of the series.
    """
    spread, interval = made
    end = begin + max(_MINUTES[kind], _LEAST_NUMBERS.get(kind, 6) * interval)
    part = slice(begin, end)
    if kind == "outage":
        values[part] *= 0.0
    elif kind == "slow leak":
        values[part] += np.linspace(0, 15 * spread, end - begin)
    elif kind == "wide noise":
        values[part] += random.normal(0, 4 * spread, end - begin)
    else:
        values[part] += (12 if kind == "spike" else 8) * spread
    return end


def _day() -> Floats:
    found: Floats = np.sin(np.arange(LENGTH) / DAY * 2 * np.pi)
    return found


def _workday() -> Floats:
    found: Floats = ((np.arange(LENGTH) // DAY) % 7 < 5).astype(float)
    return found


def _lasting(random: np.random.Generator, stays: float) -> Floats:
    """Noise of variance 1 of which each minute keeps a part of the minute before."""
    steps = random.normal(0, np.sqrt(1 - stays * stays), LENGTH)
    steps[0] = random.normal()
    found: Floats = lfilter([1.0], [1.0, -stays], steps)
    return found


def _every(values: Floats, minutes: int) -> Floats:
    return np.where(np.arange(LENGTH) % minutes == 0, values, np.nan)
