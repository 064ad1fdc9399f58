"""Spark reads every table and view, as it arrived and compacted, by its vectorised reader: equal
rows, and files that cannot matter are not read. Other engines are in
tests/integration/test_other_readers.py.
"""

from __future__ import annotations

import pytest

from tests import readers
from tests.readers import TABLES_WITH_ROWS, canonical
from varve.model.views import VIEWS, view_sql
from varve.query.sql import connect
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

pytestmark = pytest.mark.spark


home, store = readers.home, readers.store


@pytest.fixture(scope="module")
def views(spark, store):
    for table in (*TABLES_WITH_ROWS, "rollup_1d", "quarantine"):
        spark.read.format("delta").load(store.uri(table)).createOrReplaceTempView(table)
    for view in VIEWS:
        spark.sql(view_sql(view, "spark")).createOrReplaceTempView(view)
    return spark


@pytest.mark.parametrize("table", TABLES_WITH_ROWS)
def test_spark_reads_the_rows_of_a_table(views, store, table):
    found = views.table(table).toArrow()

    assert canonical(table, found) == canonical(table, snapshot(store, table).scan(Bounds()))


def test_the_view_of_samples_gives_the_same_bits_as_in_duckdb(views, store):
    query = "SELECT series_id, ts, value FROM raw"

    found = views.sql(query).toArrow()

    ours = connect(store, query).sql(query).to_arrow_table()
    assert canonical("raw", found) == canonical("raw", ours)


def test_samples_are_read_by_the_vectorised_reader(views, capsys):
    views.sql("SELECT sum(value), sum(scaled) FROM samples").explain("formatted")

    assert "Batched: true" in capsys.readouterr().out


def test_files_of_other_hours_are_not_read(views, home, store):
    until = home.first_hour_end_ms
    lows = {f.path: f.minimum["ts"] for f in snapshot(store, "samples").files}

    read = views.table("samples").where(f"ts <= {until}").inputFiles()

    wanted = {path for path, low in lows.items() if low <= until}
    assert {path.rsplit("/", 1)[-1] for path in read} == wanted
    assert len(wanted) < len(lows)
