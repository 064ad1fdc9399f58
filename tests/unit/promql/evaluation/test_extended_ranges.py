"""anchored and smoothed ranges against a model: a counter's growth is spread over its segments."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.promql.asking import engine_of, labels, vector
from varve.promql.engine import Engine
from varve.promql.errors import QueryError
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.testing import MemoryStorage

LOOKBACK = 300_000
RANGE = 60_000

points = st.dictionaries(
    st.integers(-400, 400).map(lambda s: s * 1000), st.integers(0, 50).map(float), max_size=12
).map(lambda found: sorted(found.items()))
ends = st.integers(-100, 100).map(lambda s: s * 1000 + 500) | st.integers(-100, 100).map(
    lambda s: s * 1000
)


def ask(query, samples, at):
    storage = MemoryStorage.of({labels("c_total"): [(t, v, 0) for t, v in samples]})
    return vector(Engine(storage).instant(query, at)).get(())


def growth(before, after):
    """A counter that fell began again at zero."""
    return after - before if after >= before else after


def anchored_increase(samples, end):
    start = end - RANGE
    seen = [(t, v) for t, v in samples if start - LOOKBACK < t <= end]
    if not seen or seen[-1][0] <= start:
        return None
    anchor = max([i for i, (t, _) in enumerate(seen) if t <= start], default=0)
    values = [v for _, v in seen[anchor:]]
    return sum(growth(a, b) for a, b in pairwise(values))


def smoothed_change(samples, end, change):
    """The segments' changes, each as far as the window covers it."""
    start = end - RANGE
    seen = [(t, v) for t, v in samples if start - LOOKBACK < t <= end + LOOKBACK]
    if not seen or seen[-1][0] <= start or seen[0][0] > end:
        return None
    total = 0.0
    for (t0, v0), (t1, v1) in pairwise(seen):
        covered = min(t1, end) - max(t0, start)
        if covered > 0:
            total += change(v0, v1) * covered / (t1 - t0)
    return total


def same(found, expected):
    if found is None or expected is None:
        return found is expected
    return found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(points, ends)
def test_anchored_increase_is_the_growth_since_the_last_sample_before(samples, end):
    found = ask("increase(c_total[1m] anchored)", samples, end)
    per_second = ask("rate(c_total[1m] anchored)", samples, end)

    expected = anchored_increase(samples, end)
    assert same(found, expected)
    assert same(per_second, None if expected is None else expected / 60)


@given(points, ends)
def test_smoothed_increase_takes_segments_as_far_as_the_window_covers_them(samples, end):
    found = ask("increase(c_total[1m] smoothed)", samples, end)

    assert same(found, smoothed_change(samples, end, growth))


@given(points, ends)
def test_smoothed_delta_lets_values_fall(samples, end):
    found = ask("delta(c_total[1m] smoothed)", samples, end)

    assert same(found, smoothed_change(samples, end, lambda before, after: after - before))


@given(points, ends)
def test_anchored_resets_and_changes_count_from_the_anchor_on(samples, end):
    start = end - RANGE
    seen = [(t, v) for t, v in samples if start - LOOKBACK < t <= end]
    anchor = max([i for i, (t, _) in enumerate(seen) if t <= start], default=0)
    pairs = list(pairwise(seen[anchor:]))
    nothing = not seen or seen[-1][0] <= start

    falls = None if nothing else sum(b < a for (_, a), (_, b) in pairs)
    differences = None if nothing else sum(b != a for (_, a), (_, b) in pairs)
    assert ask("resets(c_total[1m] anchored)", samples, end) == falls
    assert ask("changes(c_total[1m] anchored)", samples, end) == differences


@given(points, ends)
def test_a_smoothed_instant_selector_interpolates(samples, at):
    storage = MemoryStorage.of({labels("c_total"): [(t, v, 0) for t, v in samples]})
    found = vector(Engine(storage).instant("c_total smoothed", at)).get(labels("c_total"))

    before = [(t, v) for t, v in samples if at - LOOKBACK < t <= at]
    after = [(t, v) for t, v in samples if at <= t <= at + LOOKBACK]
    expected = None
    if before and before[-1][0] == at:
        expected = before[-1][1]
    elif before and after:
        (t0, v0), (t1, v1) = before[-1], after[0]
        expected = v0 + (v1 - v0) * (at - t0) / (t1 - t0)
    elif before:
        expected = before[-1][1]
    assert same(found, expected)


def test_histograms_grow_in_every_bucket():
    first = FloatHistogram(count=2, sum=2, positive={0: 2})
    second = FloatHistogram(count=6, sum=10, positive={0: 4, 1: 2})
    engine = engine_of({labels("h"): [first, second]}, every=60_000)

    found = vector(engine.instant("increase(h[1m] smoothed)", 90_000))[()]
    half = vector(engine.instant("increase(h[30s] smoothed)", 45_000))[()]

    assert (found.count, found.sum, dict(found.positive)) == (2.0, 4.0, {0: 1.0, 1: 1.0})
    assert (half.count, half.hint) == (2.0, "gauge")


def test_ranges_answer_with_samples_made_at_their_ends():
    engine = engine_of({labels("c_total"): [0.0, 10.0, 20.0]}, every=60_000)

    result = engine.instant("c_total[1m] smoothed", 90_000)

    samples = result.value.samples
    assert samples.ts.tolist() == [30_000, 60_000, 90_000]
    assert samples.values.tolist() == [5.0, 10.0, 15.0]


@pytest.mark.parametrize("query", ["deriv(c_total[1m] anchored)", "resets(c_total[1m] smoothed)"])
def test_other_functions_refuse(query):
    with pytest.raises(QueryError, match="modifier can only be used with: .* - not with"):
        ask(query, [(0, 1.0)], 0)


def test_infinite_values_stay_what_they_are():
    assert ask("increase(c_total[1m] anchored)", [(0, 0.0), (30_000, math.inf)], 60_000) == math.inf
