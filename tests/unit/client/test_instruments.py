import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.client.instruments import (
    BUCKETS,
    Counter,
    Gauge,
    Histogram,
    Instruments,
    Summary,
    buckets,
    finite,
    number,
    quantiles,
    timestamp,
)
from varve.model.errors import BadRequest

NOW_MS = 1_700_000_000_000


def _values(instrument, ts_ms=NOW_MS):
    return {
        (s.series.metric, dict(s.series.tags).get("le") or dict(s.series.tags).get("quantile")): (
            s.value
        )
        for s in instrument.read(ts_ms)
    }


@given(st.lists(st.integers(-100, 100).map(lambda n: n / 8), max_size=40))
def test_a_buckets_count_is_of_the_values_up_to_its_bound(observed):
    bounds = (-1.0, 0.0, 2.5)
    histogram, _ = Instruments().find(Histogram, "h", None, bounds)
    for value in observed:
        histogram.observe(value)

    values = _values(histogram)

    for bound in bounds:
        assert values["h_bucket", repr(bound)] == sum(v <= bound for v in observed)
    assert values["h_bucket", "+Inf"] == values["h_count", None] == len(observed)
    assert values["h_sum", None] == sum(observed)


def test_a_summary_has_quantiles_sum_and_count():
    summary, _ = Instruments().find(Summary, "s", None, (0.5, 1.0))
    for value in (1.0, 2.0, 3.0):
        summary.observe(value, NOW_MS)

    values = _values(summary)

    assert values["s_sum", None] == 6
    assert values["s_count", None] == 3
    assert values["s", "0.5"] == pytest.approx(2.0, rel=0.0109)
    assert values["s", "1.0"] == pytest.approx(3.0, rel=0.0109)


def test_every_series_says_its_type_unit_and_help():
    histogram, _ = Instruments().find(Histogram, "h", {"a": "b"}, BUCKETS, "seconds", "How long.")

    assert {(s.type, s.unit, s.help) for s in histogram.series} == {
        ("histogram", "seconds", "How long.")
    }
    assert all(("a", "b") in s.tags for s in histogram.series)


def test_equal_labels_are_one_instrument_however_they_are_written():
    instruments = Instruments({"job": "shop"})

    first, new = instruments.find(Counter, "c", {"a": "1", "b": "2"})
    same = [
        instruments.find(Counter, "c", tags)
        for tags in (
            {"b": "2", "a": "1"},
            {"a": "1", "b": "2", "job": "shop"},
            {"a": "1", "b": "2", "none": ""},
        )
    ]

    assert new
    assert same == [(first, False)] * 3
    assert list(instruments) == [first]
    assert first.series[0].tags == (("a", "1"), ("b", "2"), ("job", "shop"))
    assert instruments.remove("c", {"b": "2", "a": "1"}) is first
    again, new = instruments.find(Counter, "c", {"a": "1", "b": "2"})
    assert new
    assert again is not first


def test_a_label_of_its_own_goes_before_the_producers():
    gauge, _ = Instruments({"job": "shop"}).find(Gauge, "g", {"job": "other"})

    assert gauge.series[0].tags == (("job", "other"),)


@pytest.mark.parametrize(
    ("kind", "name", "tags", "words"),
    [
        (Gauge, "", {}, "no name"),
        (Gauge, None, {}, "a text, not None"),
        (Gauge, "g", {"": "x"}, "empty name"),
        (Gauge, "g", {"__name__": "x"}, "__name__"),
        (Gauge, "g", {"code": 200}, "'code': 200"),
        (Gauge, "g", {"code": ["a"]}, "'code': ['a']"),
        (Gauge, "g", [("a", "b")], "a mapping"),
        (Gauge, "g", {"a": "\ud800"}, "not valid Unicode"),
        (Gauge, "g\ud800", {}, "not valid Unicode"),
        (Histogram, "h", {"le": "1"}, "the label le is the histogram's own"),
        (Summary, "s", {"quantile": "1"}, "the label quantile is the summary's own"),
    ],
)
def test_a_name_or_label_that_cannot_be_is_refused(kind, name, tags, words):
    instruments = Instruments()

    with pytest.raises(BadRequest) as caught:
        instruments.find(kind, name, tags)

    assert words in str(caught.value)
    assert list(instruments) == []


