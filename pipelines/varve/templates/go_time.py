"""Go's time.Time and time.Duration: layouts, text, methods. Source: Go, package time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

from varve.templates.errors import FunctionError
from varve.templates.values import INT, STRING, Function, Int64, Members

NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO_NS: Final = -62_135_596_800 * NS
"""0001-01-01T00:00:00Z, the zero value of a time."""
_WEEKDAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_LAYOUT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|002|01|02|03|04|05|06|2006|__2|_2(?!006)|_2006"
    r"|15|PM|pm|-07:00:00|-070000|-07:00|-0700|-07|Z07:00:00|Z070000|Z07:00|Z0700|Z07"
    r"|[.,]0+(?![0-9])|[.,]9+(?![0-9])|1|2|3|4|5"
)
_STANDARD: Final = "2006-01-02 15:04:05.999999999 -0700 MST"


class Duration(int):
    """A time.Duration in ns."""

    go_type: ClassVar[str] = "time.Duration"
    template_methods: ClassVar[Mapping[str, Function]] = {}

    def __str__(self) -> str:
        ns, sign = abs(int(self)), "-" if self < 0 else ""
        if ns < NS:
            for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
                if ns >= size:
                    return f"{sign}{_decimal(ns, size)}{unit}"
            return "0s"
        minutes, rest = divmod(ns, 60 * NS)
        hours, minutes = divmod(minutes, 60)
        text = f"{_decimal(rest, NS)}s"
        if hours or minutes:
            text = f"{minutes}m{text}"
        return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if rest else str(whole)


class Month(int):
    go_type: ClassVar[str] = "time.Month"
    template_methods: ClassVar[Mapping[str, Function]] = {}

    def __str__(self) -> str:
        return _MONTHS[self - 1]


class Weekday(int):
    go_type: ClassVar[str] = "time.Weekday"
    template_methods: ClassVar[Mapping[str, Function]] = {}

    def __str__(self) -> str:
        return _WEEKDAYS[self]


@dataclass(frozen=True, slots=True, eq=False)
class Time(Members):
    """A moment and the zone that it is shown in. ns: since the epoch."""

    ns: int
    zone: tzinfo = UTC

    go_type: ClassVar[str] = "time.Time"

    @classmethod
    def of_ms(cls, ms: int | None) -> Time:
        """A time in UTC; None gives the zero time."""
        return cls(_ZERO_NS if ms is None else ms * 1_000_000)

    @property
    def moment(self) -> datetime:
        """The time in its zone, to the microsecond. FunctionError outside of years 1 to 9999."""
        try:
            return (_EPOCH + timedelta(microseconds=self.ns // 1000)).astimezone(self.zone)
        except (OverflowError, ValueError):
            raise FunctionError("the time is outside of years 1 to 9999") from None

    @property
    def is_zero(self) -> bool:
        return self.ns == _ZERO_NS

    def format(self, layout: str) -> str:
        """The time as Go's reference time is written in `layout`."""
        parts, at = [], 0
        for match in _LAYOUT.finditer(layout):
            parts += [layout[at : match.start()], _part(self, match[0])]
            at = match.end()
        return "".join([*parts, layout[at:]])

    def rfc3339(self) -> str:
        """With as many decimals of the second as there are."""
        return self.format("2006-01-02T15:04:05.999999999Z07:00")

    def __str__(self) -> str:
        return self.format(_STANDARD)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Time) and self.ns == other.ns

    def __hash__(self) -> int:
        return hash(self.ns)


def zone_of(name: str) -> tzinfo:
    """The time zone of that name. Raises FunctionError."""
    if name in ("", "UTC"):
        return UTC
    try:
        return ZoneInfo("Etc/UTC" if name == "Local" else name)
    except (ValueError, OSError, KeyError):
        raise FunctionError(f"unknown time zone {name}") from None


