import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.promql.histograms.native_histogram import (
    CUSTOM_BUCKETS,
    FloatHistogram,
    IncompatibleSchemasError,
    add,
    combined_hint,
    detects_reset,
    exponential_bound,
    subtract,
    with_zero_threshold,
)
from varve.promql.histograms.statistics import fraction, quantile, text, variance
from varve.promql.histograms.trimming import trim

COUNTS = st.integers(0, 50).map(float)
INDEXES = st.dictionaries(st.integers(-12, 12), COUNTS, max_size=6)


@st.composite
def exponential(draw, schemas=(-1, 0, 1, 3)):
    positive, negative = draw(INDEXES), draw(INDEXES)
    zero = draw(COUNTS)
    h = FloatHistogram(
        schema=draw(st.sampled_from(schemas)),
        count=zero + sum(positive.values()) + sum(negative.values()),
        sum=draw(st.integers(-1000, 1000)) / 8,
        zero_count=zero,
        positive=positive,
        negative=negative,
    )
    threshold = draw(st.sampled_from((0.0, 0.001, 0.3)))
    return with_zero_threshold(h, threshold) if threshold else h


@st.composite
def custom(draw):
    bounds = sorted(
        draw(st.sets(st.sampled_from((-2.0, -1.0, 0.0, 0.5, 1.0, 4.0, 8.0)), min_size=1))
    )
    buckets = {i: draw(COUNTS) for i in range(len(bounds) + 1)}
    return FloatHistogram(
        schema=CUSTOM_BUCKETS,
        count=sum(buckets.values()),
        sum=draw(st.integers(-1000, 1000)) / 8,
        positive=buckets,
        custom_values=tuple(bounds),
    )


HISTOGRAMS = st.one_of(exponential(), custom())
SAME_KIND = st.one_of(st.tuples(exponential(), exponential()), st.tuples(custom(), custom()))


def population(h):
    return h.zero_count + sum(h.positive.values()) + sum(h.negative.values())


@given(SAME_KIND)
def test_a_sum_has_the_observations_of_both(pair):
    a, b = pair

    total = add(a, b).histogram

    assert population(total) == total.count == a.count + b.count
    assert total.sum == a.sum + b.sum


@given(SAME_KIND)
def test_addition_is_commutative(pair):
    a, b = pair

    assert add(a, b).histogram.equals(add(b, a).histogram)


@given(SAME_KIND)
def test_subtraction_undoes_addition_up_to_resolution(pair):
    a, b = pair

    back = subtract(add(a, b).histogram, b).histogram
    alike = subtract(add(a, b).histogram, b.scaled(0.0)).histogram

    assert back.count == a.count
    assert population(back) == a.count
    assert back.schema == alike.schema


@given(HISTOGRAMS)
def test_a_histogram_less_itself_is_empty(h):
    rest = subtract(h, h).histogram

    assert (rest.count, rest.sum, population(rest)) == (0, 0, 0)
    assert list(rest.all_buckets()) == []


@given(exponential(), st.integers(1, 4))
def test_a_coarser_schema_keeps_every_observation_within_its_bounds(h, levels):
    coarse = h.to_schema(h.schema - levels)

    assert population(coarse) == population(h)
    for fine in h.positive_buckets():
        assert any(
            wide.lower <= fine.lower * (1 + 1e-12) and fine.upper <= wide.upper * (1 + 1e-12)
            for wide in coarse.positive_buckets()
        )


@given(exponential(), st.floats(0.3, 20))
def test_a_wider_zero_bucket_takes_whole_buckets(h, threshold):
    threshold = max(threshold, h.zero_threshold)
    wide = with_zero_threshold(h, threshold)

    assert population(wide) == population(h)
    assert wide.zero_threshold >= threshold
    assert all(b.lower >= wide.zero_threshold for b in wide.positive_buckets())
    assert all(b.upper <= -wide.zero_threshold for b in wide.negative_buckets())


@given(HISTOGRAMS)
def test_buckets_ascend_and_do_not_overlap(h):
    buckets = list(h.all_buckets())

    assert sum(b.count for b in buckets) == h.count
    for before, after in pairwise(buckets):
        assert before.upper <= after.lower


