"""Functions of a range from rollup rows and from the samples."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.rollups import naive
from varve.model import copies
from varve.model.schema import table_schema
from varve.model.staleness import STALE_NAN
from varve.model.window import HOUR_MS, MINUTE_MS, TIERS, Window
from varve.promql.function_table import FUNCTIONS
from varve.promql.signatures import Accuracy
from varve.query.tier_answers import FORMULAS, answer
from varve.rollups import kernel

RANGE = Window(0, 6 * HOUR_MS)

values = (
    st.integers(0, 9).map(float)
    | st.floats(0, 1e9)
    | st.floats(-1e9, 1e9)
    | st.sampled_from([math.nan, None, 0.0])
)
samples = st.lists(
    st.tuples(st.just(1), st.integers(1, RANGE.end_ms), values), min_size=1, max_size=60
)


def from_rows(name, rows, parameter=0.0):
    got, present = answer(name, rolled_up(rows), RANGE, parameter)
    return float(got[0]) if present[0] else None


def rolled_up(rows):
    """Along the tree up to the hour, then the range in one."""
    distinct = naive.distinct(rows)
    ids = np.array([r[0] for r in distinct], np.int64)
    ts = np.array([r[1] for r in distinct], np.int64)
    column = np.array([STALE_NAN if r[2] is None else r[2] for r in distinct])
    made = kernel.aggregate(*copies.merge(ids, ts, column), MINUTE_MS)
    for tier in TIERS[1:3]:
        made = kernel.merge(made, np.arange(len(made)), tier.width_ms)
    return kernel.merge(made, np.arange(len(made)), RANGE.end_ms)


def from_samples(name, rows, q=0.0):
    """As Prometheus defines it, without a thought for speed."""
    points = [(ts, v) for _, ts, v in naive.distinct(rows) if v is not None]
    if len(points) < FORMULAS[name].least:
        return None
    times, column = [p[0] for p in points], [p[1] for p in points]
    return quantile(column, q) if name == "quantile_over_time" else RAW[name](times, column)


def quantile(column, q):
    ordered = sorted(column, key=lambda v: (not math.isnan(v), v))
    rank = q * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low if low == high else low + (high - low) * (rank - math.floor(rank))


def numbers_of(column):
    return [v for v in column if not math.isnan(v)]


def mean(column):
    return math.fsum(column) / len(column)


def variance(column):
    middle = mean(column)
    return math.fsum((v - middle) ** 2 for v in column) / len(column)


def changes(column):
    return sum(a != b and not (math.isnan(a) and math.isnan(b)) for a, b in pairwise(column))


def increase(times, column):
    grown = column[-1] - column[0]
    for before, after in pairwise(column):
        grown += before if after < before else 0.0
    return extrapolated(grown, times, column[0], counter=True)


def irate(times, column):
    grown = column[-1] - (0.0 if column[-1] < column[-2] else column[-2])
    return grown / ((times[-1] - times[-2]) / 1000)


def extrapolated(grown, times, first, *, counter):
    sampled = (times[-1] - times[0]) / 1000
    between = sampled / (len(times) - 1)
    to_start = (times[0] - RANGE.start_ms) / 1000
    to_end = (RANGE.end_ms - times[-1]) / 1000
    if to_start >= between * 1.1:
        to_start = between / 2
    if counter and grown > 0 and first >= 0:
        to_start = min(to_start, sampled * (first / grown))
    if to_end >= between * 1.1:
        to_end = between / 2
    return grown * ((sampled + to_start + to_end) / sampled)


RAW = {
    "avg_over_time": lambda _, v: mean(v),
    "changes": lambda _, v: changes(v),
    "count_over_time": lambda _, v: len(v),
    "delta": lambda t, v: extrapolated(v[-1] - v[0], t, v[0], counter=False),
    "first_over_time": lambda _, v: v[0],
    "idelta": lambda _, v: v[-1] - v[-2],
    "increase": increase,
    "irate": irate,
    "last_over_time": lambda _, v: v[-1],
    "max_over_time": lambda _, v: max(numbers_of(v), default=math.nan),
    "min_over_time": lambda _, v: min(numbers_of(v), default=math.nan),
    "present_over_time": lambda _, v: 1,
    "rate": lambda t, v: increase(t, v) / ((RANGE.end_ms - RANGE.start_ms) / 1000),
    "resets": lambda _, v: sum(b < a for a, b in pairwise(v)),
    "stddev_over_time": lambda _, v: math.sqrt(variance(v)),
    "stdvar_over_time": lambda _, v: variance(v),
    "sum_over_time": lambda _, v: math.fsum(v),
    "ts_of_first_over_time": lambda t, _: t[0] / 1000,
    "ts_of_last_over_time": lambda t, _: t[-1] / 1000,
}


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"quantile_over_time"}))
@settings(max_examples=60, deadline=None)
@given(rows=samples)
def test_a_function_of_rows_is_that_of_the_samples(name, rows):
    got, want = from_rows(name, rows), from_samples(name, rows)

    if want is None or math.isnan(want):
        assert got is None if want is None else math.isnan(got)
    elif FUNCTIONS[name].tier.accuracy is Accuracy.EXACT:
        assert got == want
    else:
        numbers = [abs(v) for *_, v in rows if v is not None and not math.isnan(v)]
        size = math.fsum(numbers)
        if name == "stdvar_over_time":
            size = max(numbers) ** 2
        if name == "stddev_over_time":
            # The root of what rounding leaves of a variance.
            assert got == pytest.approx(want, rel=1e-9, abs=1e-7 * max(numbers))
        else:
            # Extrapolation multiplies by at most 2 and a half.
            assert abs(got - want) <= 3e-12 * size


@settings(max_examples=100, deadline=None)
@given(samples, st.floats(0, 1))
def test_a_quantile_of_rows_is_within_the_sketchs_bound(rows, q):
    got = from_rows("quantile_over_time", rows, q)
    want = from_samples("quantile_over_time", rows, q)

    if want is None or math.isnan(want):
        assert got is None if want is None else math.isnan(got)
    else:
        ordered = sorted(abs(v) for *_, v in rows if v is not None and not math.isnan(v))
        assert abs(got - want) <= 0.0109 * ordered[-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, RANGE.end_ms), st.integers(0, 1000)), min_size=2))
def test_the_increase_of_whole_counters_is_that_of_the_samples_to_the_last_digits(points):
    rows = [(1, ts, float(v)) for ts, v in points]

    for name in ("increase", "rate"):
        got, want = from_rows(name, rows), from_samples(name, rows)
        assert got == want if want is None else got == pytest.approx(want, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_an_answer_reads_the_columns_that_the_table_of_functions_names_and_no_others(name):
    rows = [(1, 1000 * i, float(v)) for i, v in enumerate((3, 8, 2, 2, 9), 1)]
    made = rolled_up(rows)
    stated = set(FUNCTIONS[name].tier.columns)
    kept = stated | {"series_id", "window_end"}
    if "sketch" in stated:
        kept |= {f.name for f in fields(made) if f.name.startswith("sketch")}
    spoilt = {
        f.name: np.full_like(getattr(made, f.name), 77) for f in fields(made) if f.name not in kept
    }

    got, present = answer(name, replace(made, **spoilt), RANGE, 0.5)

    assert (got[0], present[0]) == (answer(name, made, RANGE, 0.5)[0][0], True)
    assert stated <= {*table_schema("rollup_1m").names()}


def test_functions_have_a_formula_where_the_table_says_that_tiers_answer():
    answered = {
        name
        for name, entry in FUNCTIONS.items()
        if entry.kernel is not None and entry.tier.accuracy is not Accuracy.RAW_ONLY
    }

    assert answered == {*FORMULAS, "absent_over_time"}