def _part(time: Time, code: str) -> str:
    moment = time.moment
    if code in _PARTS:
        return _PARTS[code](moment)
    if code in ("2006", "_2006"):
        return f"{'_' if code[0] == '_' else ''}{moment.year:04d}"
    if code[0] in ".,":
        digits = f"{time.ns % NS:09d}"[: len(code) - 1].ljust(len(code) - 1, "0")
        if code[1] == "9":
            digits = digits.rstrip("0")
        return code[0] + digits if digits else ""
    if code == "MST":
        return _abbreviation(moment)
    return _offset(moment, code)


_PARTS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "January": lambda t: _MONTHS[t.month - 1],
    "Jan": lambda t: _MONTHS[t.month - 1][:3],
    "1": lambda t: str(t.month),
    "01": lambda t: f"{t.month:02d}",
    "Monday": lambda t: _WEEKDAYS[t.isoweekday() % 7],
    "Mon": lambda t: _WEEKDAYS[t.isoweekday() % 7][:3],
    "2": lambda t: str(t.day),
    "_2": lambda t: f"{t.day:2d}",
    "02": lambda t: f"{t.day:02d}",
    "002": lambda t: f"{t.timetuple().tm_yday:03d}",
    "__2": lambda t: f"{t.timetuple().tm_yday:3d}",
    "15": lambda t: f"{t.hour:02d}",
    "3": lambda t: str(t.hour % 12 or 12),
    "03": lambda t: f"{t.hour % 12 or 12:02d}",
    "4": lambda t: str(t.minute),
    "04": lambda t: f"{t.minute:02d}",
    "5": lambda t: str(t.second),
    "05": lambda t: f"{t.second:02d}",
    "06": lambda t: f"{t.year % 100:02d}",
    "PM": lambda t: "PM" if t.hour >= 12 else "AM",
    "pm": lambda t: "pm" if t.hour >= 12 else "am",
}


def _offset_s(moment: datetime) -> int:
    return int((moment.utcoffset() or timedelta()).total_seconds())


def _abbreviation(moment: datetime) -> str:
    name = moment.tzname() or ""
    return name or _offset(moment, "-0700" if _offset_s(moment) % 3600 else "-07")


def _offset(moment: datetime, code: str) -> str:
    seconds = _offset_s(moment)
    if code[0] == "Z" and seconds == 0:
        return "Z"
    hours, rest = divmod(abs(seconds), 3600)
    colon = ":" if ":" in code else ""
    text = f"{'-' if seconds < 0 else '+'}{hours:02d}"
    if len(code.replace(":", "")) >= 5:
        text += f"{colon}{rest // 60:02d}"
    if len(code.replace(":", "")) >= 7:
        text += f"{colon}{rest % 60:02d}"
    return text


_READ: Final = {
    "January": "(?P<month_name>[A-Za-z]+)",
    "Jan": "(?P<month_name>[A-Za-z]{3})",
    "1": "(?P<month>[0-9]{1,2})",
    "01": "(?P<month>[0-9]{2})",
    "Monday": "(?P<weekday>[A-Za-z]+)",
    "Mon": "(?P<weekday>[A-Za-z]{3})",
    "2": "(?P<day>[0-9]{1,2})",
    "_2": " ?(?P<day>[0-9]{1,2})",
    "02": "(?P<day>[0-9]{2})",
    "15": "(?P<hour>[0-9]{2})",
    "3": "(?P<hour12>[0-9]{1,2})",
    "03": "(?P<hour12>[0-9]{2})",
    "4": "(?P<minute>[0-9]{1,2})",
    "04": "(?P<minute>[0-9]{2})",
    "5": "(?P<second>[0-9]{1,2})",
    "05": "(?P<second>[0-9]{2})",
    "06": "(?P<year2>[0-9]{2})",
    "2006": "(?P<year>[0-9]{4})",
    "PM": "(?P<half>AM|PM)",
    "pm": "(?P<half>am|pm)",
    "MST": "(?P<name>[A-Z]{3,5}|[+-][0-9]{2,4})",
}


