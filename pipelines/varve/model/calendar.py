"""Which hour of the week counts for a time: on a holiday, that of another day.

What baselines and forecasts know of a week is by the hour of the week in UTC. A holiday is judged
and forecast like a day of the week that is as quiet, Sunday if nothing else is said: its hours
move by whole days, in the time zone where it is one. Pure.
"""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from varve.model.errors import NeedsOperator
from varve.model.window import DAY_MS, HOUR_MS

Ints = npt.NDArray[np.int64]

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

WEEK = 168
"""Hours of a week."""

_YEAR_MS = 366 * DAY_MS
_MONDAY = 72
"""The hours from Monday 00:00 to Thursday 00:00, as the Unix epoch was."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Holidays of a country (ISO 3166, with `subdivision` those of a part of it), and other dates.

    zone: IANA name of the time zone whose midnights they begin and end at. like: the day of the
    week, one of DAYS, that they are taken for. Without country and dates there are no holidays.
    """

    country: str = ""
    subdivision: str = ""
    dates: tuple[dt.date, ...] = ()
    zone: str = "UTC"
    like: str = "sunday"

    def hour_of_week(self, ends: Ints) -> Ints:
        """0 to 167, Monday 00:00 UTC first, of what ends at some times (Unix ms); of a holiday the
        hour of the day of the week that it is taken for.
        """
        hours = (-(-ends // HOUR_MS) - 1 + _MONDAY) % WEEK
        shift = self.shift_hours(ends)
        return hours if shift is None else (hours + shift) % WEEK

    def shift_hours(self, ends: Ints) -> Ints | None:
        """By how many hours of the week what ends at some times (Unix ms) is moved: 0 where there
        is no holiday, else a multiple of 24. None where there is none at all.
        """
        if not (self.country or self.dates) or not len(ends):
            return None
        starts, until, shifts = self._spans(int(ends.min()), int(ends.max()))
        if not len(starts):
            return None
        at = np.searchsorted(starts, ends, "left") - 1  # a span is (start, end]
        inside = (at >= 0) & (ends <= until[at])
        return np.where(inside, shifts[at], 0) if inside.any() else None

    def check(self) -> None:
        """Raises NeedsOperator, with what to write instead, for a country that is not known."""
        self._spans(0, 0)

    def _spans(self, first_ms: int, last_ms: int) -> tuple[Ints, Ints, Ints]:
        """Start, end (Unix ms) and shift of the holidays of the years around two times."""
        first = dt.datetime.fromtimestamp(first_ms / 1000, dt.UTC).year - 1
        last = dt.datetime.fromtimestamp(last_ms / 1000, dt.UTC).year + 1
        parts = [_year_spans(self, year) for year in range(first, last + 1)]
        starts, ends, shifts = (np.concatenate(column) for column in zip(*parts, strict=True))
        return starts, ends, shifts


NO_HOLIDAYS = Calendar()


@functools.lru_cache(maxsize=64)
def _year_spans(calendar: Calendar, year: int) -> tuple[Ints, Ints, Ints]:
    """Those of one year, ascending."""
    days = {day for day in calendar.dates if day.year == year}
    if calendar.country:
        days |= _country_days(calendar.country, calendar.subdivision, year)
    zone = ZoneInfo(calendar.zone)
    ordered = sorted(days)
    starts = [_midnight_ms(day, zone) for day in ordered]
    ends = [_midnight_ms(day + dt.timedelta(days=1), zone) for day in ordered]
    like = DAYS.index(calendar.like)
    shifts = [24 * ((like - day.weekday()) % 7) for day in ordered]
    return np.array(starts, np.int64), np.array(ends, np.int64), np.array(shifts, np.int64)


def _midnight_ms(day: dt.date, zone: ZoneInfo) -> int:
    return round(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)


def _country_days(country: str, subdivision: str, year: int) -> set[dt.date]:
    import holidays  # noqa: PLC0415 - takes a moment, and few ask for it

    try:
        return {*holidays.country_holidays(country, subdiv=subdivision or None, years=year)}
    except NotImplementedError as err:
        raise NeedsOperator(
            f"holidays.country = {country!r}, holidays.subdivision = {subdivision!r}: {err}"
            " (write ISO 3166 codes such as DE and BY, or list the days in holidays.dates)"
        ) from err
