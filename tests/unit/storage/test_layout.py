import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import WrittenTables
from varve.model.schema import table_schema
from varve.model.staleness import to_column
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.layout import ARRIVAL, COMPACT, encode
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

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

    read = pq.read_table(pa.BufferReader(encode(wanted, SCHEMA, layout, BOUNDED)))

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
        ((524_288,), [524_288]),
        ((524_289,), [524_288, 1]),
        ((400_000, 400_000, 10), [400_000, 400_010]),
        # An early end would make a row group of less than half.
        ((200_000, 600_000), [524_288, 275_712]),
        ((300_000, 100_000, 300_000), [400_000, 300_000]),
    ],
)
def test_row_groups_end_with_a_metric_where_one_ends_in_their_second_half(sizes, groups):
    encoded = encode(metrics(*sizes), SCHEMA, COMPACT, BOUNDED)

    metadata = pq.ParquetFile(pa.BufferReader(encoded)).metadata
    found = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    assert [group.num_rows for group in found] == [min(s, 524_288) for s in groups]
    for group in found:
        assert [c.column_index for c in group.sorting_columns] == [0, 1]
        assert group.column(0).statistics.has_min_max
        assert not group.column(2).is_stats_set


def test_series_with_the_same_times_take_little_more_than_one(tmp_path):
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


def test_every_engine_reads_the_same_rows(tmp_path):
    """What Spark makes of it is in tests/spark."""
    store = WrittenTables(str(tmp_path)).store
    rng = np.random.default_rng(2)
    ids = np.sort(rng.integers(-(1 << 62), 1 << 62, 50)).repeat(2_000)
    rows = pa.table(
        {
            "series_id": ids,
            "ts": np.tile(np.arange(2_000) * 15_000, 50),
            "value": to_column(np.where(rng.random(len(ids)) < 0.1, np.nan, ids / 7)),
        },
        schema=SCHEMA.arrow,
    )
    file = write_file(store, "samples", rows, COMPACT)
    commit(Table(store, "samples"), [file], transactions={"test": Step(None, 0)})
    path = str(tmp_path / "samples" / file.path)

    delta = (
        DeltaTable(store.uri("samples"))
        .to_pyarrow_table()
        .sort_by([("series_id", "ascending"), ("ts", "ascending")])
    )
    duck = duckdb.sql(f"FROM read_parquet('{path}') ORDER BY series_id, ts").to_arrow_table()
    ours = snapshot(store, "samples").arrow_dataset().to_table()

    polars = pl.read_parquet(path).to_arrow()

    for read in (delta, duck, ours, polars, ds.dataset(path).to_table()):
        assert read.num_rows == rows.num_rows
        for name in rows.schema.names:
            left, right = read[name].combine_chunks(), rows[name].combine_chunks()
            assert left.is_null().equals(right.is_null())
            assert left.drop_null().to_numpy().tobytes() == right.drop_null().to_numpy().tobytes()
