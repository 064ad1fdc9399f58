"""Writers killed in the middle of things."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

CRASH = Path(__file__).with_name("commit_crash.py")


def test_a_writer_killed_forty_times_stores_every_offset_once(tmp_path):
    store = Store(str(tmp_path))
    create_tables(store, ("samples",))

    subprocess.run(
        [sys.executable, str(CRASH), store.root, "40"],
        check=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    end = Table(store, "samples").position("bulk:t:0")
    assert end >= 40 * 10
    stored = snapshot(store, "samples").scan(Bounds(), ["ts"]).column("ts").to_pylist()
    assert sorted(stored) == list(range(end))
