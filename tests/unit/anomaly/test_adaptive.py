"""What a series does by itself opens no episode; anything else does, however rare its numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.anomaly_series import DAY, KINDS, LENGTH, WEEK, inject
from tests.anomaly_trial import judge
from varve.anomaly.hour_features import Hours, hour_features
from varve.anomaly.minute_values import MinuteValues
from varve.anomaly.moments import left_out, sums
from varve.anomaly.rules import Rule
from varve.anomaly.tails import exceeded_rarely

FIRST = 4 * WEEK
HOUR_MS = 3_600_000


def made(kind, count, seed=3):
    """Values of some series of a kind, with their spread and interval."""
    random = np.random.default_rng(seed)
    each = [KINDS[kind](random) for _ in range(count)]
    return np.array([values for values, _, _ in each]), each[0][1:], random


def told(values, rule=None):
    is_rate = np.zeros(len(values), np.bool_)
    return judge(values, is_rate, Rule() if rule is None else rule, FIRST)


@pytest.mark.parametrize("kind", ["lingering", "uneven days"])
def test_load_that_lingers_opens_no_episode_though_three_minutes_are_beyond_three(kind):
    values, _, _ = made(kind, 4)

    assert sum(map(len, told(values, Rule(adaptive=False)))) > 5
    assert told(values) == [[]] * 4


def test_bursts_of_a_minute_open_no_episode_once_the_series_is_known_for_them():
    values, _, _ = made("bursts", 16)

    assert sum(map(len, told(values, Rule(adaptive=False)))) > 20
    assert sum(map(len, told(values))) <= 2


@pytest.mark.parametrize("weeks", [1, 2])
def test_a_season_of_a_week_opens_no_episode_before_it_is_known(weeks):
    values, _, _ = made("weekly", 8)

    young = judge(values[:, -(weeks + 1) * WEEK :], np.zeros(8, np.bool_), Rule(), weeks * WEEK)

    assert young == [[]] * 8


@pytest.mark.parametrize(
    ("kind", "incident"),
    [
        ("lingering", "level shift"),
        ("uneven days", "spike"),
        ("every 5 min", "level shift"),
        ("every 30 min", "slow leak"),
        ("every hour", "spike"),
        ("skewed", "outage"),  # 0 is two standard deviations from its mean
        ("weekly", "spike"),
    ],
)
def test_an_incident_is_one_episode_even_after_another_a_week_before(kind, incident):
    values, spread, random = made(kind, 2)
    begin = FIRST + 2 * DAY + 600
    values[:, begin - WEEK : begin - WEEK + 90] += 40 * spread[0]
    end = max(inject(random, series, incident, begin, spread) for series in values)

    for episodes in told(values):
        ((opened, first, last),) = episodes
        # A minute is known by its end.
        assert begin < first <= opened <= end + spread[1] + 1
        assert last <= end + 1


def test_a_series_with_a_number_an_hour_is_judged_once_it_has_a_day_of_them():
    values = np.full((1, LENGTH), np.nan)
    values[0, FIRST - 23 * 60 :: 60] = 10 + 0.1 * np.sin(np.arange(8 * 24 - 1))
    begin = FIRST + 2 * DAY
    values[0, begin : begin + 4 * 60 : 60] = 50.0

    (episodes,) = told(values)

    assert episodes == [(begin + 1, begin + 1, begin + 3 * 60 + 1)]


def test_series_at_the_ends_of_all_numbers_leave_the_others_alone():
    values, spread, random = made("daily", 2)
    begin = FIRST + 2 * DAY + 600
    end = inject(random, values[1], "level shift", begin, spread)
    signs = random.choice([-1.0, 1.0], LENGTH)
    ends = [1e200 * signs, 1.7e308 * signs, 1e153 * random.normal(0, 1, LENGTH), 5e-324 * signs]

    *others, calm, far = told(np.vstack([*ends, values]))

    assert [*others, calm] == [[]] * 5
    ((_, first, last),) = far
    assert begin < first <= last <= end + 1


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 3), st.floats(0.1, 1))
def test_what_is_exceeded_rarely_is_the_quantile_of_the_tail(seed, middle, width):
    scores = np.random.default_rng(seed).gumbel(middle, width, (20, 672))
    scores[:, :40] = 60.0  # an incident of forty hours says nothing of it

    found = exceeded_rarely(scores)

    true = middle - width * np.log(-np.log(1 - 1 / 20_000))
    assert 0.9 * true < np.median(found) < 1.6 * true


def test_too_few_hours_have_no_tail():
    scores = np.full((1, 168), np.nan)
    scores[0, -23:] = 1.0
    assert np.isnan(exceeded_rarely(scores)).all()
    scores[0, -24] = 1.0
    assert exceeded_rarely(scores).tolist() == [1.0]


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.floats(-50, 50), st.floats(0, 9)), min_size=72, max_size=72
    ),
    st.sampled_from([1, 24]),
    st.integers(0, 71),
)
def test_an_hour_is_left_out_as_if_it_had_no_minutes(rows, slots, out):
    count, mean, m2 = (np.array([column]) for column in zip(*rows, strict=True))
    count, nothing = count.astype(float), np.zeros((1, 72))
    mean, m2 = np.where(count > 0, mean, 0), np.where(count > 0, m2, 0)

    def hours(count):
        there = count > 0
        return Hours(np.array([1]), 0, count, mean * there, m2 * there, *[nothing] * 4)

    rest = count.copy()
    rest[0, out] = 0
    slot = int(hours(count).hours_of_week[out] % slots)
    expected = sums(hours(rest), slots)

    found = left_out(hours(count), slots)

    if count[0, out] == 0 or expected.count[0, slot] == 0:
        assert found.count[0, out] == 0
        return
    assert found.count[0, out] == expected.count[0, slot]
    assert found.mean[0, out] == pytest.approx(expected.mean[0, slot], abs=1e-9)
    if slots == 1:
        spread = expected.moments.stddev[0, 0]
        assert found.stddev[0, out] == pytest.approx(spread, rel=1e-6, abs=1e-5)


numbers = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=60)


@given(st.lists(numbers, min_size=1, max_size=4))
def test_an_hour_knows_what_three_minutes_in_a_row_were_at_or_beyond(hours):
    flat = np.array([value for hour in hours for value in hour])
    ends = np.array(
        [n * HOUR_MS + 60_000 * (m + 1) for n, hour in enumerate(hours) for m in range(len(hour))]
    )
    minutes = MinuteValues(np.ones(len(flat), np.int64), ends, flat, np.zeros(len(flat), np.int64))

    rows = hour_features(minutes, np.empty(0, np.int64), 0).to_pylist()

    for row, hour in zip(rows, hours, strict=True):
        triples = [hour[n : n + 3] for n in range(len(hour) - 2)]
        assert row["held_high"] == max(map(min, triples), default=None)
        assert row["held_low"] == min(map(max, triples), default=None)
