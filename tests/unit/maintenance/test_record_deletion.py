"""Histograms and exemplars go with the samples of their series, whatever ends a deletion."""

import pyarrow as pa
import pytest

from tests.tables import WrittenTables
from tests.unit.maintenance.dying import deaths
from varve.maintenance import deletion, record_deletion
from varve.maintenance.batch_job import execute
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.expiry import Expiration, Retention
from varve.maintenance.vacuum import find_garbage
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, HOUR_MS, TIERS
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.histograms.stored_rows import row_of
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

T = 1_795_737_600_000
ATTIC, CELLAR = define("latency", {"room": "attic"}), define("latency", {"room": "cellar"})
ROWS = {
    "histograms": row_of(FloatHistogram(3, 1.0, 1.0, positive={1: 1.0})),
    "exemplars": {"value": 1.0, "labels": [("trace_id", "t")]},
}


def put(tables, table, times):
    rows = [
        {"series_id": d.series_id, "ts": ts} | ROWS[table]
        for d in sorted((ATTIC, CELLAR), key=lambda d: d.series_id)
        for ts in times
    ]
    handle = Table(tables.store, table)
    held = handle.position("test:0")
    made = pa.Table.from_pylist(rows, schema=table_schema(table).arrow)
    step = Step(held, (held or 0) + 1)
    commit(handle, [write_file(tables.store, table, made)], transactions={"test:0": step})


def keys(tables, table):
    rows = snapshot(tables.store, table).scan(Bounds()).to_pylist()
    return sorted((row["series_id"] == ATTIC.series_id, row["ts"]) for row in rows)


@pytest.fixture
def tables(tmp_path):
    made = WrittenTables(str(tmp_path / "tables"))
    made.define([ATTIC, CELLAR])
    for table in ROWS:
        put(made, table, [T, T + 1, T + 2])
    return made


def delete(tables, start_ms=T + 1):
    wanted = Wanted(('latency{room="attic"}',), start_ms, T + 2)
    return execute(Deletion(tables.store, wanted), tables.store, T + DAY_MS)


LEFT = [(False, T), (False, T + 1), (False, T + 2), (True, T)]


def test_rows_of_the_series_in_the_range_go(tables):
    report = delete(tables)

    assert [keys(tables, table) for table in ROWS] == [LEFT, LEFT]
    assert (report.done.rows_removed["histograms"], report.done.rows_removed["exemplars"]) == (2, 2)
    assert not deletion.is_owed(tables.store)


def test_a_deletion_that_dies_is_owed_and_finished(tables):
    store, died = tables.store, 0
    for _ in deaths(lambda: delete(tables)):
        died += 1
        if deletion.is_owed(store):
            assert find_garbage(store, "samples", T).keep_log_from == 0

    assert [keys(tables, table) for table in ROWS] == [LEFT, LEFT]
    assert not deletion.is_owed(store)
    assert record_deletion.owing(store) == []
    assert died > 6


def test_rows_older_than_samples_are_kept_expire(tables):
    kept = dict.fromkeys(("samples", *(tier.table for tier in TIERS)), DAY_MS)
    later = T + 5 * DAY_MS
    for table in ROWS:
        put(tables, table, [later])
    tables.put([(ATTIC.series_id, later, 1.0)], complete_ms=later + HOUR_MS)
    tables.roll_up()

    execute(Expiration(tables.store, Retention(kept)), tables.store, later + HOUR_MS)

    assert [keys(tables, table) for table in ROWS] == [[(False, later), (True, later)]] * 2
