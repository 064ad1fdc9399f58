"""Time intervals against the calendar, minute by minute."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.notify.time_intervals import TimeInterval, parse_time_interval

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
moments = st.integers(0, 4_102_444_799).map(lambda s: s * 1000)


@given(
    moments,
    st.sampled_from(ZONES),
    st.integers(0, 23),
    st.integers(0, 23),
    st.integers(1, 31),
    st.integers(-31, -1),
)
def test_an_interval_is_what_the_clock_on_the_wall_shows(at_ms, zone, first, last, day, end_day):
    spec = {
        "location": zone,
        "times": [{"start_time": f"{first:02}:00", "end_time": f"{last:02}:59"}],
        "days_of_month": [f"{day}:{end_day}"],
    }
    if first > last:
        first, last = last, first
        spec["times"] = [{"start_time": f"{first:02}:00", "end_time": f"{last:02}:59"}]
    interval = parse_time_interval(spec)

    local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
    days = calendar.monthrange(local.year, local.month)[1]
    minute = local.hour * 60 + local.minute
    wanted = first * 60 <= minute < last * 60 + 59 and day <= local.day <= days + end_day + 1
    assert interval.contains(at_ms) is wanted


@given(moments)
def test_an_interval_without_conditions_is_always(at_ms):
    assert TimeInterval().contains(at_ms)


@given(moments)
def test_each_weekday_and_month_by_its_name(at_ms):
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    names = {
        "weekdays": [moment.strftime("%A")],
        "months": [moment.strftime("%B").lower()],
        "years": [str(moment.year)],
    }

    assert parse_time_interval(names).contains(at_ms)
    assert not parse_time_interval({"years": [str(moment.year + 1)]}).contains(at_ms)


@pytest.mark.parametrize(
    "spec",
    [
        {"times": [{"start_time": "10:00", "end_time": "10:00"}]},
        {"times": [{"start_time": "24:00", "end_time": "24:00"}]},
        {"times": "09:00"},
        {"weekdays": ["mon"]},
        {"days_of_month": ["5:1"]},
        {"days_of_month": ["-1:-5"]},
        {"days_of_month": ["x"]},
        {"months": ["13"]},
        {"months": ["0"]},
        {"years": ["2026:2025"]},
        {"location": "../../etc/passwd"},
        {"hours": []},
        [],
    ],
)
def test_what_is_no_interval_is_refused(spec):
    with pytest.raises(ValueError, match="."):
        parse_time_interval(spec)