def test_the_producers_own_tags_are_judged_at_once():
    with pytest.raises(BadRequest, match="__name__"):
        Instruments({"__name__": "x"})


def test_a_name_is_of_one_kind_and_shape():
    instruments = Instruments()
    instruments.find(Histogram, "h", {"a": "1"}, (1.0,))

    with pytest.raises(BadRequest, match="h is a histogram already"):
        instruments.find(Counter, "h", {"a": "2"})
    with pytest.raises(BadRequest, match="h has 1 already, not 1, 2"):
        instruments.find(Histogram, "h", {"a": "1"}, (1.0, 2.0))


def test_the_marker_comes_after_every_sample_even_if_the_clock_was_set_back():
    gauge, _ = Instruments().find(Gauge, "g", None)
    list(gauge.read(NOW_MS))

    assert [(s.ts_ms, s.value) for s in gauge.end(NOW_MS - 5)] == [(NOW_MS + 1, None)]
    assert [s.ts_ms for s in gauge.end(NOW_MS + 5)] == [NOW_MS + 5]
    gauge.own_time = True
    assert [s.ts_ms for s in gauge.end(NOW_MS + 5)] == [NOW_MS + 1]


@pytest.mark.parametrize("value", [1, 1.0, True, np.float32(1), np.int64(1), Decimal(1)])
def test_whatever_is_a_number_is_one(value):
    assert number("n", value) == 1.0


@pytest.mark.parametrize("value", ["1", None, b"1", 1j, [1], np.array([1, 2]), 10**400])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(BadRequest, match="^n: "):
        number("n", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_would_never_leave_a_sum_is_refused(value):
    with pytest.raises(BadRequest, match="cannot be added up"):
        finite("n", value)


@pytest.mark.parametrize(
    ("ts_ms", "words"),
    [
        (1_700_000_000, "looks like seconds"),
        (1_700_000_000_000_000, "looks like µs"),
        (1_700_000_000_000.5, "whole milliseconds"),
        ("now", "whole milliseconds"),
    ],
)
def test_a_timestamp_in_another_unit_is_refused(ts_ms, words):
    with pytest.raises(BadRequest, match=words):
        timestamp("n", ts_ms)


@pytest.mark.parametrize("bounds", [[], [2, 1], [1, 1], [math.nan], [math.inf], ["1"]])
def test_buckets_that_are_not_ascending_bounds_are_refused(bounds):
    with pytest.raises(BadRequest, match="^h: "):
        buckets("h", bounds)


def test_the_infinite_bucket_may_be_named():
    assert buckets("h", [1, math.inf]) == (1.0,)


@pytest.mark.parametrize("wanted", [[1.1], [-0.1], [0.5, 0.5], ["0.5"], [math.nan]])
def test_quantiles_out_of_range_are_refused(wanted):
    with pytest.raises(BadRequest, match="^s: "):
        quantiles("s", wanted)


def test_a_call_that_is_refused_does_not_decide_what_a_name_is():
    instruments = Instruments()
    with pytest.raises(BadRequest):
        instruments.find(Counter, "x", None, unit=3)

    gauge, is_new = instruments.find(Gauge, "x", None)

    assert (type(gauge), is_new) == (Gauge, True)


def test_an_instrument_that_is_removed_is_found_by_none_of_its_names():
    instruments = Instruments({"job": "shop"})
    gauge, _ = instruments.find(Gauge, "g", {})
    assert instruments.find(Gauge, "g", {"job": "shop"})[0] is gauge

    assert instruments.remove("g", {}) is gauge

    assert instruments.remove("g", {}) is None
    for tags in ({}, {"job": "shop"}):
        assert instruments.find(Gauge, "g", tags)[0] is not gauge
