"""The SQL views: Spark SQL and DuckDB give equal rows."""

from __future__ import annotations

import math
import random

import pytest

from tests.plans import task_plan
from tests.tables import WrittenTables
from tests.unit.ingest.messages import as_json, record
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.model.identity import define
from varve.model.schema import TABLES
from varve.model.views import VIEWS, view_sql
from varve.model.window import HOUR_MS
from varve.query.sql import connect
from varve.storage.commit import Step, commit
from varve.storage.table import Table

pytestmark = pytest.mark.spark

START = 1_795_338_000_000 // HOUR_MS * HOUR_MS
KEYS = {"raw": ("series_id", "ts"), "rejects": ("first_offset", "reason")}
SERIES = [define("load", {"host": f"h{i}", "zone": "a b"}) for i in range(3)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    tables.define(SERIES, START)
    rng = random.Random(5)
    special = [math.nan, math.inf, -math.inf, 0.0, None, -2.5]
    samples = []
    for series in SERIES:
        for k in range(400):
            value = rng.choice(special) if rng.random() < 0.05 else rng.gauss(0, 100)
            samples.append((series.series_id, START + k * 20_000, value))
            if rng.random() < 0.05:
                samples.append((series.series_id, START + k * 20_000, rng.choice(special)))
    tables.put(samples[::2], complete_ms=START + 2 * HOUR_MS)
    tables.roll_up()
    tables.put(samples[1::2], complete_ms=START + 2 * HOUR_MS + 1)
    tables.roll_up()
    messages = [
        Message("raw-metrics", 1, n, START + n, value)
        for n, value in enumerate([b"K\xc3\xb6ln", b"\xff", b"", as_json(record(1_000, host="h"))])
    ]
    (outcome,) = run_task(messages, task_plan(tables.store, now_ms=START))
    commit(
        Table(tables.store, "quarantine"), outcome.quarantine, transactions={"test": Step(None, 1)}
    )
    return tables


@pytest.fixture(scope="module")
def views(spark, tables):
    for table in TABLES:
        path = tables.store.uri(table)
        spark.read.format("delta").load(path).createOrReplaceTempView(table)
    for view in VIEWS:
        spark.sql(view_sql(view, "spark")).createOrReplaceTempView(view)
    return spark


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_equal_rows_in_both_engines(views, tables, view):
    query = f"SELECT * FROM {view}"
    key = KEYS.get(view, ("series_id", "window_end_ms"))

    result = connect(tables.store, query).execute(query)
    names = [column[0] for column in result.description]
    duck = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    spark = [row.asDict() for row in views.sql(query).collect()]

    assert views.sql(query).columns == names
    by_key = {tuple(row[name] for name in key): row for row in spark}
    assert len(duck) == len(spark) == len(by_key)
    assert duck or view == "metrics_1d"
    for row in duck:
        other = by_key[tuple(row[name] for name in key)]
        for name, value in row.items():
            assert equal(value, other[name]), (name, value, other[name], row)


def equal(left, right):
    if isinstance(left, list) and right is not None:
        return left == [entry.asDict() for entry in right]
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        # Powers may differ in the last bit between two libraries.
        return left == right or math.isclose(left, right, rel_tol=1e-12, abs_tol=1e-12)
    return left == right
