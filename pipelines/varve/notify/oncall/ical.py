"""Shifts as a calendar, and exceptions from one: iCalendar, RFC 5545."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event

from varve.notify.oncall.schedules import Override, Shift, to_ms


def to_calendar(name: str, shifts: Iterable[Shift]) -> bytes:
    """A calendar with an event for each shift. Equal shifts give equal bytes. Times are of whole
    seconds: what lies within one is no event, as an event ends after it begins.
    """
    calendar = Calendar()
    calendar.add("prodid", "-//Varve//on call//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", name)
    for shift in shifts:
        if shift.start_ms // 1000 == shift.end_ms // 1000:
            continue
        event = Event()
        event.add("uid", f"{name}-{shift.member}-{shift.start_ms}@varve")
        event.add("dtstamp", _utc(shift.start_ms))
        event.add("dtstart", _utc(shift.start_ms))
        event.add("dtend", _utc(shift.end_ms))
        event.add("summary", shift.member)
        calendar.add_component(event)
    return bytes(calendar.to_ical())


def overrides_of(body: bytes, zone: ZoneInfo) -> tuple[Override, ...]:
    """The events of a calendar as overrides: the summary is the member. Times without a zone are
    those of `zone`. Raises ValueError for what is no calendar, and for events that repeat.
    """
    calendar = Calendar.from_ical(body)
    found = []
    for event in calendar.walk("VEVENT"):
        member = str(event.get("summary", "")).strip()
        if not member:
            raise ValueError("an event has no SUMMARY, which is to name who is on call")
        if "rrule" in event or "rdate" in event:
            raise ValueError(
                f"the event of {member} repeats: write each time as an event of its own"
            )
        if "dtstart" not in event:
            raise ValueError(f"the event of {member} has no DTSTART")
        start = _ms(event.decoded("dtstart"), zone)
        if "dtend" in event:
            end = _ms(event.decoded("dtend"), zone)
        elif "duration" in event:
            end = start + round(event.decoded("duration").total_seconds() * 1000)
        else:
            raise ValueError(f"the event of {member} has no DTEND and no DURATION")
        if end <= start:
            raise ValueError(f"the event of {member} ends before it begins")
        found.append(Override(member, start, end))
    return tuple(sorted(found, key=lambda one: (one.start_ms, one.member)))


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _ms(value: date | datetime, zone: ZoneInfo) -> int:
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if value.tzinfo is None:
        return to_ms(value, zone)
    return round(value.timestamp() * 1000)