def parse_time(layout: str, text: str) -> Time:
    """Reads a time that is written as Go's reference time is in `layout`; UTC if it names no zone.

    Raises FunctionError if the text is no such time.
    """
    match = _pattern(layout).fullmatch(text)
    if match is None:
        raise FunctionError(f'"{text}" is no time of the form "{layout}"')
    found = {name: value for name, value in match.groupdict().items() if value is not None}
    try:
        zone = _read_zone(found.get("offset", ""))
        year2 = int(found.get("year2", 0))
        year = int(
            found.get("year", year2 + (1900 if year2 >= 69 else 2000) if "year2" in found else 0)
        )
        moment = datetime(
            max(year, 1),
            _month(found),
            int(found.get("day", 1)),
            _hour(found),
            int(found.get("minute", 0)),
            int(found.get("second", 0)),
            tzinfo=zone,
        )
    except ValueError as error:
        raise FunctionError(f'"{text}" is no time: {error}') from None
    fraction = int(found.get("fraction", "0").ljust(9, "0")[:9])
    whole = (moment - _EPOCH) // timedelta(seconds=1)
    return Time(whole * NS + fraction, zone)


@lru_cache(maxsize=64)
def _pattern(layout: str) -> re.Pattern[str]:
    parts: list[str] = []
    seen: set[str] = set()
    at = 0
    for match in _LAYOUT.finditer(layout):
        code = match[0]
        parts.append(re.escape(layout[at : match.start()]))
        if code[0] in ".,":
            part = r"(?:[.,](?P<fraction>[0-9]+))?"
        elif code[0] in "-Z":
            part = r"(?P<offset>Z|[+-][0-9]{2}(?::?[0-9]{2}){0,2})"
        else:
            part = _READ.get(code, "[0-9]+")
        if code in ("5", "05") and layout[match.end() : match.end() + 1] not in (".", ","):
            part += r"(?:\.(?P<fraction>[0-9]+))?"
        names = re.findall(r"\?P<(\w+)>", part)
        if seen.intersection(names):
            part = re.sub(r"\?P<\w+>", "?:", part)
        seen.update(names)
        parts.append(part)
        at = match.end()
    return re.compile("".join([*parts, re.escape(layout[at:])]))


def _month(found: Mapping[str, str]) -> int:
    if "month_name" not in found:
        return int(found.get("month", 1))
    for number, name in enumerate(_MONTHS, 1):
        if found["month_name"].lower() in (name.lower(), name[:3].lower()):
            return number
    raise ValueError(f"no month {found['month_name']}")


def _hour(found: Mapping[str, str]) -> int:
    hour = int(found.get("hour", 0))
    if "hour12" in found:
        hour = int(found["hour12"]) % 12 if "half" in found else int(found["hour12"])
    if found.get("half", "").lower() == "pm":
        return hour % 12 + 12
    return hour


def _read_zone(offset: str) -> tzinfo:
    digits = offset.replace(":", "")
    if not digits or digits == "Z":
        return UTC
    parts = [int(digits[i : i + 2]) for i in range(1, len(digits), 2)]
    delta = timedelta(hours=parts[0], minutes=parts[1] if len(parts) > 1 else 0)
    return timezone(-delta if digits[0] == "-" else delta)


