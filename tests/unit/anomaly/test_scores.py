"""Scores are distances from the baseline of the hour, by the rule of the series."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.anomaly.minute_values import MinuteValues
from varve.anomaly.rules import Rule
from varve.anomaly.scores import CONSTANT_SCORE, score
from varve.model.baseline_index import BaselineIndex
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.schema import table_schema

MONDAY = 1_795_392_000_000 - 1_795_392_000_000 % (7 * 86_400_000) + 4 * 86_400_000
HOUR = 3_600_000
RULE = Rule()


def baseline(series, **given):
    row = {
        "series_id": series,
        "hour_of_week": given.pop("hour", -1),
        "mean": 10.0,
        "stddev": 2.0,
        "count": 2_000,
        "computed_at": given.pop("at", 0),
        "season": "none",
        "method": "mean",
        "is_rate": False,
        "error": None,
        "revision": 0,
    }
    return row | given


def index(*rows):
    return BaselineIndex.of(pa.Table.from_pylist(list(rows), table_schema("baselines").arrow))


def scores(found, *minutes, rule=RULE):
    ids, ends, values = (np.array(column) for column in zip(*minutes, strict=True))
    numbers = MinuteValues(ids, ends, values.astype(float), np.zeros(len(ids), np.int64))
    return score(numbers, np.zeros(len(ids), np.int64), (rule,), found)


def test_the_hour_of_the_season_counts_and_the_reference_where_it_has_none():
    found = index(
        baseline(1),
        baseline(1, hour=0, mean=100.0, stddev=1.0, season="day"),
        baseline(2),
        baseline(2, hour=24, mean=50.0, stddev=5.0, season="week"),
        baseline(3),
        baseline(3, mean=11.0, stddev=0.5, method="median"),
    )
    tuesday = MONDAY + 24 * HOUR
    judged = scores(
        found,
        (1, MONDAY + 60_000, 104.0),
        (1, tuesday + HOUR, 104.0),
        (1, tuesday + HOUR + 60_000, 14.0),
        (2, MONDAY + 60_000, 14.0),
        (2, tuesday + 60_000, 30.0),
        (3, MONDAY, 12.0),
        (4, MONDAY, 12.0),
    )
    assert judged.score.tolist() == [4.0, 4.0, 2.0, 2.0, -4.0, 2.0]
    assert judged.is_deviation.tolist() == [True, True, False, False, True, False]
    plain = scores(found, (1, MONDAY + 60_000, 14.0), rule=Rule(season="none"))
    assert plain.score.tolist() == [2.0]


def test_a_holiday_is_judged_by_the_hours_of_a_sunday():
    rows = [baseline(1)]
    rows += [baseline(1, hour=h, mean=float(h), season="week") for h in range(168)]
    table = pa.Table.from_pylist(rows, table_schema("baselines").arrow)
    wednesday = dt.datetime(2026, 11, 25, 10, 30, tzinfo=dt.UTC)
    ends = np.array([round(wednesday.timestamp() * 1000)])
    holiday = Calendar(dates=(wednesday.date(),))

    for calendar, hour in ((NO_HOLIDAYS, 2 * 24 + 10), (holiday, 6 * 24 + 10)):
        found = BaselineIndex.of(table, calendar)
        at, there = found.look_up(np.array([1]), ends, plain=np.zeros(1, np.bool_))
        assert there.all()
        assert found.mean[at].tolist() == [hour]


def test_of_two_runs_of_the_job_the_later_counts():
    found = index(baseline(1, at=1), baseline(1, mean=20.0, at=2), baseline(2, mean=5.0, at=1))
    judged = scores(found, (1, MONDAY, 22.0), (2, MONDAY, 7.0))
    assert judged.expected.tolist() == [20.0, 5.0]
    assert judged.baseline_at.tolist() == [2, 1]


def test_a_floor_stands_for_too_small_a_spread_and_a_constant_zero_has_a_score_of_its_own():
    found = index(baseline(1, mean=1_000.0, stddev=0.0), baseline(2, mean=0.0, stddev=0.0))
    judged = scores(
        found, (1, MONDAY, 1_002.0), (1, MONDAY, 996.0), (2, MONDAY, 0.0), (2, MONDAY, 1e9)
    )
    assert judged.score.tolist() == [2.0, -4.0, 0.0, CONSTANT_SCORE]
    assert (judged.stddev > 0).all()


def test_one_event_of_a_counter_that_has_few_is_nothing_and_many_in_a_minute_are_extreme():
    found = index(baseline(1, mean=1e-5, stddev=1e-4, is_rate=True))
    judged = scores(found, (1, MONDAY, 1 / 60), (1, MONDAY, 10 / 60))
    assert judged.score.round(1).tolist() == [1.0, 10.0]
    strict = scores(found, (1, MONDAY, 1 / 60), rule=Rule(counter_floor=0))
    assert strict.score[0] > 100


@given(
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.floats(-1e9, 1e9),
    st.sampled_from(["above", "below"]),
)
def test_a_direction_leaves_the_other_side_alone(mean, stddev, value, direction):
    found = index(baseline(1, mean=mean, stddev=stddev))
    both = scores(found, (1, MONDAY, value))
    one = scores(found, (1, MONDAY, value), rule=Rule(direction=direction))
    side = one.score[0] > 0 if direction == "above" else one.score[0] < 0
    assert one.is_deviation[0] == (both.is_deviation[0] and side)
    assert (
        one.score[0] == pytest.approx((value - mean) / one.stddev[0], abs=1e-6)
        or abs(one.score[0]) == 1e6
    )


def test_a_young_baseline_and_a_rule_that_is_not_enabled_judge_nothing():
    found = index(baseline(1, count=1_439), baseline(2, count=1_440))
    assert scores(found, (1, MONDAY, 99.0), (2, MONDAY, 99.0)).series_ids.tolist() == [2]
    assert len(scores(found, (2, MONDAY, 99.0), rule=Rule(enabled=False)).score) == 0
