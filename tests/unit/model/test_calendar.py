"""Holidays are taken for another day of the week, in their time zone."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.calendar import DAYS, NO_HOLIDAYS, WEEK, Calendar
from varve.model.errors import NeedsOperator

HOUR = 3_600_000


def ms(text):
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)


def hours_of(calendar, *texts):
    return calendar.hour_of_week(np.array([ms(text) for text in texts])).tolist()


def test_a_holiday_of_a_country_has_the_hours_of_a_sunday_in_its_zone():
    berlin = Calendar("DE", zone="Europe/Berlin")
    # The Day of German Unity of 2024 was a Thursday; Sunday 00:00 in Berlin is Saturday 22:00 UTC.
    found = hours_of(
        berlin,
        "2024-10-02T22:00:00Z",
        "2024-10-02T23:00:00Z",
        "2024-10-03T22:00:00Z",
        "2024-10-03T23:00:00Z",
    )
    assert found == [2 * 24 + 21, 5 * 24 + 22, 6 * 24 + 21, 3 * 24 + 22]


def test_a_part_of_a_country_has_more_of_them_and_dates_may_be_added():
    whole, bavaria = Calendar("DE"), Calendar("DE", "BY")
    noon = "2024-11-01T12:00:00Z"  # All Saints', a Friday
    assert hours_of(whole, noon) == [4 * 24 + 11]
    assert hours_of(bavaria, noon) == [6 * 24 + 11]
    own = Calendar(dates=(dt.date(2024, 11, 1),), like="saturday")
    assert hours_of(own, noon) == [5 * 24 + 11]


def test_a_country_that_is_not_known_is_said_with_what_to_write():
    with pytest.raises(NeedsOperator, match=r"holidays\.country = 'Atlantis'.*ISO 3166"):
        Calendar("Atlantis").check()


@given(
    st.lists(st.dates(dt.date(2020, 1, 1), dt.date(2030, 12, 31)), max_size=5),
    st.sampled_from(DAYS),
    st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]),
    st.integers(ms("2020-01-01T00:00:00Z"), ms("2030-12-31T00:00:00Z")),
)
def test_only_the_day_of_the_week_moves_and_only_on_holidays(dates, like, zone, end_ms):
    calendar = Calendar(dates=tuple(dates), zone=zone, like=like)
    plain = NO_HOLIDAYS.hour_of_week(np.array([end_ms]))
    found = calendar.hour_of_week(np.array([end_ms]))

    assert 0 <= found[0] < WEEK
    assert found[0] % 24 == plain[0] % 24
    instant = dt.datetime.fromtimestamp((end_ms - 1) / 1000, dt.UTC)
    local = instant.astimezone(ZoneInfo(zone))
    if local.date() not in dates:
        assert found[0] == plain[0]
    else:
        days = (DAYS.index(like) - local.weekday()) % 7
        assert (found[0] - plain[0]) % WEEK == 24 * days
