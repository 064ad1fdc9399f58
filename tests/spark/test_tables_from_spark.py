"""What the JVM-less storage layer writes is a Delta table to Spark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from varve.model.schema import TABLES, table_schema
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import write_file
from varve.storage.layout import ARRIVAL, COMPACT
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory):
    """The session of the run, or a new one; left running for the modules that follow."""
    from varve.spark.session import local_conf, session

    try:
        conf = local_conf("local[2]", 1_024, tmp_path_factory.mktemp("spark"))
    except FileNotFoundError as err:
        pytest.skip(str(err))
    return session("tests", conf)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    create_tables(store)
    return store


def samples(ids: range) -> pa.Table:
    rows = {
        "series_id": np.arange(ids.start, ids.stop),
        "ts": np.arange(ids.start, ids.stop) * 1_000,
        "value": pa.array([None if i % 3 == 0 else float(i) for i in ids], pa.float64()),
    }
    return pa.table(rows)


def test_the_ddl_is_valid_spark_sql_of_the_same_schema(spark, store, tmp_path):
    for name in TABLES:
        schema = table_schema(name)
        ddl = schema.ddl.replace(f"CREATE TABLE {name}", f"CREATE TABLE by_ddl_{name}", 1)
        location = (tmp_path / "ddl" / name).as_uri()
        spark.sql(ddl.replace("USING DELTA", f"USING DELTA LOCATION '{location}'"))

        declared = spark.table(f"by_ddl_{name}").schema
        stored = spark.read.format("delta").load(store.uri(name)).schema

        assert declared == stored
        spark.sql(f"DROP TABLE by_ddl_{name}")


def test_spark_reads_rows_comments_and_positions_through_checkpoints(spark, store):
    table = Table(store, "samples")
    for i in range(110):
        new = write_file(store, "samples", samples(range(5 * i, 5 * i + 5)))
        commit(table, [new], transactions={"a": Step(i or None, i + 1)}, metadata={"in": 5})

    rows = spark.read.format("delta").load(store.uri("samples")).select("series_id", "ts", "value")

    expected = samples(range(550)).to_pylist()
    assert sorted((r.asDict() for r in rows.collect()), key=lambda r: r["ts"]) == expected
    assert rows.schema["ts"].metadata["comment"].startswith("Time of the sample")
    history = spark.sql(f"DESCRIBE HISTORY delta.`{store.uri('samples')}`").collect()
    assert len(history) == 111
    assert {r.operation for r in history} == {"CREATE TABLE", "WRITE"}


def test_spark_sees_a_rewrite_whole_and_travels_before_it(spark, store):
    table = Table(store, "samples")
    files = [write_file(store, "samples", samples(range(i, i + 5))) for i in (0, 5)]
    before = commit(table, files, transactions={"a": Step(None, 1)})
    merged = write_file(store, "samples", samples(range(10)))
    rewrite(table, [merged], [Removal(f.path, f.size) for f in files])

    delta = spark.read.format("delta")
    now, then = delta.load(store.uri("samples")), delta.option("versionAsOf", before)

    assert now.count() == then.load(store.uri("samples")).count() == 10
    assert [Path(f).name for f in now.inputFiles()] == [merged.path]


@pytest.mark.parametrize("layout", [ARRIVAL, COMPACT], ids=["arrival", "compact"])
def test_every_type_of_column_survives_the_vectorised_reader(spark, store, layout):
    schema = table_schema("rollup_1m").arrow
    values = {name: [1] for name in schema.names}
    values["sketch"] = [[{"key": 40_001, "count": 2}, {"key": -7, "count": 1}]]
    values["stale_ts"] = [None]
    new = write_file(store, "rollup_1m", pa.table(values, schema=schema), layout)
    commit(Table(store, "rollup_1m"), [new], transactions={"a": Step(None, 1)})

    (row,) = spark.read.format("delta").load(store.uri("rollup_1m")).collect()

    found = json.loads(json.dumps(row.asDict(recursive=True)))
    assert found == pa.table(values, schema=schema).to_pylist()[0]


def test_compacted_samples_of_several_row_groups_are_the_same_to_spark(spark, store):
    rows = 1_100_000
    table = pa.table(
        {
            "series_id": np.arange(rows) // 1_000,
            "ts": np.arange(rows) % 1_000 * 15_000,
            "value": pa.array([None if n % 7 == 0 else n / 8 for n in range(rows)], pa.float64()),
        }
    )
    new = write_file(store, "samples", table, COMPACT)
    commit(Table(store, "samples"), [new], transactions={"a": Step(None, 1)})

    assert spark.conf.get("spark.sql.parquet.enableVectorizedReader") == "true"
    read = spark.read.format("delta").load(store.uri("samples"))
    value = "coalesce(value, CAST(scaled + shift AS DOUBLE) / divisor)"
    sums = read.selectExpr(
        "count(*)", f"count({value})", f"sum({value})", "sum(ts * series_id)"
    ).first()

    stale = -(-rows // 7)
    kept = [n for n in range(rows) if n % 7]
    expected = sum(n % 1_000 * 15_000 * (n // 1_000) for n in range(rows))
    assert tuple(sums) == (rows, rows - stale, sum(kept) / 8, expected)
