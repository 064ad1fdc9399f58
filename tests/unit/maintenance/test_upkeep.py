"""Whatever table the catalogue has or gains, compaction and expiry keep it from growing."""

import pyarrow as pa
import pytest

from tests.tables import WrittenTables
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import FANOUT, Compaction
from varve.maintenance.expiry import Expiration, Retention
from varve.model.schema import TABLES, table_schema
from varve.model.window import DAY_MS, TIERS
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

NOW_MS = 1_795_392_000_000
KEPT_BY_THEIR_WRITERS = {
    "quarantine": "every ingest query expires it: varve.ingest.upkeep",
    "repairs": "its writer keeps the newest notes in one file: varve.rollups.repair_log",
    "metric_metadata": "its writer merges them beyond sixteen: varve.ingest.metadata_notes",
    "baselines": "a run replaces all rows of the run before: varve.anomaly.baseline_job",
}
TIMELESS = {"series"}
"""Its period is all of time, so it is merged by the dozen; rows go with those of other tables."""
FILES = 4
NOT_OLD_MS = NOW_MS - 40 * DAY_MS + 1
"""In a period that has ended, whatever the table."""


def row(table, number, at_ms):
    """A row that is unlike any other, of a time."""
    schema = table_schema(table)

    def value(column):
        if column.name == schema.time_column:
            return at_ms
        kind = column.arrow_type
        if pa.types.is_integer(kind):
            return number
        if pa.types.is_floating(kind):
            return float(number)
        if pa.types.is_boolean(kind):
            return True
        if pa.types.is_string(kind):
            return f"text {number}"
        if pa.types.is_binary(kind):
            return b"bytes %d" % number
        return {} if pa.types.is_map(kind) else None if column.nullable else []

    return {column.name: value(column) for column in schema.columns}


def put(store, name, at_ms):
    """FILES files of a row each, a second apart."""
    count = 5 * FILES if name in TIMELESS else FILES
    table, schema = Table(store, name), table_schema(name).arrow
    files = [
        write_file(store, name, pa.Table.from_pylist([row(name, n, at_ms + n * 1000)], schema))
        for n in range(count)
    ]
    held = table.position("test")
    commit(table, files, transactions={"test": Step(held, (held or 0) + 1)})


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Every table with rows of last month and of long ago, after a run of the jobs."""
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    for name in TABLES:
        put(tables.store, name, NOW_MS - 1_000 * DAY_MS)
        put(tables.store, name, NOT_OLD_MS)
    for tier in TIERS:
        frontier = {
            f"frontier:{tier.name}": Step(None, NOW_MS),
            f"source:{tier.name}": Step(None, 9),
        }
        commit(Table(tables.store, tier.table), [], transactions=frontier)
    days = {"samples": 60, **{tier.table: 100 for tier in TIERS}}
    retention = Retention({table: kept * DAY_MS for table, kept in days.items()})
    execute(Expiration(tables.store, retention), tables.store, NOW_MS)
    execute(Compaction(tables.store), tables.store, NOW_MS)
    return tables.store


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_few_files_and_nothing_that_is_old(kept, name):
    held = snapshot(kept, name)

    if name in KEPT_BY_THEIR_WRITERS:
        assert len(held.files) == 2 * FILES
        return
    if name in TIMELESS:
        assert 0 < len(held.files) < FANOUT
    else:
        assert len(held.files) == 1
        assert held.files[0].rows == FILES
        assert held.files[0].minimum[held.time_column] >= NOT_OLD_MS
