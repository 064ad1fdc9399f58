"""Every table and view, as it arrived and compacted, in engines that are not ours: equal rows, and
files that cannot matter are not read. Spark is in tests/spark/test_other_readers.py.
"""

from __future__ import annotations

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from tests import readers
from tests.readers import TABLES_WITH_ROWS, canonical
from varve.model.views import VIEWS, view_sql
from varve.model.window import HOUR_MS
from varve.query.sql import connect
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

home, store = readers.home, readers.store


def delta_rs(store, table):
    return DeltaTable(store.uri(table)).to_pyarrow_table()


def polars(store, table):
    return pl.scan_delta(store.uri(table)).collect().to_arrow()


def duck(store, table):
    return connect(store, f"FROM {table}").sql(f"FROM {table}").to_arrow_table()


def duck_parquet(store, table):
    """Without the log, file by file: what any reader of Parquet sees."""
    files = [store.place(f.path)[1] for f in snapshot(store, table).files]
    paths = [f"{store.uri(table)}/{path.rsplit('/', 1)[-1]}" for path in files]
    return duckdb.sql(f"FROM read_parquet({paths}, union_by_name = true)").to_arrow_table()


@pytest.mark.parametrize("table", TABLES_WITH_ROWS)
@pytest.mark.parametrize("read", [delta_rs, polars, duck, duck_parquet])
def test_an_engine_reads_the_rows_of_a_table(store, table, read):
    ours = snapshot(store, table).scan(Bounds())

    found = read(store, table)

    assert canonical(table, found) == canonical(table, ours)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_the_same_rows_when_its_files_are_compacted(home, view):
    query = f"SELECT * FROM {view} ORDER BY ALL"

    hot, compacted = (connect(s, query).sql(query).fetchall() for s in (home.hot, home.compacted))

    assert repr(compacted) == repr(hot)
    assert hot or view in {"metrics_1d", "rejects"}  # no day has closed, nothing was refused


def test_the_view_of_samples_over_tables_that_polars_has_read(store):
    """The view's SQL needs nothing of ours: any engine's tables do."""
    tables = {name: polars(store, name) for name in ("samples", "series")}
    connection = duckdb.connect()
    for name, rows in tables.items():
        connection.register(name, rows)
    query = "SELECT series_id, ts, value FROM raw ORDER BY ALL"
    connection.execute(f"CREATE VIEW raw AS {view_sql('raw', 'duckdb')}")

    assert repr(connection.sql(query).fetchall()) == repr(
        connect(store, query).sql(query).fetchall()
    )


def test_files_of_other_hours_are_not_read_by_delta_rs(store):
    """They are taken away before: whoever opened one would fail."""
    table = DeltaTable(store.uri("samples"))
    start = min(f.minimum["ts"] for f in snapshot(store, "samples").files)
    until = start // HOUR_MS * HOUR_MS + HOUR_MS
    files = table.get_add_actions(flatten=True)
    lows = dict(zip(files["path"].to_pylist(), files["min.ts"].to_pylist(), strict=True))

    plan = table.to_pyarrow_dataset().get_fragments(filter=ds.field("ts") <= until)

    read = {fragment.path.rsplit("/", 1)[-1] for fragment in plan}
    assert read == {path for path, low in lows.items() if low <= until}
    assert len(read) < len(lows)


def test_files_of_other_hours_are_not_read_by_polars_and_duckdb(home):
    """In a copy of the tables without the later files, a query of the first hour finds them all;
    one of all hours fails.
    """
    store = home.without_later_hours()
    until = home.first_hour_end_ms
    lazy = pl.scan_delta(store.uri("samples"))
    query = f"SELECT count(*) FROM samples WHERE ts <= {until}"

    by_polars = lazy.filter(pl.col("ts") <= until).select(pl.len()).collect().item()
    ((by_duckdb,),) = connect(store, query).sql(query).fetchall()

    assert by_polars == by_duckdb == home.rows_of_first_hour
    with pytest.raises(FileNotFoundError):
        lazy.select(pl.col("ts").max()).collect()
    with pytest.raises((duckdb.Error, FileNotFoundError)):
        connect(store, "FROM samples").sql("SELECT max(ts) FROM samples").fetchall()