def _rounded(time: Duration, unit: Duration) -> Duration:
    if unit <= 0:
        return time
    sign, size = (-1 if time < 0 else 1), abs(int(time))
    return Duration(sign * ((size + int(unit) // 2) // int(unit) * int(unit)))


def _truncated(time: Duration, unit: Duration) -> Duration:
    if unit <= 0:
        return time
    sign, size = (-1 if time < 0 else 1), abs(int(time))
    return Duration(sign * (size - size % int(unit)))


def _in_float(unit: int) -> Function:
    return Function((), lambda d: int(d) / unit)


def _in_whole(unit: int) -> Function:
    return Function((), lambda d: Int64(abs(int(d)) // unit * (-1 if d < 0 else 1)))


_DURATION: Final = "time.Duration"
_TIME: Final = "time.Time"
_TEXT: Final = Function((), str)


def _at_unit(time: Time, unit: Duration, more: int) -> Time:
    """Cut to a multiple of `unit` since the zero time."""
    if unit <= 0:
        return time
    since = time.ns - _ZERO_NS + more
    return Time(_ZERO_NS + since - since % int(unit), time.zone)


def _add_date(time: Time, years: int, months: int, days: int) -> Time:
    moment = time.moment
    month = moment.month - 1 + months
    try:
        first = moment.replace(year=moment.year + years + month // 12, month=month % 12 + 1, day=1)
        moved = first.replace(tzinfo=None) + timedelta(days=moment.day - 1 + days)
    except (ValueError, OverflowError):
        raise FunctionError("the time is outside of years 1 to 9999") from None
    seconds = (moved.replace(tzinfo=time.zone) - _EPOCH) // timedelta(microseconds=1)
    return Time(seconds * 1000 + time.ns % 1000, time.zone)


Duration.template_methods = {
    "String": _TEXT,
    "Hours": _in_float(3600 * NS),
    "Minutes": _in_float(60 * NS),
    "Seconds": _in_float(NS),
    "Milliseconds": _in_whole(1_000_000),
    "Microseconds": _in_whole(1_000),
    "Nanoseconds": _in_whole(1),
    "Abs": Function((), lambda d: Duration(abs(int(d)))),
    "Round": Function((_DURATION,), _rounded),
    "Truncate": Function((_DURATION,), _truncated),
}
Month.template_methods = {"String": _TEXT}
Weekday.template_methods = {"String": _TEXT}
Time.template_methods = {
    "String": _TEXT,
    "Format": Function((STRING,), Time.format),
    "Unix": Function((), lambda t: Int64(t.ns // NS)),
    "UnixMilli": Function((), lambda t: Int64(t.ns // 1_000_000)),
    "UnixMicro": Function((), lambda t: Int64(t.ns // 1_000)),
    "UnixNano": Function((), lambda t: Int64(t.ns)),
    "UTC": Function((), lambda t: Time(t.ns)),
    "Local": Function((), lambda t: Time(t.ns)),
    "IsZero": Function((), lambda t: t.is_zero),
    "Year": Function((), lambda t: t.moment.year),
    "Month": Function((), lambda t: Month(t.moment.month)),
    "Day": Function((), lambda t: t.moment.day),
    "Hour": Function((), lambda t: t.moment.hour),
    "Minute": Function((), lambda t: t.moment.minute),
    "Second": Function((), lambda t: t.moment.second),
    "Nanosecond": Function((), lambda t: t.ns % NS),
    "YearDay": Function((), lambda t: t.moment.timetuple().tm_yday),
    "Weekday": Function((), lambda t: Weekday(t.moment.isoweekday() % 7)),
    "Add": Function((_DURATION,), lambda t, d: Time(t.ns + int(d), t.zone)),
    "Sub": Function((_TIME,), lambda t, o: Duration(t.ns - o.ns)),
    "Before": Function((_TIME,), lambda t, o: t.ns < o.ns),
    "After": Function((_TIME,), lambda t, o: t.ns > o.ns),
    "Equal": Function((_TIME,), lambda t, o: t.ns == o.ns),
    "Compare": Function((_TIME,), lambda t, o: (t.ns > o.ns) - (t.ns < o.ns)),
    "Truncate": Function((_DURATION,), lambda t, d: _at_unit(t, d, 0)),
    "Round": Function((_DURATION,), lambda t, d: _at_unit(t, d, int(d) // 2)),
    "AddDate": Function((INT, INT, INT), _add_date),
}
