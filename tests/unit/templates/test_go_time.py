from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.templates.errors import FunctionError
from varve.templates.go_time import Duration, Time, parse_time, zone_of

TIMES_NS = st.integers(0, 4_000_000_000 * 10**9)


@given(TIMES_NS, st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"]))
def test_a_time_is_read_back_from_its_text(ns, zone):
    layout = "Mon, 02 Jan 2006 15:04:05.000000000 -0700"
    time = Time(ns, zone_of(zone))

    assert parse_time(layout, time.format(layout)).ns == ns


@given(TIMES_NS)
def test_a_time_is_written_as_the_calendar_says(ns):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)

    assert Time(ns).format("2006-01-02T15:04:05Z07:00") == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert Time(ns).format("Monday 2 January 06 3PM 002") == moment.strftime(
        f"%A {moment.day} %B %y {moment.hour % 12 or 12}%p %j"
    )


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (90_500_000_000, "1m30.5s"),
        (-3_600_000_000_000, "-1h0m0s"),
        (100 * 3_600_000_000_000 + 1, "100h0m0.000000001s"),
    ],
)
def test_a_duration_is_written_with_its_largest_units(ns, text):
    assert str(Duration(ns)) == text


@pytest.mark.parametrize(
    ("layout", "text"), [("2006-01-02", "2026-13-01"), ("15:04", "25:00"), ("2006", "x")]
)
def test_what_is_no_time_is_refused(layout, text):
    with pytest.raises(FunctionError):
        parse_time(layout, text)


def test_a_zone_is_known_by_its_name():
    with pytest.raises(FunctionError, match="unknown time zone Nowhere"):
        zone_of("Nowhere")
