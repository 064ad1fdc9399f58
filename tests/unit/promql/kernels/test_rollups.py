"""Functions of a range from rollup rows and from the samples."""

from __future__ import annotations

import math
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
from varve.promql.kernels.codes import LOOKBACK, QUANTILE, TIMESTAMP
from varve.promql.kernels.rollup_quantiles import evaluate_sketches
from varve.promql.kernels.rollup_rows import INTEGERS, RowColumns
from varve.promql.kernels.rollups import evaluate_rollups
from varve.promql.kernels.windows import evaluate_rows
from varve.promql.signatures import Accuracy
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


ANSWERED = sorted(
    name
    for name, entry in FUNCTIONS.items()
    if entry.kernel is not None and entry.tier.accuracy is not Accuracy.RAW_ONLY
)
PAIRS = {"delta", "idelta", "increase", "irate", "rate"}
NO_PARAMETER = np.zeros(0)


def evaluated(function, rows, starts, ends, q=0.0, columns=None):
    """Values and where there are any, at each step; of the columns only those named are given."""
    made = {"end": rows.window_end}
    for name in RowColumns._fields[1:]:
        empty = np.empty(0, np.int64 if name in INTEGERS else np.float64)
        made[name] = getattr(rows, name) if columns is None or name in columns else empty
    starts, ends = np.array(starts, np.int64), np.array(ends, np.int64)
    out, present = np.empty((1, len(ends))), np.empty((1, len(ends)), np.bool_)
    begin, end = np.array([0]), np.array([len(rows)])
    if function == QUANTILE:
        evaluate_sketches(
            *(made[name] for name in ("end", "count", "nan_count", "min", "max")),
            np.ascontiguousarray(rows.sketch_starts[:-1]),
            np.ascontiguousarray(rows.sketch_starts[1:]),
            rows.sketch_keys,
            rows.sketch_counts,
            begin,
            end,
            starts,
            ends,
            np.full(len(ends), q),
            out,
            present,
        )
    else:
        evaluate_rollups(function, *made.values(), begin, end, starts, ends, out, present)
    return out[0], present[0]


def from_rows(name, rows, parameter=0.0):
    function = FUNCTIONS[name].kernel
    made = rolled_up(rows)
    got, present = evaluated(function, made, [RANGE.start_ms], [RANGE.end_ms], parameter)
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
    if len(points) < (2 if name in PAIRS else 1):
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
    "absent_over_time": lambda _, v: 1,
    "present_over_time": lambda _, v: 1,
    "rate": lambda t, v: increase(t, v) / ((RANGE.end_ms - RANGE.start_ms) / 1000),
    "resets": lambda _, v: sum(b < a for a, b in pairwise(v)),
    "stddev_over_time": lambda _, v: math.sqrt(variance(v)),
    "stdvar_over_time": lambda _, v: variance(v),
    "sum_over_time": lambda _, v: math.fsum(v),
    "ts_of_first_over_time": lambda t, _: t[0] / 1000,
    "ts_of_last_over_time": lambda t, _: t[-1] / 1000,
}


@pytest.mark.parametrize("name", sorted(RAW))
@settings(max_examples=60)
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


@settings(max_examples=100)
@given(samples, st.floats(0, 1))
def test_a_quantile_of_rows_is_within_the_sketchs_bound(rows, q):
    got = from_rows("quantile_over_time", rows, q)
    want = from_samples("quantile_over_time", rows, q)

    if want is None or math.isnan(want):
        assert got is None if want is None else math.isnan(got)
    else:
        ordered = sorted(abs(v) for *_, v in rows if v is not None and not math.isnan(v))
        assert abs(got - want) <= 0.0109 * ordered[-1]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, RANGE.end_ms), st.integers(0, 1000)), min_size=2))
