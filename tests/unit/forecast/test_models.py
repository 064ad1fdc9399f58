"""Both models on series whose future is known; intervals hold what they promise."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.forecast import prophet_model, seasonal_naive
from varve.forecast.backtest import COVERAGE, backtest, half_widths, origins
from varve.forecast.hourly import DAY, HORIZON, LEAST_HOURS, WEEK, Hourly, hourly_of
from varve.forecast.level_shifts import levelled
from varve.forecast.rows import from_json, to_json
from varve.forecast.series_forecast import FAILED, FORECAST, SKIPPED, forecast_series
from varve.model.calendar import Calendar

END = 1_795_392_000_000
HOUR = 3_600_000


def hourly(values):
    return Hourly(END, np.asarray(values, float))


@given(
    st.integers(2 * DAY, 5 * WEEK),
    st.floats(-10, 10),
    st.lists(st.floats(-100, 100), min_size=WEEK, max_size=WEEK),
)
def test_seasonal_naive_goes_on_with_any_season_and_slope(hours, slope, week):
    season = seasonal_naive.season_of(hours)
    at = np.arange(hours + HORIZON)
    truth = slope * at + np.array(week)[at % season]

    found = seasonal_naive.forecast(hourly(truth[:hours]))

    np.testing.assert_allclose(found, truth[hours:], atol=1e-6)


def test_seasonal_naive_fills_gaps_of_the_last_season_from_those_before():
    values = np.tile(np.arange(24.0), 4)
    values[-24:-12] = np.nan
    np.testing.assert_allclose(seasonal_naive.forecast(hourly(values)), np.tile(np.arange(24.0), 7))


def test_prophet_has_the_trend_and_both_seasons_and_is_the_same_each_time():
    at = np.arange(4 * WEEK + HORIZON)
    truth = 100 + 0.1 * at + 10 * np.sin(at / 24 * 2 * np.pi) + 8 * ((at // 24) % 7 > 4)
    history = hourly(truth[:-HORIZON])

    first, again = (prophet_model.forecast(history, seed=7) for _ in range(2))

    assert np.abs(first - truth[-HORIZON:]).mean() < 3
    np.testing.assert_array_equal(first, again)


@given(st.integers(LEAST_HOURS, 8 * WEEK))
def test_every_origin_leaves_enough_to_fit_and_has_its_hours_after_it(hours):
    ahead, starts = origins(hours)

    assert ahead % DAY == 0
    assert 0 < ahead <= HORIZON
    assert all(LEAST_HOURS <= at <= hours - ahead for at in starts)
    assert hours < LEAST_HOURS + DAY or starts


def test_a_backtest_fits_to_nothing_that_it_judges_by():
    history, seen = hourly(np.arange(4.0 * WEEK)), []

    def model(part):
        seen.append(part.values[-1])
        return np.zeros(HORIZON)

    found = backtest(history, model)

    ahead, starts = origins(len(history.values))
    assert seen == [start - 1 for start in starts]
    judged = np.concatenate([np.arange(start, start + ahead) for start in starts])
    assert found.mae == pytest.approx(judged.mean())


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_intervals_hold_four_fifths_of_errors_that_come_as_before(seed):
    random = np.random.default_rng(seed)
    errors = random.normal(0, 1, (4, HORIZON)) * np.sqrt(np.arange(1, HORIZON + 1))
    widths = half_widths(errors[:3])

    inside = np.abs(errors[3]) <= widths

    assert (np.diff(widths) >= 0).all()
    assert COVERAGE - 0.15 < inside.mean() < COVERAGE + 0.15


def test_the_hours_of_a_random_walk_are_in_their_interval_as_often_as_it_promises():
    random = np.random.default_rng(11)
    inside = []
    for _ in range(40):
        walk = np.cumsum(random.normal(0, 1, 5 * WEEK))
        found = backtest(hourly(walk[:-HORIZON]), seasonal_naive.forecast)
        error = seasonal_naive.forecast(hourly(walk[:-HORIZON])) - walk[-HORIZON:]
        inside.append((np.abs(error) <= found.half_widths).mean())
    assert COVERAGE - 0.1 < np.mean(inside) < COVERAGE + 0.1


@given(
    st.lists(st.floats(0, 100), min_size=7, max_size=7),
    st.sampled_from([1, 2, 7]),
)
def test_widths_never_fall_and_are_the_quantiles_where_these_rise(quantiles, days):
    part = quantiles[:days]
    errors = np.tile(np.repeat(part, DAY), (3, 1))
    widths = half_widths(errors)

    assert len(widths) == HORIZON
    assert (np.diff(widths) >= -1e-9).all()
    if part == sorted(part):
        np.testing.assert_allclose(widths[: days * DAY], np.repeat(part, DAY))
    assert widths[: days * DAY].mean() == pytest.approx(np.mean(part))


SEASON = 10 + 3 * np.sin(np.arange(5 * WEEK) / 24 * 2 * np.pi)


@pytest.mark.parametrize("at", [4 * DAY, 9 * DAY + 5, 2 * WEEK, 4 * WEEK - 3 * DAY])
def test_a_level_shift_is_taken_out_of_the_history_at_its_hour(at):
    noise = np.random.default_rng(at).normal(0, 0.5, 4 * WEEK)
    steady = SEASON[: 4 * WEEK] + noise
    shifted = steady - np.where(np.arange(4 * WEEK) < at, 8.0, 0.0)

    found = levelled(hourly(shifted)).values

    assert np.abs(found - steady).mean() < 0.7
    wrong = np.flatnonzero(np.abs(found - steady) > 4)
    assert len(wrong) <= 3, "the hours around the shift"


@pytest.mark.parametrize(
    "values",
    [
        SEASON,
        np.arange(4.0 * WEEK),
        (np.arange(4 * WEEK) % WEEK) * 1.0,
        SEASON[: 4 * WEEK] * (1 + ((np.arange(4 * WEEK) // 24) % 7 < 5)),
        np.cumsum(np.random.default_rng(1).normal(0, 1, 4 * WEEK)),
        np.where(np.arange(4 * WEEK) // 24 == 20, 100.0, SEASON[: 4 * WEEK]),
        np.full(4 * WEEK, 3.0),
    ],
    ids=["season", "trend", "saw-tooth", "weekends", "random walk", "a day's incident", "constant"],
)
def test_what_is_no_level_shift_is_left_as_it_is(values):
    history = hourly(values)
    np.testing.assert_array_equal(levelled(history).values, history.values)


def test_a_holiday_ahead_is_forecast_like_a_sunday_and_one_behind_is_no_weekday():
    begin = 1_794_787_200_000  # a Monday
    at = np.arange(4 * WEEK + HORIZON)
    weekday = (at // DAY) % 7
    quiet, trend = weekday >= 5, 0.02 * at
    plain = np.where(quiet, 20.0, 100.0) + 5 * np.sin(at / 24 * 2 * np.pi) + trend
    behind, ahead = 3 * WEEK + 2 * DAY, 4 * WEEK + 3 * DAY  # a Wednesday, a Thursday
    truth = plain.copy()
    for day in (behind, ahead):
        truth[day : day + DAY] -= 80.0
    dates = tuple(
        (dt.datetime.fromtimestamp(begin / 1000, dt.UTC) + dt.timedelta(hours=day)).date()
        for day in (behind, ahead)
    )
    calendar = Calendar(dates=dates)
    history = Hourly(begin + 4 * WEEK * HOUR, truth[: 4 * WEEK])

    naive = seasonal_naive.forecast(history, calendar)
    prophet = prophet_model.forecast(history, 1, calendar)

    future = truth[4 * WEEK :]
    assert np.abs(naive - future).max() < 4, "the trend of a day or two is all that is missing"
    assert np.abs(prophet - future).mean() < 10, "steps are no sum of five waves"
    day = slice(3 * DAY, 4 * DAY)
    assert np.abs(prophet - future)[day].mean() < 10
    blind = prophet_model.forecast(history, 1)
    assert np.abs(blind - future)[day].mean() > 40


def test_what_cannot_be_forecast_says_why():
    short = forecast_series(1, hourly(np.ones(10)))
    assert (short.status, short.reason) == (SKIPPED, "10 hours have a number, 48 are needed")


def test_a_series_beyond_all_numbers_fails_with_a_reason():
    signs = np.random.default_rng(1).choice([-1.0, 1.0], 120)
    found = forecast_series(1, hourly(1.5e308 * signs))
    assert (found.status, found.reason) == (FAILED, "its numbers are too far apart to be forecast")
    assert len(found.value) == 0


def test_a_constant_needs_no_prophet_and_a_series_that_was_never_negative_stays_so():
    constant = forecast_series(1, hourly(np.full(100, 5.0)))
    assert (constant.status, constant.model) == (FORECAST, seasonal_naive.NAME)
    assert set(constant.value) == {5.0}

    falling = forecast_series(2, hourly(np.linspace(10, 0.1, 100)))
    assert falling.value.min() == 0.0
    assert falling.lower.min() == 0.0


@pytest.mark.parametrize("hours", [LEAST_HOURS + DAY, 90, 8 * DAY, 5 * WEEK])
def test_both_models_are_tried_on_a_history_of_any_length(hours):
    at = np.arange(hours)
    noise = np.random.default_rng(hours).normal(0, 1, hours)
    found = forecast_series(1, hourly(50 + 10 * np.sin(at / 24 * 2 * np.pi) + noise))
    assert (found.status, found.reason) == (FORECAST, "")
    assert found.naive is not None
    assert found.prophet is not None


def test_without_prophet_seasonal_naive_is_published_and_the_row_says_so(monkeypatch):
    def missing():
        raise prophet_model.NotInstalled("Prophet is not installed")

    monkeypatch.setattr(prophet_model, "_prophet", missing)
    random = np.random.default_rng(1)
    found = forecast_series(1, hourly(random.normal(5, 1, 200)))
    assert (found.status, found.model) == (FORECAST, seasonal_naive.NAME)
    assert found.reason == "Prophet is not installed"


def test_an_outcome_comes_back_from_a_task_as_it_was():
    outcome = forecast_series(3, hourly(np.random.default_rng(2).normal(5, 1, 120)))
    back = from_json(to_json(outcome))
    assert to_json(back) == to_json(outcome)
    np.testing.assert_array_equal(back.upper, outcome.upper)


def test_hours_without_a_number_are_gaps_of_the_grid():
    from varve.anomaly.minute_values import MinuteValues

    ids, ends = np.array([1, 1, 2]), np.array([HOUR, 3 * HOUR, 2 * HOUR])
    found = hourly_of(MinuteValues(ids, ends, np.array([1.0, 3.0, 9.0]), np.zeros(3, np.int64)))
    assert found[1].end_ms == 3 * HOUR
    np.testing.assert_array_equal(found[1].values, [1.0, np.nan, 3.0])
    assert found[2].values.tolist() == [9.0]