@given(HISTOGRAMS, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_ascend(h, p, q):
    low, high = quantile(min(p, q), h).value, quantile(max(p, q), h).value

    assert h.count == 0 or low <= high * (1 + 1e-9 * math.copysign(1, high)) + 1e-12


@given(HISTOGRAMS)
def test_quantiles_beyond_the_ends_are_infinite(h):
    assert quantile(-0.1, h).value == -math.inf
    assert quantile(1.1, h).value == math.inf
    assert h.count == 0 or not math.isnan(quantile(0.5, h).value)


@given(HISTOGRAMS, st.floats(-100, 100), st.floats(-100, 100), st.floats(-100, 100))
def test_fractions_of_adjacent_ranges_add_up(h, a, b, c):
    a, b, c = sorted((a, b, c))

    parts = fraction(a, b, h)[0] + fraction(b, c, h)[0]
    whole = fraction(a, c, h)[0]

    assert h.count == 0 or parts == pytest.approx(whole, abs=1e-9)
    assert h.count == 0 or fraction(-math.inf, math.inf, h)[0] == pytest.approx(1)


@given(HISTOGRAMS, st.floats(-50, 50))
def test_trimming_at_a_value_splits_the_observations(h, at):
    below, above = trim(h, at, keep_below=True), trim(h, at, keep_below=False)

    unbounded = h.is_custom and (h.positive.get(0) or h.positive.get(len(h.custom_values)))
    is_point = at == h.zero_threshold == 0 and h.zero_count
    assert unbounded or is_point or below.count + above.count == pytest.approx(h.count)
    assert 0 <= below.count <= h.count


@given(exponential(), exponential())
def test_more_of_everything_is_no_reset(h, more):
    grown = add(h, more).histogram

    assert not detects_reset(grown, h)
    assert grown.count == h.count or detects_reset(h, grown)


@given(SAME_KIND)
def test_a_hint_decides_whether_there_was_a_reset(pair):
    current, previous = pair

    assert detects_reset(current.with_hint("reset"), previous)
    assert not detects_reset(current.with_hint("not_reset"), previous)


@pytest.mark.parametrize(
    ("a", "b", "hint", "collide"),
    [
        ("reset", "reset", "reset", False),
        ("reset", "not_reset", "unknown", True),
        ("unknown", "reset", "unknown", False),
        ("gauge", "not_reset", "gauge", False),
        ("unknown", "gauge", "gauge", False),
    ],
)
def test_the_hint_of_a_sum(a, b, hint, collide):
    assert combined_hint(a, b) == combined_hint(b, a) == (hint, collide)


def test_custom_and_exponential_buckets_do_not_mix():
    with pytest.raises(IncompatibleSchemasError):
        add(FloatHistogram(), FloatHistogram(schema=CUSTOM_BUCKETS))


def test_custom_bounds_are_reconciled_to_those_in_common():
    a = FloatHistogram(CUSTOM_BUCKETS, 6, 9, positive={0: 1, 1: 2, 2: 3}, custom_values=(1.0, 2.0))
    b = FloatHistogram(CUSTOM_BUCKETS, 2, 1, positive={0: 1, 1: 1}, custom_values=(2.0,))

    total = add(a, b)

    assert total.reconciled
    assert total.histogram.custom_values == (2.0,)
    assert dict(total.histogram.positive) == {0: 4, 1: 4}


@pytest.mark.parametrize(
    ("index", "schema", "bound"),
    [(0, 0, 1.0), (3, 0, 8.0), (1, 1, math.sqrt(2)), (-1, -1, 0.25), (2, 3, 2**0.25)],
)
def test_bounds_of_exponential_buckets(index, schema, bound):
    assert exponential_bound(index, schema) == pytest.approx(bound, rel=1e-15)


def test_bounds_end_at_the_largest_float():
    assert exponential_bound(1024, 0) == 1.7976931348623157e308
    assert exponential_bound(1025, 0) == math.inf


@pytest.mark.parametrize("divisor", [0.0, -0.0])
def test_divided_by_zero_no_bucket_is_left(divisor):
    h = FloatHistogram(count=4, sum=-2, zero_count=0, positive={1: 4}).divided(divisor)

    assert h.count == math.copysign(math.inf, divisor)
    assert h.sum == -math.copysign(math.inf, divisor)
    assert math.isnan(h.zero_count)
    assert not h.positive


def test_a_negative_factor_makes_a_gauge():
    assert FloatHistogram(count=1, positive={1: 1}).scaled(-1).hint == "gauge"


def test_moments_of_one_bucket():
    h = FloatHistogram(count=2, sum=2 * math.sqrt(2), positive={1: 2})

    assert variance(h) == pytest.approx(0, abs=1e-15)
    assert quantile(0.5, h).value == pytest.approx(math.sqrt(2))


def test_nan_observations_pull_a_quantile_up():
    some = FloatHistogram(count=10, sum=math.nan, positive={1: 8})

    assert quantile(0.9, some).nan_note == "result is NaN"
    assert quantile(0.1, some).nan_note == "result is skewed higher"
    assert fraction(-math.inf, math.inf, some) == (0.8, True)


def test_text():
    h = FloatHistogram(
        count=6, sum=1e6, zero_threshold=0.1, zero_count=1, positive={1: 3}, negative={0: 2}
    )

    assert text(h) == "{count:6, sum:1e+06, [-1,-0.5):2, [-0.1,0.1]:1, (1,2]:3}"


def test_a_custom_bucket_around_zero_is_as_wide_as_its_bounds():
    h = FloatHistogram(CUSTOM_BUCKETS, 4, 0, positive={1: 4}, custom_values=(-1.0, 1.0))

    assert quantile(0.25, h).value == -0.5