def test_the_increase_of_whole_counters_is_that_of_the_samples_to_the_last_digits(points):
    rows = [(1, ts, float(v)) for ts, v in points]

    for name in ("increase", "rate"):
        got, want = from_rows(name, rows), from_samples(name, rows)
        assert got == want if want is None else got == pytest.approx(want, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", ANSWERED)
def test_an_answer_reads_the_columns_that_the_table_of_functions_names_and_no_others(name):
    rows = rolled_up([(1, 1000 * i, float(v)) for i, v in enumerate((3, 8, 2, 2, 9), 1)])
    function, stated = FUNCTIONS[name].kernel, set(FUNCTIONS[name].tier.columns)

    got, present = evaluated(function, rows, [0], [RANGE.end_ms], 0.5, stated)

    assert (got[0], present[0]) == (evaluated(function, rows, [0], [RANGE.end_ms], 0.5)[0][0], True)
    assert stated <= {*table_schema("rollup_1m").names()}


overlapping = st.tuples(
    st.integers(1, 40), st.integers(1, 20), st.integers(0, 30), st.integers(1, 30)
).map(lambda t: [((t[2] + i * t[1]) * MINUTE_MS, t[0] * MINUTE_MS) for i in range(t[3])])


@pytest.mark.parametrize("name", [*sorted({*RAW, "quantile_over_time"}), "", "timestamp"])
@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.just(1), st.integers(1, 3 * HOUR_MS), values), min_size=1, max_size=200),
    overlapping,
)
def test_ranges_that_overlap_are_answered_as_each_by_itself(name, rows, ranges):
    distinct = naive.distinct(rows)
    ts = np.array([r[1] for r in distinct], np.int64)
    column = np.array([STALE_NAN if r[2] is None else r[2] for r in distinct])
    made = kernel.aggregate(np.ones(len(ts), np.int64), ts, column, MINUTE_MS)
    function = (
        {"": LOOKBACK, "timestamp": TIMESTAMP}.get(name)
        if name in ("", "timestamp")
        else (FUNCTIONS[name].kernel)
    )
    times, range_ms = np.array([t for t, _ in ranges]), ranges[0][1]
    out, present = np.empty((1, len(times))), np.empty((1, len(times)), np.bool_)
    stale = np.array([any(r[2] is None for r in distinct)])
    begin, end, half = np.array([0]), np.array([len(ts)]), np.full(len(times), 0.5)
    evaluate_rows(
        function, ts, column, begin, end, stale, times, times, range_ms, half, NO_PARAMETER,
        out, present,
    )  # fmt: skip

    got, there = evaluated(function, made, times - range_ms, times, 0.5)

    assert there.tolist() == present[0].tolist()
    size = max((abs(v) for *_, v in rows if v is not None and not math.isnan(v)), default=0.0)
    bound = {"quantile_over_time": 0.0109 * size, "stdvar_over_time": 1e-12 * size**2}.get(
        name, 1e-7 * size if name == "stddev_over_time" else 3e-12 * len(rows) * size
    )
    exact = not name or FUNCTIONS[name].tier.accuracy is Accuracy.EXACT
    assert got[there] == pytest.approx(
        out[0][there], rel=0 if exact else 1e-12, abs=0 if exact else bound, nan_ok=True
    )


@settings(max_examples=60)
@given(samples, st.integers(1, 40), st.integers(1, 9), st.integers(0, 9))
def test_a_step_has_the_same_bits_whichever_steps_are_evaluated_with_it(rows, length, step, first):
    distinct = naive.distinct(rows)
    ids, ts, column = (np.array(x) for x in zip(*distinct, strict=True))
    column = np.array([STALE_NAN if v is None else v for v in column.tolist()], np.float64)
    made = kernel.aggregate(*copies.merge(ids, ts, column), MINUTE_MS)
    ends = np.arange(first, 361, step, dtype=np.int64) * MINUTE_MS
    starts = ends - length * MINUTE_MS
    for name in ANSWERED:
        function = FUNCTIONS[name].kernel
        together = evaluated(function, made, starts, ends)
        alone = [evaluated(function, made, [s], [e]) for s, e in zip(starts, ends, strict=True)]

        assert together[0].tobytes() == np.concatenate([one[0] for one in alone]).tobytes(), name
        assert np.array_equal(together[1], np.concatenate([one[1] for one in alone])), name
