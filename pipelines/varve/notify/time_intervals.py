"""Time intervals: ranges of the time of day, weekdays, days of the month, months and years.

A moment is looked at as the clock on the wall of a place shows it, so that an interval in an hour
that clocks skip does not happen, and one in an hour they repeat happens twice.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Range = tuple[int, int]
"""From and to, both included."""

_DAY_MINUTES = 24 * 60
_TIME = re.compile(r"(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
_WEEKDAYS = {
    name: number
    for number, name in enumerate(
        ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
    )
}
_MONTHS = {calendar.month_name[number].lower(): number for number in range(1, 13)}
_NUMBER = re.compile(r"-?\d+")
_FIELDS = ("times", "weekdays", "days_of_month", "months", "years", "location")


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """All of its conditions hold; one without ranges always does.

    times: minutes of the day, the end excluded. weekdays: 0 is Sunday. days_of_month: negative
    ones count from the end of the month. location: None is UTC.
    """

    times: tuple[Range, ...] = ()
    weekdays: tuple[Range, ...] = ()
    days_of_month: tuple[Range, ...] = ()
    months: tuple[Range, ...] = ()
    years: tuple[Range, ...] = ()
    location: tzinfo | None = None
    local: bool = False
    """The time zone is this machine's."""

    def contains(self, at_ms: int) -> bool:
        """Whether a time, in ms since the Unix epoch, is within the interval."""
        moment = datetime.fromtimestamp(at_ms / 1000, self.location or UTC)
        if self.local:
            moment = moment.astimezone()
        minute = moment.hour * 60 + moment.minute
        return (
            (not self.times or any(first <= minute < end for first, end in self.times))
            and _within(moment.isoweekday() % 7, self.weekdays)
            and self._has_day(moment)
            and _within(moment.month, self.months)
            and _within(moment.year, self.years)
        )

    def _has_day(self, moment: datetime) -> bool:
        if not self.days_of_month:
            return True
        days = calendar.monthrange(moment.year, moment.month)[1]
        for first, last in self.days_of_month:
            begin = first if first > 0 else days + first + 1
            end = last if last > 0 else days + last + 1
            # A range that ends before this month begins, or begins after it ends, lacks it.
            if begin <= moment.day <= end:
                return True
        return False


def parse_time_interval(value: Any) -> TimeInterval:
    """Reads an interval as the file has it. Raises ValueError."""
    if isinstance(value, TimeInterval):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a time interval is a mapping")  # noqa: TRY004 - pydantic's
    for name in value:
        if name not in _FIELDS:
            raise ValueError(f"a time interval has no field {name!r}")
    location = str(value.get("location") or "")
    return TimeInterval(
        times=_ranges(value, "times", _times),
        weekdays=_ranges(value, "weekdays", _weekdays),
        days_of_month=_ranges(value, "days_of_month", _days),
        months=_ranges(value, "months", _months),
        years=_ranges(value, "years", _years),
        location=_zone(location) if location != "Local" else None,
        local=location == "Local",
    )


def _within(number: int, ranges: tuple[Range, ...]) -> bool:
    return not ranges or any(first <= number <= last for first, last in ranges)


def _ranges(value: Mapping[str, Any], name: str, read: Callable[[Any], Range]) -> tuple[Range, ...]:
    items = value.get(name)
    if items is None:
        return ()
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise ValueError(f"{name} should be a list")  # noqa: TRY004 - pydantic's
    return tuple(read(item) for item in items)


def _zone(name: str) -> tzinfo | None:
    if name in {"", "UTC"}:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name!r}; names are like Europe/Berlin") from None


def _times(value: Any) -> Range:
    if not isinstance(value, Mapping) or set(value) - {"start_time", "end_time"}:
        raise ValueError("an item of times has start_time and end_time")
    start, end = (value.get(key) for key in ("start_time", "end_time"))
    if not start or not end:
        raise ValueError("both start and end times must be provided")
    first, last = _minute(str(start)), _minute(str(end))
    if first >= last:
        raise ValueError(
            f"start time {start} is not before end time {end}; a night takes two ranges"
        )
    return first, last


def _minute(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time of day such as 09:30, at most 24:00")
    return _DAY_MINUTES if match[1] is None else int(match[1]) * 60 + int(match[2])


def _ends(value: Any, number: Callable[[str], int]) -> Range:
    first, colon, last = str(value).strip().lower().partition(":")
    begin = number(first.strip())
    return begin, number(last.strip()) if colon else begin


def _forward(value: Any, ends: Range, what: str) -> Range:
    if ends[0] > ends[1]:
        raise ValueError(f"{what} {str(value)!r} goes backwards")
    return ends


def _weekdays(value: Any) -> Range:
    def number(text: str) -> int:
        if text not in _WEEKDAYS:
            raise ValueError(f"{text!r} is no weekday; write one like monday")
        return _WEEKDAYS[text]

    return _forward(value, _ends(value, number), "the range of weekdays")


def _days(value: Any) -> Range:
    def number(text: str) -> int:
        day = _whole(text, "day of the month")
        if not 1 <= abs(day) <= 31:
            raise ValueError(f"{day} is no day of a month: 1 to 31, or -1 to -31 from its end")
        return day

    first, last = _ends(value, number)
    if first < 0 < last:
        raise ValueError(f"the days {str(value)!r} begin at the end of a month, and end before")
    if (first > 0) == (last > 0):
        _forward(value, (first, last), "the range of days")
    return first, last


def _months(value: Any) -> Range:
    def number(text: str) -> int:
        month = _MONTHS.get(text) or _whole(text, "month")
        if not 1 <= month <= 12:
            raise ValueError(f"{month} is no month")
        return month

    return _forward(value, _ends(value, number), "the range of months")


def _years(value: Any) -> Range:
    return _forward(value, _ends(value, lambda text: _whole(text, "year")), "the range of years")


def _whole(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no {what}")
    return int(text)
