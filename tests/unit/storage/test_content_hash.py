import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.schema import table_schema
from varve.storage.content_hash import content_hash, row_hashes

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "value": pa.float64(),
        "text": pa.string(),
        "tags": pa.map_(pa.string(), pa.string()),
        "sketch": pa.list_(pa.struct({"key": pa.int32(), "count": pa.int64()})),
    }
)
texts = st.text(max_size=3)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(-(2**63), 2**63 - 1),
            "value": st.none() | st.floats(allow_nan=False),
            "text": st.none() | texts,
            "tags": st.none()
            | st.dictionaries(texts, texts, max_size=2).map(lambda d: [*d.items()]),
            "sketch": st.none()
            | st.lists(
                st.fixed_dictionaries({"key": st.integers(-5, 5), "count": st.integers(0, 5)}),
                max_size=3,
            ),
        }
    ),
    max_size=6,
)


def table(of):
    return pa.Table.from_pylist(of, SCHEMA)


def canonical(of):
    """-0.0 is another number than 0.0, bit by bit."""
    return sorted(repr(row) for row in of)


@given(rows, st.randoms())
def test_the_order_of_rows_and_their_chunks_do_not_count(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    half = len(found) // 2
    chunked = pa.concat_tables([table(shuffled[:half]), table(shuffled[half:])])

    assert content_hash(chunked) == content_hash(table(found))
    assert content_hash(table([{}, *found])[1:] if found else table([])) == content_hash(
        table(found)
    )


@given(rows, rows)
def test_sets_of_rows_that_differ_have_different_hashes(left, right):
    equal = canonical(left) == canonical(right)

    assert (content_hash(table(left)) == content_hash(table(right))) == equal


def test_a_row_twice_is_not_a_row_once_and_columns_do_not_stand_for_each_other():
    once = pa.table({"a": pa.array([1], pa.int64()), "b": pa.array([2], pa.int64())})
    swapped = pa.table({"a": pa.array([2], pa.int64()), "b": pa.array([1], pa.int64())})

    assert content_hash(pa.concat_tables([once, once])) != content_hash(once)
    assert content_hash(swapped) != content_hash(once)
    assert len(np.unique(row_hashes(pa.concat_tables([once, swapped])))) == 2


@pytest.mark.parametrize("name", ["samples", "rollup_1m", "rollup_1d", "series"])
def test_every_column_of_the_tables_can_be_hashed(name):
    schema = table_schema(name).arrow

    assert content_hash(schema.empty_table()) == 0
    row_hashes(pa.Table.from_arrays([pa.nulls(3, f.type) for f in schema], schema=schema))
