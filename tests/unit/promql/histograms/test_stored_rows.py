import itertools
import math

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from varve.ingest.record_rules import why_invalid
from varve.model.schema import table_schema
from varve.promql.histograms.native_histogram import CUSTOM_BUCKETS, FloatHistogram
from varve.promql.histograms.stored_rows import COLUMNS, histogram_of, row_of

buckets = st.dictionaries(st.integers(-(2**31), 2**31 - 1), st.floats(0, 1e300), max_size=20)
numbers = st.floats(allow_nan=True)
hints = st.sampled_from(["unknown", "reset", "not_reset", "gauge"])
exponential = st.builds(
    FloatHistogram,
    st.integers(-4, 8),
    st.floats(0, 1e300),
    numbers,
    st.floats(0, 1e9),
    st.floats(0, 1e300),
    buckets,
    buckets,
    st.just(()),
    hints,
)
bounds = st.lists(st.floats(allow_nan=False, allow_infinity=False), unique=True).map(sorted)
custom = st.builds(
    lambda b, hint: FloatHistogram(
        CUSTOM_BUCKETS, float(len(b)), 1.0, positive=dict.fromkeys(range(len(b)), 1.0),
        custom_values=tuple(b), hint=hint,
    ),
    bounds,
    hints,
)  # fmt: skip


def stored(histogram):
    """The row as it comes back from a table."""
    row = row_of(histogram) | {"series_id": 1, "ts": 2}
    table = pa.Table.from_pylist([row], schema=table_schema("histograms").arrow)
    assert why_invalid("histograms", table.select(list(COLUMNS))) == ""
    return histogram_of(table.to_pylist()[0])


@given(exponential | custom)
def test_a_histogram_comes_back_equal(histogram):
    # An index of the table has 32 bits, and so has the distance of two spans.
    indices = [sorted(side) for side in (histogram.positive, histogram.negative)]
    if any(b - a > 2**31 for side in indices for a, b in itertools.pairwise(side)):
        return

    found = stored(histogram)

    assert found.equals(histogram)
    assert found.hint == histogram.hint


def test_a_staleness_marker_comes_back_as_one():
    assert stored(None) is None


def test_columns_are_those_of_the_table():
    assert [*COLUMNS] == table_schema("histograms").names()[2:]
    assert not math.isnan(stored(FloatHistogram(0, 1.0, 1.0)).sum)
