"""The mains of jobs/ do on a home what their jobs promise, without Java."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tables import WrittenTables
from varve.storage.snapshot import snapshot

ROOT = Path(__file__).parents[3]
BEGIN = 1_795_392_000_000


@pytest.fixture
def home(tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    for n in range(5):
        tables.put([(1, BEGIN + n + 1, float(n)), (1, BEGIN + 1, 0.0)])
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a main here, as a process of its own takes seconds to start; returns what it prints."""

    def main(home, name, *options):
        job = importlib.import_module(f"jobs.{name}")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--home", str(home), *options])
        assert job.main() == 0
        return capsys.readouterr().out

    return main


@pytest.mark.parametrize("name", ["compact", "vacuum", "expire"])
def test_a_process_of_its_own_needs_no_java(home, name):
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / f"{name}.py", "--home", home, "--dry-run", "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "pipelines"), "JAVA_HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] is None


def files(home):
    from varve.storage.store import Store

    return snapshot(Store(str(home / "tables")), "samples").files


def test_compact_says_what_is_due_does_it_and_has_nothing_left(home, run):
    planned = json.loads(run(home, "compact", "--dry-run", "--json"))
    assert planned["planned"]["merges"] == [{"table": "samples", "files": 5, "rows": 10}]
    assert planned["done"] is None
    assert len(files(home)) == 5

    done = json.loads(run(home, "compact", "--json"))
    assert done["done"]["merged"][0]["rows_dropped"] == 5
    assert [file.rows for file in files(home)] == [5]

    assert "no table has files to merge" in run(home, "compact")


def test_a_scheduler_may_leave_out_the_tables_that_it_does_by_themselves(home, run):
    assert "no table has files to merge" in run(home, "compact", "--except", "samples", "--dry-run")
    assert "samples: 5 files" in run(home, "compact", "--except", "series", "--dry-run")


def test_vacuum_deletes_what_is_old_and_in_no_version(home, run):
    run(home, "compact")
    old = 1_700_000_000
    for file in (home / "tables" / "samples").glob("*.parquet"):
        os.utime(file, (old, old))
    orphan = home / "tables" / "samples" / "part-0.parquet"
    orphan.write_bytes(b"PAR1")
    os.utime(orphan, (old, old))

    assert "samples: 1 files of 4 bytes" in run(home, "vacuum", "--dry-run")
    assert orphan.exists()
    assert "1 files and 0 log entries deleted" in run(home, "vacuum")
    assert not orphan.exists()
    assert [file.rows for file in files(home)] == [5]


def test_expire_says_what_is_old_deletes_it_and_has_nothing_left(tmp_path, run):
    tables = WrittenTables(str(tmp_path / "tables"))
    begin, day = 1_609_459_200_000, 86_400_000
    for n in range(20):
        tables.put([(1, begin + n * day + 1, 1.0)], complete_ms=begin + n * day)
    tables.roll_up()

    planned = json.loads(run(tmp_path, "expire", "--dry-run", "--json"))["planned"]
    assert planned["expiries"] == [
        {
            "table": "samples",
            "series": "all series",
            "until_ms": begin + 4 * day,
            "files": 4,
            "old_files": 4,
        }
    ]
    assert len(files(tmp_path)) == 20

    assert "samples: all series up to 2021-01-05T00:00:00Z: 4 rows gone" in run(tmp_path, "expire")
    assert len(files(tmp_path)) == 16
    assert "nothing is older than its retention" in run(tmp_path, "expire")
