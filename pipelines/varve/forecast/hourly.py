"""The history of one series that models are fitted to: a number an hour, on a grid. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from varve.anomaly.minute_values import Floats, Ints, MinuteValues
from varve.model.calendar import Calendar
from varve.model.window import HOUR_MS

DAY, WEEK = 24, 168

HORIZON = WEEK
"""Hours that are forecast."""

HISTORY = 8 * WEEK
"""Hours of history that are read: trends of operations change, older ones mislead."""

LEAST_HOURS = 2 * DAY
"""Hours with a number from which on a series is forecast."""


@dataclass(frozen=True, slots=True)
class Hourly:
    """Numbers of consecutive hours; NaN where there is none. The first and the last are there."""

    end_ms: int
    """End of the last hour."""
    values: Floats

    @property
    def ends(self) -> Ints:
        """End of each hour."""
        return self.end_ms - HOUR_MS * np.arange(len(self.values) - 1, -1, -1)

    @property
    def ahead(self) -> Ints:
        """End of each hour of the horizon."""
        return self.end_ms + HOUR_MS * np.arange(1, HORIZON + 1)

    def until(self, count: int) -> Hourly:
        """The first `count` hours."""
        cut = len(self.values) - count
        return Hourly(self.end_ms - cut * HOUR_MS, self.values[:count])


def ordinary_days(history: Hourly, calendar: Calendar) -> Hourly:
    """The history as if its holidays had been none: their hours are those of the week before, or of
    the week before that. Hours without either stay as they are.
    """
    shift = calendar.shift_hours(history.ends)
    if shift is None:
        return history
    values, moved = history.values.copy(), shift != 0
    for at in np.flatnonzero(moved).tolist():  # ascending, so the week before is put right already
        if at >= WEEK:
            values[at] = values[at - WEEK]
    values[-1] = history.values[-1] if np.isnan(values[-1]) else values[-1]
    return Hourly(history.end_ms, values)


def seasonal_places(history: Hourly, calendar: Calendar) -> Ints | None:
    """For each hour of the horizon, the hour of it whose season of the week it has: its own, but on
    holidays that of the day they are taken for. None where there is no holiday.
    """
    shift = calendar.shift_hours(history.ahead)
    return None if shift is None else (np.arange(HORIZON) + shift) % WEEK


def hourly_of(numbers: MinuteValues) -> dict[int, Hourly]:
    """By series: `numbers` are of hours here, sorted by (series_id, window_end)."""
    found = {}
    ids, starts = np.unique(numbers.series_ids, return_index=True)
    bounds = [*starts.tolist(), len(numbers.series_ids)]
    for series_id, low, high in zip(ids.tolist(), bounds, bounds[1:], strict=False):
        ends, values = numbers.ends[low:high], numbers.values[low:high]
        hours = (ends - ends[0]) // HOUR_MS
        grid = np.full(int(hours[-1]) + 1, np.nan)
        grid[hours] = values
        found[series_id] = Hourly(int(ends[-1]), grid)
    return found
