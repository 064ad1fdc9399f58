"""Observations in native histograms: each is in the bucket that holds it, none is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gateway.decoding import Decoding
from varve.gateway.negotiation import Version
from varve.gateway.statsd.aggregation import Aggregation
from varve.gateway.statsd.native import NativeObservations, bucket_of
from varve.promql.histograms.native_histogram import exponential_bound

SIZES = st.floats(5e-324, allow_infinity=False) | st.builds(
    exponential_bound, st.integers(-8_000, 8_000), st.integers(3, 3)
).filter(lambda size: 0 < size < 1e308)


@given(SIZES, st.integers(-4, 3))
def test_the_bucket_of_a_number_is_the_one_with_the_bounds_around_it(size, schema):
    index = bucket_of(size, schema)

    assert exponential_bound(index - 1, schema) < size <= exponential_bound(index, schema)


OBSERVED = st.lists(
    st.tuples(st.floats(-1e300, 1e300) | st.integers(-5, 5).map(float), st.integers(0, 3)),
    max_size=400,
)


@given(OBSERVED)
def test_a_histogram_counts_each_observation_where_it_belongs_at_any_resolution(observed):
    native = NativeObservations()
    for value, times in observed:
        native.observe(value, times)

    found = native.histogram()

    assert len(found.positive) + len(found.negative) <= 160 or found.schema == -4
    assert found.count == sum(times for _, times in observed)
    assert found.zero_count == sum(
        times for value, times in observed if abs(value) <= found.zero_threshold
    )
    sides = {True: dict(found.positive), False: dict(found.negative)}
    for value, times in observed:
        if times and abs(value) > found.zero_threshold:
            sides[value > 0][bucket_of(abs(value), found.schema)] -= times
    assert not any(count for side in sides.values() for count in side.values())


def test_few_observations_keep_the_finest_buckets_and_many_widen_them():
    native = NativeObservations()
    for n in range(160):
        native.observe(exponential_bound(n, 3), 1)
    assert native.histogram().schema == 3
    native.observe(exponential_bound(160, 3), 1)
    assert native.histogram().schema == 2


def test_timers_become_a_native_histogram_that_ends_when_it_is_forgotten():
    aggregation = Aggregation(are_native=True, forgotten_after_ms=5_000)
    aggregation.take(b"a.b:320|ms|@0.5|#env:prod,le:1\na.b:500:-1|h|#env:prod", 0)

    taken, ended = (
        Decoding().decode(aggregation.flush(at).message().content.tobytes(), Version.V2).histograms
        for at in (1_000, 9_000)
    )

    [(series, sample)] = taken
    assert (series.metric, series.tags, series.type) == ("a_b", (("env", "prod"),), "histogram")
    assert sample.ts_ms == 1_000
    assert (sample.histogram.count, sample.histogram.sum) == (4, pytest.approx(499.64))
    assert sample.histogram.positive == {bucket_of(0.32, 3): 2, bucket_of(500, 3): 1}
    assert sample.histogram.negative == {0: 1}
    [(_, end)] = ended
    assert end.ts_ms == 9_000
    assert end.histogram is None
