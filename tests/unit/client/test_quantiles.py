import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from varve.client.quantiles import SLICES, SlidingQuantiles
from varve.rollups import sketch

WINDOW_MS = 10_000
finite = st.floats(allow_nan=False, allow_infinity=False)
normal = finite.filter(lambda x: x == 0 or abs(x) >= 2.0**-1022)


@given(st.lists(normal, min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_that_of_the_rollups_sketch(values, q):
    sliding = SlidingQuantiles(WINDOW_MS)
    for value in values:
        sliding.observe(value, 0)
    keys = np.array([sketch.key_of(v) for v in values], np.int32)
    ones = np.ones(len(keys), np.int64)

    (found,) = sliding.quantiles([q], 0)

    assert found == sketch.quantile(keys, ones, q, min(values), max(values))


@given(st.lists(normal, min_size=1, max_size=50), st.integers(0, 49))
def test_an_order_statistic_is_within_the_sketchs_bound(values, n):
    n %= len(values)
    sliding = SlidingQuantiles(WINDOW_MS)
    for value in values:
        sliding.observe(value, 0)

    (found,) = sliding.quantiles([n / max(1, len(values) - 1)], 0)

    exact = sorted(values)
    # The rank may miss the whole number by a rounding: then it lies next to it.
    near = exact[max(0, n - 1) : n + 2]
    slack = sketch.ERROR * max(map(abs, near)) * 1.000001
    assert min(near) - slack <= found <= max(near) + slack


@given(st.lists(st.tuples(st.integers(0, 60_000), normal), min_size=1, max_size=40))
def test_what_is_older_than_the_window_counts_no_more(observed):
    observed.sort(key=lambda o: o[0])
    sliding = SlidingQuantiles(WINDOW_MS)
    for ts_ms, value in observed:
        sliding.observe(value, ts_ms)
    now_ms = observed[-1][0]
    part = WINDOW_MS // SLICES
    recent = [v for ts_ms, v in observed if ts_ms // part > now_ms // part - SLICES]

    low, high = sliding.quantiles([0, 1], now_ms)

    assert low <= min(recent) + abs(min(recent)) * sketch.ERROR * 1.000001
    assert low >= min(recent)
    assert high <= max(recent)


def test_without_observations_there_is_no_quantile():
    sliding = SlidingQuantiles(WINDOW_MS)
    assert math.isnan(sliding.quantiles([0.5], 0)[0])

    sliding.observe(1.0, 0)

    assert sliding.quantiles([0.5], WINDOW_MS - 1) == [1.0]
    assert math.isnan(sliding.quantiles([0.5], WINDOW_MS)[0])
