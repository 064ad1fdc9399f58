"""What commits of rollups leave on disk besides tables: nothing, however much a repair touches."""

import pickle
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tables import QUERY, WrittenTables
from varve.model.window import HOUR_MS, TIERS
from varve.spark import rollup as rollup_module
from varve.spark.broadcasts import handed_over
from varve.spark.rollup import RollupPlan, RollupQuery
from varve.storage import positions
from varve.storage.table import Table

pytestmark = pytest.mark.spark

BEGIN = 1_800_000_000_000 // HOUR_MS * HOUR_MS
HOURS = 4
# Fewer in each hour than would make its repair one of the whole hour.
SERIES = 18_000
DEADLINE_S = 120


END = BEGIN + HOURS * HOUR_MS


def put(tables, ms):
    """A sample of each series in every hour, so long after it began."""
    hours = range(BEGIN, END, HOUR_MS)
    samples = [(n, hour + ms, float(ms)) for n in range(SERIES) for hour in hours]
    tables.put(samples, complete_ms=END)


def test_repairs_of_many_windows_leave_no_files_of_broadcasts_behind(spark, tmp_path, monkeypatch):
    sizes = []

    @contextmanager
    def measured(session, value):
        sizes.append(len(pickle.dumps(value)))
        with handed_over(session, value) as handed:
            yield handed

    monkeypatch.setattr(rollup_module, "handed_over", measured)
    tables = WrittenTables(str(tmp_path / "tables"))
    put(tables, 1)
    folder = Path(spark.sparkContext._temp_dir)
    before = {path for path in folder.rglob("*") if path.is_file()}
    commits = []
    query = RollupQuery(
        spark,
        RollupPlan(
            tables.store,
            (QUERY,),
            trigger_s=0.2,
            grace_ms=0,
            repair_every_ms=0,
            repair_keys=1,
            on_commit=commits.append,
        ),
    )
    deadline = time.monotonic() + DEADLINE_S

    def await_that(condition):
        while not condition():
            query.raise_failure()
            assert time.monotonic() < deadline, commits
            time.sleep(0.1)

    closed = Table(tables.store, TIERS[0].table)
    await_that(lambda: closed.refresh() and closed.position(positions.frontier("1m")) >= END)
    put(tables, 2)
    await_that(lambda: any(c["closed"] is None and c["tier"] == "1m" for c in commits))
    query.stop()

    assert max(sizes) > 2**20
    assert {path for path in folder.rglob("*") if path.is_file()} - before == set()
