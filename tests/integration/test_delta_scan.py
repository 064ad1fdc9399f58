"""Every table and view by DuckDB's delta extension, which reads by delta-kernel: equal rows, and
files that cannot matter are not read. It is in an environment of its own, .venv-delta, which is
made here at first.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from tests import readers
from tests.readers import TABLES_WITH_ROWS, canonical
from varve.model.views import VIEWS, view_sql
from varve.query.sql import connect
from varve.setup.side_environment import DELTA_SCAN, bring_up
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

pytestmark = pytest.mark.slow  # its first run downloads the engine

ROOT = Path(__file__).resolve().parents[2]
TABLES = (*TABLES_WITH_ROWS, "rollup_1d", "quarantine", "metric_metadata")


home, store = readers.home, readers.store


@pytest.fixture(scope="module")
def python():
    return bring_up(DELTA_SCAN, ROOT, os.environ) / "bin" / "python"


def ask(python, store, folder, queries):
    """The rows of each query, by its name, over views of all tables and those of Varve."""
    scans = [f"CREATE VIEW {t} AS FROM delta_scan('{store.uri(t)}')" for t in TABLES]
    views = [f"CREATE VIEW {v} AS {view_sql(v, 'duckdb')}" for v in VIEWS]
    files = {name: str(folder / f"{name}.arrows") for name in queries}
    wanted = {
        "before": ["SET TimeZone = 'UTC'", *scans, *views],
        "queries": {files[name]: query for name, query in queries.items()},
    }
    done = subprocess.run(
        [python, ROOT / "tests" / "delta_scan" / "read.py"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr)
    return {name: pa.ipc.open_stream(path).read_all() for name, path in files.items()}


@pytest.fixture(scope="module")
def found(python, store, tmp_path_factory):
    """Everything, by one process."""
    tables = {table: f"FROM {table}" for table in TABLES_WITH_ROWS}
    views = {view: f"SELECT * FROM {view} ORDER BY ALL" for view in VIEWS}
    return ask(python, store, tmp_path_factory.mktemp("found"), tables | views)


@pytest.mark.parametrize("table", TABLES_WITH_ROWS)
def test_delta_kernel_reads_the_rows_of_a_table(found, store, table):
    ours = snapshot(store, table).scan(Bounds())

    assert canonical(table, found[table]) == canonical(table, ours)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_over_delta_kernel_has_the_rows_that_ours_has(found, store, view):
    query = f"SELECT * FROM {view} ORDER BY ALL"

    ours = connect(store, query).sql(query).to_arrow_table().to_pylist()

    theirs = found[view].to_pylist()
    assert len(theirs) == len(ours)
    for mine, their in zip(ours, theirs, strict=True):
        assert {name: rounded(value) for name, value in their.items()} == {
            name: rounded(value) for name, value in mine.items()
        }


def rounded(value):
    """Quantiles are powers, which releases of DuckDB compute alike but for the last bits."""
    return f"{value:.12g}" if isinstance(value, float) else repr(value)


def test_files_of_other_hours_are_not_read(home, python, tmp_path):
    """In a copy of the tables without the later files, a query of the first hour finds them all;
    one of all hours fails.
    """
    store = home.without_later_hours()
    query = f"SELECT count(*) AS n FROM samples WHERE ts <= {home.first_hour_end_ms}"

    (row,) = ask(python, store, tmp_path, {"first": query})["first"].to_pylist()

    assert row["n"] == home.rows_of_first_hour
    with pytest.raises(OSError, match="samples"):
        ask(python, store, tmp_path, {"all": "SELECT max(ts) FROM samples"})
