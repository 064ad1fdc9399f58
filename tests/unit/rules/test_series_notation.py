import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.promql.histograms.native_histogram import FloatHistogram
from varve.rules.series_notation import read_histogram, read_values, write_histogram


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1 2  3", [1.0, 2.0, 3.0]),
        ("1+2x3", [1.0, 3.0, 5.0, 7.0]),
        ("5-2x2", [5.0, 3.0, 1.0]),
        ("-1x2", [-1.0, -1.0, -1.0]),
        ("0x3", [0.0] * 4),
        ("_ 1 _x2", [None, 1.0, None, None]),
        ("1e3+.5x1", [1000.0, 1000.5]),
        ("Inf -inf", [math.inf, -math.inf]),
        ("", []),
    ],
)
def test_values(text, values):
    assert read_values(text) == values


@pytest.mark.parametrize(
    "text", ["a", "1+x2", "1x", "stalex2", "1 + 1x2", "0x1f", "{{", "{{a:1}}", "1x99999999", "1,2"]
)
def test_what_is_no_value_is_refused(text):
    with pytest.raises(ValueError, match="."):
        read_values(text)


def test_histograms_may_grow():
    first, second, third = read_values(
        "{{sum:3 count:2 buckets:[2]}}+{{sum:1 count:1 buckets:[1]}}x2"
    )

    assert (first.count, second.count, third.count) == (2.0, 3.0, 4.0)
    assert third.equals(read_histogram("count:4 sum:5 buckets:[4]"))


COUNTS = st.dictionaries(st.integers(-5, 5), st.integers(1, 9).map(float), max_size=4)


@given(COUNTS, COUNTS, st.integers(-4, 8), st.sampled_from(["unknown", "gauge", "reset"]))
def test_a_histogram_is_read_back_from_its_text(positive, negative, schema, hint):
    histogram = FloatHistogram(schema, 9.0, -0.5, 0.001, 2.0, positive, negative, hint=hint)

    text = write_histogram(histogram)

    back = read_histogram(text[2:-2])
    assert back.equals(histogram)
    assert back.hint == hint
