import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.model.schema import table_schema
from varve.storage.layout import ARRIVAL, COMPACT, encode
from varve.storage.scaled_values import read_columns

SCHEMA = table_schema("samples")
BOUNDED = ["series_id", "ts"]
METRIC = 1 << 52

values = st.one_of(st.none(), st.floats(), st.integers(-(10**6), 10**6).map(float))
samples = st.lists(
    st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1 << 41), values), min_size=1
)


def table(rows):
    columns = zip(zip(*sorted(rows, key=lambda r: r[:2]), strict=True), SCHEMA.arrow, strict=True)
    return pa.table(
        [pa.array(c, f.type, from_pandas=False) for c, f in columns], schema=SCHEMA.arrow
    )


@given(samples, st.sampled_from([ARRIVAL, COMPACT]))
def test_every_bit_is_read_again(rows, layout):
    wanted = table(rows)

    file = pq.ParquetFile(pa.BufferReader(encode(wanted, SCHEMA, layout, BOUNDED)))
    read = read_columns(file, SCHEMA.names())

    assert read["series_id"].equals(wanted["series_id"])
    assert read["ts"].equals(wanted["ts"])
    assert read["value"].is_null().equals(wanted["value"].is_null())
    bits = [t["value"].fill_null(0.0).to_numpy().view(np.int64) for t in (read, wanted)]
    assert np.array_equal(*bits)


def metrics(*sizes):
    """Rows of some metrics, one after the other."""
    ids = np.concatenate([np.full(n, METRIC * k, np.int64) for k, n in enumerate(sizes)])
    ts = np.arange(len(ids))
    return pa.table({"series_id": ids, "ts": ts, "value": ts / 8}, schema=SCHEMA.arrow)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ((10,), [10]),
        ((1_048_576,), [1_048_576]),
        ((1_048_577,), [1_048_576, 1]),
        ((800_000, 800_000, 10), [800_000, 800_010]),
        # An early end would make a row group of less than half.
        ((400_000, 1_200_000), [1_048_576, 551_424]),
        ((600_000, 200_000, 600_000), [800_000, 600_000]),
    ],
)
def test_row_groups_end_with_a_metric_where_one_ends_in_their_second_half(sizes, groups):
    encoded = encode(metrics(*sizes), SCHEMA, COMPACT, BOUNDED)

    metadata = pq.ParquetFile(pa.BufferReader(encoded)).metadata
    found = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    assert [group.num_rows for group in found] == groups
    for group in found:
        assert [c.column_index for c in group.sorting_columns] == [0, 1]
        assert group.column(0).statistics.has_min_max
        assert not group.column(2).is_stats_set


def test_series_with_the_same_times_take_little_more_than_one():
    rng = np.random.default_rng(1)
    times = np.cumsum(15_000 + rng.integers(-4, 5, 240))
    series = 400

    def size(count):
        rows = pa.table(
            {
                "series_id": np.repeat(np.arange(count), 240),
                "ts": np.tile(times, count),
                "value": np.ones(240 * count),
            },
            schema=SCHEMA.arrow,
        )
        return len(encode(rows, SCHEMA, COMPACT, BOUNDED))

    assert size(series) - size(1) < 240 * (series - 1) * 0.15
