"""Deltas become totals, whatever is sent again, comes late or is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.gateway.otlp.buckets import Explicit, Exponential
from varve.gateway.otlp.delta import Count, DeltaTotals, TooManyTotals

A = [("__name__", "a_total")]
B = [("__name__", "b_total")]

counts = st.dictionaries(st.integers(-600, 600), st.integers(1, 2**40), max_size=6)


@st.composite
def exponentials(draw):
    positive, negative, zeros = draw(counts), draw(counts), draw(st.integers(0, 9))
    count = sum(positive.values()) + sum(negative.values()) + zeros
    return Exponential(draw(st.integers(-4, 8)), count, 1.0 * count, zeros, positive, negative)


def totals(**more):
    return DeltaTotals(lambda: 0.0, **more)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.data())
def test_the_last_total_is_the_sum_whatever_is_sent_again(deltas, data):
    kept = totals()
    for n, delta in enumerate(deltas):
        total = kept.add(A, Count(float(delta)), n + 1, n + 2)
        assert total == (Count(float(sum(deltas[: n + 1]))), 1)
        again = data.draw(st.integers(0, n))
        repeated = kept.add(A, Count(float(deltas[again])), again + 1, again + 2)
        assert repeated == (total if again == n else None)

    assert kept.add(A, Count(0.0), len(deltas) + 1, len(deltas) + 2)[0].value == sum(deltas)


def test_a_total_counts_since_the_first_deltas_start():
    kept = totals()
    kept.add(A, Count(5.0), 100, 200)

    assert kept.add(A, Count(1.0), 200, 300) == (Count(6.0), 100)
    assert kept.add(B, Count(1.0), 0, 300) == (Count(1.0), 300)


def test_a_silent_series_is_forgotten_and_a_new_total_begins():
    clock = [0.0]
    kept = DeltaTotals(lambda: clock[0], most=2, forgotten_after_s=60)
    kept.add(A, Count(5.0), 0, 1)
    clock[0] = 59.0
    kept.add(B, Count(5.0), 0, 1)
    clock[0] = 61.0
    kept.add([("__name__", "c_total")], Count(1.0), 0, 1)

    assert len(kept) == 2
    with pytest.raises(TooManyTotals):
        kept.add(A, Count(1.0), 1, 2)


def test_other_bounds_begin_a_new_total():
    kept = totals()
    kept.add(A, Explicit((1.0,), (1, 2), 3, 2.5), 0, 1)

    other = Explicit((2.0,), (1, 0), 1, 0.5)

    assert kept.add(A, other, 1, 2) == (other, 1)


@given(exponentials(), exponentials())
def test_merged_exponential_histograms_count_every_observation(left, right):
    merged = left.plus(right)

    assert merged == right.plus(left)
    assert merged.scale == min(left.scale, right.scale)
    assert merged.count == left.count + right.count
    assert sum(merged.positive.values()) == sum((*left.positive.values(), *right.positive.values()))
    assert merged.to_scale(-4) == left.to_scale(-4).plus(right.to_scale(-4))
