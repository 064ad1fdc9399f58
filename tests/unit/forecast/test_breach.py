"""When a disk with a weekly season is full, as forecast from its past, against when it is."""

import numpy as np
import pytest

from varve.forecast.breach import find_breach
from varve.forecast.hourly import HORIZON, WEEK, Hourly
from varve.forecast.series_forecast import forecast_series

HOUR = 3_600_000
END = 1_795_392_000_000
HISTORY = 4 * WEEK


def steps(at, workday):
    """Fills evenly, and is fuller on workdays."""
    return 30 + 0.06 * at + 4 * workday


def spurts(_at, workday):
    """Fills four times as fast on workdays."""
    return 30 + np.cumsum(0.02 + 0.06 * workday)


@pytest.mark.parametrize("shape", [steps, spurts])
@pytest.mark.parametrize("first_day", [0, 3], ids=["workdays ahead", "a weekend ahead"])
def test_a_disk_with_a_weekly_season_is_full_within_a_tenth_of_when_it_is_forecast_to_be(
    shape, first_day
):
    at = np.arange(HISTORY + HORIZON)
    workday = ((at // 24 + first_day) % 7 < 5).astype(float)
    truth = shape(at, workday) + (0.5 + workday) * np.sin(at / 24 * 2 * np.pi)
    ahead = truth[HISTORY:]
    # Between two of its daily peaks, three days ahead or as soon after as it is higher than before.
    peaks = np.maximum.accumulate(ahead)
    level = float((peaks[60] + peaks[int(np.argmax(peaks > peaks[60] + 0.5)) + 12]) / 2)
    full_at = int(np.argmax(ahead >= level)) + 1
    assert full_at >= 60
    noise = np.random.default_rng(first_day).normal(0, 0.3, HISTORY)

    found = forecast_series(1, Hourly(END, truth[:HISTORY] + noise))
    breach = find_breach(
        END + HOUR * np.arange(1, HORIZON + 1),
        *(found.value, found.lower, found.upper),
        threshold=level,
        reached="above",
    )

    assert breach.reaches_at is not None
    assert (breach.reaches_at - END) / HOUR == pytest.approx(full_at, rel=0.1)
    assert breach.earliest_at <= breach.reaches_at
    assert breach.probability > 0.5
