"""The job that replays quarantine, killed between its commits and run twice at once."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.plans import open_registry, task_plan
from varve.ingest.batch import BatchCommitter
from varve.ingest.start_offsets import Start
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.clock import SystemClock
from varve.model.window import DAY_MS
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables

ROOT = Path(__file__).parents[3]
FILES, ROWS = 4, 25


@pytest.fixture
def home(tmp_path):
    """One whose quarantine holds samples that were refused as too old and no longer are."""
    store = Store(str(tmp_path / "tables"))
    create_tables(store)
    now_ms = SystemClock().now_ms()
    plan = task_plan(store, now_ms=now_ms, oldest_ms=now_ms)
    partition = Partition("samples", "id", 0)
    for n in range(FILES):
        values = [
            {"metric": "m", "value": n * ROWS + k, "timestamp": now_ms - DAY_MS + k}
            for k in range(ROWS)
        ]
        messages = [Message("samples", 0, n, now_ms, json.dumps(values).encode())]
        (outcome,) = run_task([*messages, Message("samples", 0, n, now_ms, b"bad")], plan)
        open_registry(store).register(outcome.definitions)
        committer = BatchCommitter(store, "bulk", {partition: Start(n or None, n)})
        committer.commit({partition: OffsetRange(n, n + 1)}, [outcome])
    assert stored(store) == Counter()
    return tmp_path


def stored(store):
    rows = snapshot(store, "samples").scan(Bounds(), ["ts", "value"]).to_pylist()
    return Counter(int(row["value"]) for row in rows)


def run(home, point="none"):
    return subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("replay_driver.py")),
            point,
            "--query=bulk",
            "--reason=too_old",
            "--json",
        ],
        env=os.environ
        | {
            "VARVE_HOME": str(home),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "pipelines"), str(ROOT)]),
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(out)["done"]["bulk"]


POINTS = ["before-samples", "after-samples", "before-quarantine", "after-quarantine"]


def test_a_replay_killed_at_any_commit_takes_every_row_once(home):
    for point in POINTS:
        process = run(home, point)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
    finished(run(home))

    store = Store(str(home / "tables"))
    # Samples of different files share their times: copies, all of which the table keeps.
    assert stored(store) == Counter(range(FILES * ROWS))
    rows = snapshot(store, "quarantine").scan(Bounds(), ["value"]).to_pylist()
    assert [row["value"] for row in rows] == [b"bad"] * FILES


def test_two_replays_at_once_take_every_row_once(home):
    first, second = run(home), run(home)

    counts = [finished(process) for process in (first, second)]

    store = Store(str(home / "tables"))
    assert stored(store) == Counter(range(FILES * ROWS))
    assert sum(c.get("stored", 0) for c in counts) == FILES * ROWS
    rows = snapshot(store, "quarantine").scan(Bounds(), ["value"]).to_pylist()
    assert [row["value"] for row in rows] == [b"bad"] * FILES
