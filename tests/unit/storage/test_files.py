from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varve.model.schema import TABLES, table_schema
from varve.storage.files import NewFile, fingerprint, require_valid, write_file
from varve.storage.store import Store

ROWS = {
    "series_id": [-(2**63), -5, 7, 2**63 - 1],
    "ts": [0, 1_700_000_000_000, -1, 5],
    "value": [1.5, None, math.nan, -math.inf],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    for name in TABLES:
        store.prepare(name)
    return store


def samples() -> pa.Table:
    return pa.table(ROWS, schema=table_schema("samples").arrow)


def example(kind: pa.DataType):
    """A value of a type, for any column of any table."""
    if pa.types.is_map(kind):
        return [("k", "v")]
    if pa.types.is_list(kind):
        return [example(kind.value_type)]
    if pa.types.is_struct(kind):
        return {f.name: example(f.type) for f in kind}
    if pa.types.is_string(kind):
        return "é"
    if pa.types.is_binary(kind):
        return b"\xff"
    return pa.scalar(1).cast(kind).as_py()


def test_a_file_says_what_is_in_it(store):
    new = write_file(store, "samples", samples())

    path = Path(store.uri("samples")) / new.path
    assert (new.size, new.rows) == (path.stat().st_size, 4)
    assert (new.minimum, new.maximum) == (
        {"series_id": -(2**63), "ts": -1},
        {"series_id": 2**63 - 1, "ts": 1_700_000_000_000},
    )
    assert NewFile.from_json(new.to_json()) == new
    require_valid(new, table_schema("samples"))


def test_every_reader_gets_the_rows_back(store):
    path = str(Path(store.uri("samples")) / write_file(store, "samples", samples()).path)

    assert repr(pq.read_table(path).to_pydict()) == repr(samples().to_pydict())
    assert repr(duckdb.read_parquet(path).to_arrow_table().to_pydict()) == repr(ROWS)
    pd.testing.assert_frame_equal(pd.read_parquet(path), samples().to_pandas())


@pytest.mark.parametrize("name", TABLES)
def test_a_row_of_every_table_survives(store, name):
    schema = table_schema(name).arrow
    rows = pa.table({f.name: pa.array([example(f.type)], f.type) for f in schema}, schema=schema)

    new = write_file(store, name, rows)

    require_valid(new, table_schema(name))
    path = str(Path(store.uri(name)) / new.path)
    assert pq.read_table(path).to_pylist() == rows.to_pylist()
    assert len(duckdb.read_parquet(path).limit(2).fetchall()) == 1


def test_integers_are_packed_and_values_plain(store):
    path = Path(store.uri("samples")) / write_file(store, "samples", samples()).path

    group = pq.ParquetFile(path).metadata.row_group(0)

    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(3)}
    assert "DELTA_BINARY_PACKED" in encodings["series_id"]
    assert "DELTA_BINARY_PACKED" in encodings["ts"]
    # Spark's vectorised reader knows no BYTE_STREAM_SPLIT before 4.3.
    assert set(encodings["value"]) == {"PLAIN", "RLE"}
    assert group.column(0).compression == "ZSTD"
    assert group.column(0).is_stats_set
    assert not group.column(2).is_stats_set


def test_no_rows_or_other_columns_are_refused(store):
    with pytest.raises(ValueError, match="no rows"):
        write_file(store, "samples", samples().slice(0, 0))
    with pytest.raises(ValueError, match="are not those of samples"):
        write_file(store, "samples", samples().select(["ts", "series_id", "value"]))


def test_a_file_may_be_committed_by_a_release_that_words_a_comment_otherwise():
    schema = table_schema("series")
    reworded = replace(
        schema, columns=tuple(replace(c, comment="In other words.") for c in schema.columns)
    )
    wider = replace(schema, columns=(*schema.columns, replace(schema.columns[0], name="more")))

    assert fingerprint(reworded) == fingerprint(schema)
    assert fingerprint(wider) != fingerprint(schema)
