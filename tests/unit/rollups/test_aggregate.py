"""The compiled aggregate against its definition in rational numbers, over all doubles."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.rollups import naive
from varve.model import copies
from varve.model.staleness import from_column
from varve.model.window import TIERS
from varve.rollups import algebra, kernel, sketch, window_keys

MINUTE = 60_000
LIMIT = Fraction(sys.float_info.max)
TINIEST = 5e-324

doubles = st.floats() | st.sampled_from(
    [0.0, -0.0, math.inf, -math.inf, math.nan, TINIEST, -TINIEST, 1.7e308, -1.7e308, 2.0**-1022]
)
level = st.sampled_from([1.0, 0.1, 1e15, 1e-300, 1e200, 1e290])
near = st.builds(lambda base, k: base * (1 + k * 2**-50), level, st.integers(-9, 9))
values = st.none() | doubles | near | st.integers(0, 9).map(float)
samples = st.lists(
    st.tuples(st.integers(-2, 2), st.integers(0, 3 * 3_600_000), values), min_size=1, max_size=80
)
dense = st.lists(
    st.tuples(st.just(7), st.integers(1, 200_000), near | st.floats(allow_nan=False)),
    min_size=1,
    max_size=200,
)


def columns(rows):
    table = pa.table(
        {
            "s": pa.array([r[0] for r in rows], pa.int64()),
            "t": pa.array([r[1] for r in rows], pa.int64()),
            "v": pa.array([r[2] for r in rows], pa.float64(), from_pandas=False),
        }
    )
    ids, ts = table["s"].to_numpy(), table["t"].to_numpy()
    return ids, ts, from_column(table["v"])


def aggregated(rows, width=MINUTE):
    return kernel.aggregate(*copies.merge(*columns(rows)), width)


def merged(rows, width):
    everything = np.arange(len(rows))
    return kernel.merge(rows, everything, width)


def tiers(rows):
    """By name, along the tree."""
    found = {"1m": aggregated(rows)}
    for below, tier in pairwise(TIERS):
        found[tier.name] = merged(found[below.name], tier.width_ms)
    return found


def nothing(value):
    return 0.0 if value is None else value


def check(row, want):
    """row: of a rollup table as a dict; want: naive."""
    for name in ("count", "nan_count", "resets", "changes", "stale_ts"):
        assert row[name] == want[name], name
    for name in ("min", "max"):
        assert row[name] == want[name] or (math.isnan(row[name]) and math.isnan(want[name]))
    for name in ("first", "previous", "last"):
        ts, value = want[name] or (None, None)
        assert row[f"{name}_ts"] == ts
        got = row[f"{name}_value"]
        assert got == value or (math.isnan(got) and math.isnan(value))
    if want["sum"] is None:
        assert not math.isfinite(row["sum"])
        assert math.isnan(row["m2"])
    elif want["numbers"]:
        check_sum(row, want)
        check_m2(row, want)
    check_sketch(row, want)


def check_sum(row, want):
    allowed = want["magnitude"] / 10**12
    if math.isinf(row["sum"]):
        assert abs(want["sum"]) + allowed >= LIMIT
        got = Fraction(row["sum_error"]) * 2**64
    else:
        got = Fraction(row["sum"]) + Fraction(row["sum_error"])
    assert abs(got - want["sum"]) <= allowed


def check_m2(row, want):
    if math.isinf(row["m2"]):
        # Taken about another value it may be as many times greater as there are values.
        assert want["m2"] * (2 * len(want["numbers"]) + 2) >= LIMIT
    else:
        allowed = want["m2"] / 10**12 + Fraction(1, 10**300)
        assert abs(Fraction(row["m2"]) - want["m2"]) <= allowed


def check_sketch(row, want):
    entries = row["sketch"]
    keys = np.array([e["key"] for e in entries], np.int32)
    counts = np.array([e["count"] for e in entries], np.int64)
    assert (np.diff(keys) > 0).all()
    assert counts.sum() == len(want["numbers"])
    estimates = np.repeat(sketch.estimate(keys), counts)
    for got, true in zip(estimates.tolist(), want["numbers"], strict=True):
        if math.isinf(true):
            assert got == true
        else:
            distance = abs(Fraction(got) - Fraction(true))
            assert distance <= abs(Fraction(true)) * Fraction(109, 10_000) + Fraction(TINIEST) / 2


@settings(max_examples=150)
@given(samples | dense)
def test_rows_of_every_tier_are_what_the_definition_says(rows):
    for tier in TIERS:
        got = algebra.to_table(tiers(rows)[tier.name], 1).to_pylist()
        want = naive.windows(rows, tier.width_ms)

        assert [(r["series_id"], r["window_end"]) for r in got] == sorted(want)
        for row in got:
            check(row, naive.aggregate(want[row["series_id"], row["window_end"]]))


@settings(max_examples=100)
@given(samples, st.data())
def test_neither_order_nor_copies_of_samples_change_a_bit(rows, data):
    again = data.draw(st.lists(st.sampled_from(rows)))
    shuffled = data.draw(st.permutations(rows + again))

    for tier, left in tiers(rows).items():
        assert same_bits(left, tiers(shuffled)[tier])


@settings(max_examples=100)
@given(samples)
def test_merging_rows_of_adjacent_windows_equals_aggregating_their_samples(rows):
    through, direct = merged(aggregated(rows), 3_600_000), aggregated(rows, 3_600_000)

    exact = set(algebra.COLUMNS) - {"sum", "sum_error", "m2", "reset_correction"}
    for name in exact | {"sketch_keys", "sketch_counts", "sketch_starts"}:
        assert np.array_equal(getattr(through, name), getattr(direct, name), equal_nan=True), name


@settings(max_examples=100)
@given(samples)
def test_merge_is_associative_in_all_but_rounding(rows):
    minutes = aggregated(rows)
    left = merged(merged(minutes, 300_000), 3_600_000)
    right = merged(merged(minutes, 600_000), 3_600_000)

    exact = set(algebra.COLUMNS) - {"sum", "sum_error", "m2", "reset_correction"}
    for name in exact:
        assert np.array_equal(getattr(left, name), getattr(right, name), equal_nan=True), name


@settings(max_examples=100)
@given(samples)
def test_rows_survive_the_table(rows):
    for computed in tiers(rows).values():
        assert same_bits(computed, algebra.from_table(algebra.to_table(computed, 1)))


@settings(max_examples=150)
@given(samples)
def test_samples_are_ordered_by_the_rule_for_copies(rows):
    ids, ts, column = columns(rows)
    chosen = copies.order(ids, ts, column)

    got = copies.merge(ids, ts, column)

    assert np.array_equal(got[0], ids[chosen])
    assert np.array_equal(got[1], ts[chosen])
    assert np.array_equal(got[2].view(np.int64), column[chosen].view(np.int64))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))))
def test_the_newest_row_of_each_window_counts(rows):
    ids, ends, revisions = (np.array([r[k] for r in rows], np.int64) for k in range(3))
    best = {}
    for row in rows:
        best[row[:2]] = max(best.get(row[:2], 0), row[2])

    got = window_keys.newest_revisions(ids, ends, revisions)

    assert [(rows[i][:2], rows[i][2]) for i in got] == sorted(best.items())


def test_a_sum_beyond_the_greatest_double_keeps_its_mean_and_comes_back():
    up = [(1, 1, 1.5e308), (1, 2, 1.5e308)]
    down = [(1, MINUTE + 1, -1.5e308), (1, MINUTE + 2, -1.5e308)]

    assert aggregated(up).sum[0] == math.inf
    assert algebra.mean(aggregated(up))[0] == pytest.approx(1.5e308, rel=1e-15)
    assert merged(aggregated(up + down), 300_000).sum[0] == 0.0


def test_a_long_window_of_like_values_keeps_m2():
    rng = np.random.default_rng(1)
    column = 1e9 + rng.normal(size=300_000)
    n = len(column)

    got = kernel.aggregate(np.ones(n, np.int64), np.arange(1, n + 1), column, 3_600_000)

    assert len(got) == 1
    exact = math.fsum((float(v) - float(column[0])) ** 2 for v in column)
    assert got.m2[0] == pytest.approx(exact, rel=1e-14)


def test_powers_of_two_are_the_upper_bounds_of_their_buckets():
    for exponent in range(-1074, 1024):
        at, above = 2.0**exponent, math.nextafter(2.0**exponent, math.inf)
        assert sketch.key_of(at) == sketch.OFFSET + 32 * exponent
        assert sketch.key_of(-at) == -sketch.key_of(at)
        assert sketch.key_of(above) > sketch.key_of(at)


@given(st.floats(allow_nan=False))
def test_a_kernel_gives_a_value_the_key_that_python_does(value):
    rows = aggregated([(1, 1, value)], MINUTE)

    assert rows.sketch_keys.tolist() == [sketch.key_of(value)]


@settings(max_examples=100)
@given(st.lists(st.floats(allow_nan=False), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_between_its_neighbouring_order_statistics(numbers, q):
    rows = aggregated([(1, k + 1, v) for k, v in enumerate(numbers)], 3_600_000)

    got = sketch.quantile(rows.sketch_keys, rows.sketch_counts, q, rows.min[0], rows.max[0])

    rank, ordered = q * (len(numbers) - 1), sorted(numbers)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    if math.isfinite(low) and math.isfinite(high):
        slack = Fraction(sketch.ERROR) * Fraction(1_000_001, 1_000_000)
        assert Fraction(got) >= Fraction(low) - abs(Fraction(low)) * slack - Fraction(TINIEST)
        assert Fraction(got) <= Fraction(high) + abs(Fraction(high)) * slack + Fraction(TINIEST)


def same_bits(left, right):
    for name in algebra.Rows.__slots__:
        a, b = getattr(left, name), getattr(right, name)
        if a.dtype == np.float64:
            a, b = a.view(np.int64), b.view(np.int64)
        if not np.array_equal(a, b):
            return False
    return True
