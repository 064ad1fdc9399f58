"""The queries under way, and those that an earlier process died of."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading

from varve.api.active_queries import ActiveQueries


def test_what_is_under_way_is_listed_and_can_be_ended():
    active, cancelled = ActiveQueries(), threading.Event()
    number = active.begin("query", "up", "ann", 1_000, cancelled)

    assert active.listed() == [
        {"id": number, "route": "query", "query": "up", "principal": "ann", "since": 1.0}
    ]
    assert active.cancel(number)
    assert cancelled.is_set()
    active.end(number)
    assert (active.listed(), active.cancel(number)) == ([], False)


def test_what_a_killed_process_was_at_is_logged_at_the_next_start(tmp_path, caplog):
    path = tmp_path / "run" / "queries.active"
    program = f"""
import os, signal, threading
from pathlib import Path
from varve.api.active_queries import ActiveQueries
active = ActiveQueries(Path({str(path)!r}), 2)
ended = active.begin("query", "ended", "", 1, threading.Event())
active.begin("query_range", "deadly" + "x" * 5000, "ann", 1, threading.Event())
active.end(ended)
for _ in range(5):  # more than there is room for
    active.begin("query", "more", "", 1, threading.Event())
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL

    with caplog.at_level(logging.WARNING):
        ActiveQueries(path, 2)
        told = caplog.text
        caplog.clear()
        ActiveQueries(path, 2)

    assert "deadlyxx" in told
    assert "ended" not in told.replace("last ended", "")
    assert told.count("under way when") == 2
    assert caplog.text == ""


def test_one_without_a_file_is_fine_and_a_damaged_file_is_replaced(tmp_path, caplog):
    path = tmp_path / "queries.active"
    path.write_bytes(b"\xff\xfe\0garbage\n\n")

    active = ActiveQueries(path, 3)
    active.end(active.begin("query", "\udcff", "", 1, threading.Event()))

    assert path.read_bytes().strip() == b""
