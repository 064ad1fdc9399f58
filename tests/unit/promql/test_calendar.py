"""The calendar functions against the standard library, and where that has no dates."""

import calendar
import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.promql.asking import engine_of, labels, vector
from varve.promql.histograms.native_histogram import FloatHistogram

PARTS = {
    "year": lambda at: at.year,
    "month": lambda at: at.month,
    "day_of_month": lambda at: at.day,
    "day_of_week": lambda at: at.isoweekday() % 7,
    "day_of_year": lambda at: at.timetuple().tm_yday,
    "days_in_month": lambda at: calendar.monthrange(at.year, at.month)[1],
    "hour": lambda at: at.hour,
    "minute": lambda at: at.minute,
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FIRST = (dt.datetime(1, 1, 1, tzinfo=dt.UTC) - EPOCH) // dt.timedelta(seconds=1)
LAST = (dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC) - EPOCH) // dt.timedelta(seconds=1)


def parts_of(value):
    engine = engine_of({labels("t"): [float(value)]})
    return {name: vector(engine.instant(f"{name}(t)", 0))[()] for name in PARTS}


@given(st.integers(FIRST, LAST))
def test_parts_of_a_second_are_those_of_the_gregorian_calendar(second):
    at = EPOCH + dt.timedelta(seconds=second)

    assert parts_of(second) == {name: part(at) for name, part in PARTS.items()}


@given(st.floats(-1e9, 1e9))
def test_fractions_of_a_second_are_cut_towards_zero(seconds):
    assert parts_of(seconds) == parts_of(math.trunc(seconds))


def test_parts_without_an_argument_are_of_the_step():
    engine = engine_of({labels("t"): [0.0]})

    at_ms = 1_709_164_799_999  # 2024-02-28T23:59:59.999Z

    assert vector(engine.instant("minute()", at_ms)) == {(): 59.0}
    assert vector(engine.instant("days_in_month()", at_ms)) == {(): 29.0}
    assert vector(engine.instant("day_of_year()", at_ms + 1)) == {(): 60.0}
    assert vector(engine.instant("hour()", -1)) == {(): 0.0}, "cut towards zero, too"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_time_is_the_least_second_which_go_takes_for_a_year_far_ahead(value):
    # On amd64 Go converts all of these to the least 64-bit integer, and its calendar counts
    # unsigned seconds from the year -292277022400 on.
    assert parts_of(value)["year"] == 292_277_026_596.0


def test_histograms_have_no_date():
    engine = engine_of({labels("h"): [FloatHistogram(count=1, sum=1, positive={0: 1})]})

    assert vector(engine.instant("year(h)", 0)) == {}
