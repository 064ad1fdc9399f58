"""Native histograms as senders encode them are decoded to the buckets they were made of."""

import contextlib
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.remote_writing import V1
from varve.gateway.histograms import InvalidHistogram, decode_histogram
from varve.gateway.refusals import Malformed
from varve.model.staleness import STALE_BITS

counts = st.dictionaries(st.integers(-1000, 1000), st.integers(1, 1 << 40), max_size=12)
NS = 1_795_740_000_000


def spans_and_counts(buckets):
    """Spans of neighbours, offsets from the end of the one before, and the counts in order."""
    spans, found, end = [], [], 0
    for index in sorted(buckets):
        if spans and index == end:
            spans[-1][1] += 1
        else:
            spans.append([index - end, 1])
        end = index + 1
        found.append(buckets[index])
    return spans, found


def message(positive, negative=(), *, is_float=False, **changes):
    """A Histogram of these buckets."""
    zero = changes.pop("zero_count", 0)
    total = sum(positive.values()) + sum(dict(negative).values()) + zero
    made = V1["Histogram"](timestamp=NS, sum=changes.pop("sum", 1.5), **changes)
    if is_float:
        made.count_float, made.zero_count_float = total, zero
    else:
        made.count_int, made.zero_count_int = total, zero
    for side, buckets in (("positive", positive), ("negative", dict(negative))):
        spans, found = spans_and_counts(buckets)
        for offset, length in spans:
            getattr(made, f"{side}_spans").add(offset=offset, length=length)
        if is_float:
            getattr(made, f"{side}_counts").extend(found)
        else:
            deltas = [b - a for a, b in zip([0, *found], found, strict=False)]
            getattr(made, f"{side}_deltas").extend(deltas)
    return made


@given(counts, counts, st.integers(0, 1 << 30), st.integers(-4, 8), st.booleans())
def test_buckets_of_integers_and_floats_come_back(positive, negative, zero, schema, is_float):
    made = message(
        positive, negative, is_float=is_float, zero_count=zero, schema=schema, zero_threshold=0.5
    )

    found = decode_histogram(made.SerializeToString())

    assert found.ts_ms == NS
    histogram = found.histogram
    assert dict(histogram.positive) == positive
    assert dict(histogram.negative) == negative
    assert (histogram.schema, histogram.zero_count, histogram.zero_threshold) == (schema, zero, 0.5)
    assert histogram.count == sum(positive.values()) + sum(negative.values()) + zero


@given(counts, st.integers(9, 52))
def test_a_finer_schema_than_is_stored_keeps_every_observation(positive, schema):
    found = decode_histogram(message(positive, schema=schema).SerializeToString()).histogram

    assert found.schema == 8
    coarse = {}
    for index, count in positive.items():
        target = math.ceil(index / 2 ** (schema - 8))
        coarse[target] = coarse.get(target, 0) + count
    assert dict(found.positive) == coarse


def test_custom_buckets_have_their_bounds():
    made = message({0: 2, 2: 3}, schema=-53, custom_values=[0.1, 1.0])

    found = decode_histogram(made.SerializeToString()).histogram

    assert found.custom_values == (0.1, 1.0)
    assert dict(found.positive) == {0: 2, 2: 3}


def test_the_stale_marker_in_the_sum_ends_the_series():
    stale = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]

    found = decode_histogram(message({}, sum=stale).SerializeToString())

    assert (found.ts_ms, found.histogram) == (NS, None)


def test_observations_of_nan_are_in_no_bucket():
    made = message({1: 5}, sum=math.nan)
    made.count_int = 7

    assert decode_histogram(made.SerializeToString()).histogram.count == 7


def _change(made, **values):
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _with_span(made, offset):
    made.positive_spans.add(offset=offset, length=0)
    return made


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (_change(message({1: 5}), count_int=4), "5 observations are in buckets"),
        (_change(message({1: 5}, sum=math.nan), count_int=4), "5 observations"),
        (message({1: 5}, schema=53), "schema 53 is unknown"),
        (message({1: 5}, schema=-5), "schema -5 is unknown"),
        (message({1: -5}, is_float=True), "negative|counts -5"),
        (_with_span(message({1: 5}), -1), "negative offset"),
        (message({1: 5}, custom_values=[1.0]), "schema -53 only"),
        (message({3: 5}, schema=-53, custom_values=[1.0, 2.0]), "have no bucket 3"),
        (message({0: 5}, schema=-53, custom_values=[2.0, 1.0]), "do not ascend"),
        (message({0: 5}, schema=-53, custom_values=[1.0, math.inf]), "Inf"),
        (message({0: 5}, {1: 1}, schema=-53, custom_values=[1.0]), "no negative ones"),
        (message({0: 5}, schema=-53, custom_values=[1.0], zero_count=1), "no zero bucket"),
    ],
)
def test_what_no_histogram_can_be_is_refused_by_name(made, complaint):
    with pytest.raises(InvalidHistogram, match=complaint):
        decode_histogram(made.SerializeToString())


def test_a_length_that_lies_takes_no_time():
    made = V1["Histogram"](count_int=0)
    made.positive_spans.add(offset=0, length=2**32 - 1)

    with pytest.raises(InvalidHistogram, match="over 20,000 buckets"):
        decode_histogram(made.SerializeToString())


@given(st.binary(max_size=80))
def test_any_bytes_are_a_histogram_or_refused(content):
    with contextlib.suppress(Malformed, InvalidHistogram):
        assert isinstance(decode_histogram(content).ts_ms, int)


def test_a_bucket_that_no_number_is_in_is_refused():
    made = V1["Histogram"](count_int=2)
    made.positive_spans.add(offset=2**31 - 1, length=1)
    made.positive_spans.add(offset=2**31 - 1, length=1)
    made.positive_deltas.extend([1, 0])

    with pytest.raises(InvalidHistogram, match="beyond every number"):
        decode_histogram(made.SerializeToString())
