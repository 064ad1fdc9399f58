import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from varve.model.staleness import NORMAL_NAN, STALE_NAN, from_column, is_stale, to_column

columns = st.lists(st.none() | st.floats(allow_nan=True))


@given(columns)
def test_null_is_the_stale_marker_and_nothing_else_is(rows):
    values = from_column(pa.array(rows, pa.float64()))

    assert is_stale(values).tolist() == [row is None for row in rows]
    assert to_column(values).is_null().to_pylist() == [row is None for row in rows]


@given(columns)
def test_equal_samples_have_equal_bits(rows):
    values = from_column(pa.array(rows, pa.float64()))

    numbers = values[~np.isnan(values)]
    assert not np.signbit(numbers[numbers == 0]).any()
    ordinary = values[np.isnan(values) & ~is_stale(values)].view(np.int64)
    assert set(ordinary.tolist()) <= {int(np.array([NORMAL_NAN]).view(np.int64)[0])}


def test_chunks_are_one_column():
    column = pa.chunked_array([[1.0, None], [], [-0.0, math.nan]], pa.float64())

    values = from_column(column)

    assert is_stale(values).tolist() == [False, True, False, False]
    assert column.to_pylist()[2] == 0.0


def test_the_stale_marker_survives_a_copy():
    assert is_stale(np.array([STALE_NAN])).all()
    assert not is_stale(np.array([NORMAL_NAN, math.nan, -math.nan, 0.0])).any()
