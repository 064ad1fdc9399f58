"""What a batch leaves on disk besides tables: nothing, however large its plan is."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.ingest.test_ingest import Line, await_that, sample
from varve.ingest.series_registry import Full
from varve.model.clock import SystemClock
from varve.spark import checkpoint_folder
from varve.spark.ingest import task_plan

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


@pytest.fixture
def line(spark, kafka_broker, tmp_path):
    line = Line(spark, kafka_broker, tmp_path / "the tables")
    yield line
    line.close()


def test_large_plans_leave_no_files_of_broadcasts_behind(line, spark, monkeypatch):
    full = Full(frozenset(f"a metric that is full {n:08}" for n in range(100_000)))
    large = []

    def with_large_plan(*arguments):
        plan = task_plan(*arguments)
        object.__setattr__(plan, "full", full)
        large.append(plan)
        return plan

    monkeypatch.setattr("varve.spark.ingest.task_plan", with_large_plan)
    folder = Path(spark.sparkContext._temp_dir)
    before = {path for path in folder.rglob("*") if path.is_file()}
    now_ms = SystemClock().now_ms()
    query = line.start()
    for n in range(4):
        line.send(json.dumps(sample(now_ms + n)).encode())
        await_that(lambda n=n: query.raise_failure() or len(line.rows("samples")) == n + 1)
    line.stop(query)

    assert len(large) >= 4
    assert len(pickle.dumps(large[0])) > 2 * 2**20
    assert {path for path in folder.rglob("*") if path.is_file()} - before == set()


def test_a_stopped_query_leaves_no_folder_and_those_of_killed_processes_are_removed(line, tmp_path):
    query = line.start()
    folder = Path(query._scratch.name)
    assert folder.is_dir()
    line.stop(query)
    assert not folder.exists()

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        f"varve-ingest-bulk-{dead.pid}-abc": False,
        f"varve-ingest-bulk-{os.getpid()}-abc": True,
        "varve-something-else": True,
        f"other-ingest-bulk-{dead.pid}-abc": True,
    }
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()

    checkpoint_folder.remove_abandoned(tmp_path)

    assert {name: (tmp_path / name).exists() for name in names} == names
