"""Who is on call when: turns by the local clock, exceptions, calendars out and in."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from varve.notify.oncall.ical import overrides_of, to_calendar
from varve.notify.oncall.schedules import Override, Rotation, Schedule, Shift, to_ms

BERLIN = ZoneInfo("Europe/Berlin")
DAY_MS = 86_400_000


def ms(text: str, zone: ZoneInfo = BERLIN) -> int:
    return to_ms(datetime.fromisoformat(text), zone)


def weekly(*members: str, starts: str = "2026-10-05T09:00", days: int = 7) -> Rotation:
    return Rotation(members, datetime.fromisoformat(starts), timedelta(days=days))


def test_members_take_turns_by_the_clock_on_the_wall_across_its_changes():
    schedule = Schedule("s", BERLIN, (weekly("anna", "ben"),))

    # Summer time ends on 25 October: the turn still begins at nine.
    assert schedule.on_call(ms("2026-10-26T08:59")) == ("anna",)
    assert schedule.on_call(ms("2026-10-26T09:00")) == ("ben",)
    assert schedule.on_call(ms("2026-10-05T08:59")) == ()
    turns = list(schedule.shifts(ms("2026-10-19T09:00"), ms("2026-11-02T09:00")))
    assert [(t.member, (t.end_ms - t.start_ms) / DAY_MS) for t in turns] == [
        ("anna", 7 + 1 / 24),
        ("ben", 7),
    ]


def test_an_override_takes_the_place_of_all_rotations():
    over = Override("carl", ms("2026-10-06T00:00"), ms("2026-10-07T00:00"))
    schedule = Schedule("s", BERLIN, (weekly("anna"), weekly("ben")), (over,))

    assert schedule.on_call(ms("2026-10-05T12:00")) == ("anna", "ben")
    assert schedule.on_call(ms("2026-10-06T12:00")) == ("carl",)
    assert schedule.on_call(over.end_ms) == ("anna", "ben")


TIMES = st.integers(ms("2026-01-01T00:00"), ms("2027-01-01T00:00"))
ROTATIONS = st.builds(
    Rotation,
    st.lists(st.sampled_from(["anna", "ben", "carl"]), min_size=1, max_size=4).map(tuple),
    TIMES.map(lambda at: datetime.fromtimestamp(at / 1000, UTC).replace(tzinfo=None)),
    st.integers(60, 60 * 24 * 20).map(lambda minutes: timedelta(minutes=minutes)),
)
OVERRIDES = st.builds(
    lambda member, at, hours: Override(member, at, at + hours * 3_600_000),
    st.sampled_from(["dora", "anna"]),
    TIMES,
    st.integers(1, 500),
)
SCHEDULES = st.builds(
    Schedule,
    st.just("s"),
    st.sampled_from([BERLIN, ZoneInfo("UTC"), ZoneInfo("Australia/Lord_Howe")]),
    st.lists(ROTATIONS, max_size=2).map(tuple),
    st.lists(OVERRIDES, max_size=3).map(tuple),
)


@given(SCHEDULES, TIMES, st.integers(1, 40), st.data())
def test_shifts_say_what_is_said_of_each_moment(schedule, start_ms, days, data):
    end_ms = start_ms + days * DAY_MS
    shifts = list(schedule.shifts(start_ms, end_ms))

    # Where the clock goes back, an hour of local time comes twice: not looked at here.
    at_ms = data.draw(st.integers(start_ms, end_ms - 1))
    local = datetime.fromtimestamp(at_ms / 1000, schedule.zone)
    if any((local + timedelta(hours=h)).utcoffset() != local.utcoffset() for h in (-3, 3)):
        return
    there = {shift.member for shift in shifts if shift.start_ms <= at_ms < shift.end_ms}
    assert there == set(schedule.on_call(at_ms))


@given(SCHEDULES, TIMES, st.integers(1, 20))
def test_a_calendar_of_shifts_says_who_is_on_call_again(schedule, start_ms, days):
    start_ms = start_ms // 1000 * 1000
    turns = list(schedule.shifts(start_ms, start_ms + days * DAY_MS))

    body = to_calendar("s", turns)
    shifts = [turn for turn in turns if turn.start_ms // 1000 < turn.end_ms // 1000]
    back = overrides_of(body, ZoneInfo("UTC"))

    assert body == to_calendar("s", turns)
    assert [str(e["summary"]) for e in Calendar.from_ical(body).walk("VEVENT")] == [
        shift.member for shift in shifts
    ]
    assert sorted((o.member, o.start_ms // 1000, o.end_ms // 1000) for o in back) == sorted(
        (s.member, s.start_ms // 1000, s.end_ms // 1000) for s in shifts
    )


def test_a_shift_within_a_second_is_no_event():
    short = Shift("anna", 1_800_000_000_001, 1_800_000_000_999)
    long = Shift("ben", 1_800_000_000_999, 1_800_000_001_000)

    body = to_calendar("s", [short, long])

    assert overrides_of(body, ZoneInfo("UTC")) == (
        Override("ben", 1_800_000_000_000, 1_800_000_001_000),
    )


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("DTSTART:20260101T000000Z\nDTEND:20260102T000000Z", "no SUMMARY"),
        (
            "SUMMARY:a\nDTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nDTEND:20260102T000000Z",
            "repeats",
        ),
        ("SUMMARY:a\nDTSTART:20260102T000000Z\nDTEND:20260101T000000Z", "ends before"),
        ("SUMMARY:a\nDTSTART:20260102T000000Z", "no DTEND"),
    ],
)
def test_an_event_that_cannot_be_used_is_named(lines, wrong):
    body = f"BEGIN:VCALENDAR\nBEGIN:VEVENT\n{lines}\nEND:VEVENT\nEND:VCALENDAR\n"

    with pytest.raises(ValueError, match=wrong):
        overrides_of(body.replace("\n", "\r\n").encode(), BERLIN)


def test_an_event_of_whole_days_is_of_the_schedules_zone():
    body = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:anna\r\nDTSTART;VALUE=DATE:20261224\r\n"
    body += b"DTEND;VALUE=DATE:20261227\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"

    (one,) = overrides_of(body, BERLIN)

    assert one == Override("anna", ms("2026-12-24T00:00"), ms("2026-12-27T00:00"))
