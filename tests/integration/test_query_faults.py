"""The reader where storage fails: nothing stays missing, and a view that is old says so."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.faulty_store import FaultyStore
from tests.integration.test_query_follow import (
    END,
    START,
    UP,
    await_status,
    compact,
    free_port,
    opened,
    put,
    samples,
    settle,
)  # fmt: skip
from tests.tables import WrittenTables
from varve.model.identity import define
from varve.promql.errors import StorageError
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.evaluation import Options, Range, evaluate, explain
from varve.query.file_table import FileTable
from varve.query.reader import Reader
from varve.query.tables import Tables
from varve.query.view import FileGone
from varve.storage.snapshot import snapshot


@pytest.fixture
def tables(tmp_path):
    return WrittenTables(str(tmp_path / "tables"))


def everything(view):
    """All samples by labels."""
    wanted = [Matcher("__name__", MatchOp.REGEX, ".+")]
    found = Reader(view).select(wanted, 0, END, SelectHints())
    held = found.samples
    return {
        labels: list(zip(held.ts[b:e].tolist(), held.values[b:e].tolist(), strict=True))
        for labels, b, e in zip(
            found.labels.labels(), held.begins.tolist(), held.ends.tolist(), strict=True
        )
    }


@pytest.mark.parametrize("failing", [1, 3, 1_000])
@pytest.mark.parametrize("rewritten", [False, True], ids=["appended", "rewritten"])
def test_whatever_read_fails_two_looks_later_answers_are_those_of_a_fresh_process(
    tables, failing, rewritten
):
    store = FaultyStore(tables.store.root)
    tables.define(UP)
    put(tables, START)
    followed = Tables(store, ["bulk"], 16 << 20)

    for passing in itertools.count():
        series = define("up", {"instance": f"new-{passing}"})
        tables.define([series])
        tables.put([(series.series_id, START + passing, 1.0)], complete_ms=START + passing)
        if rewritten:
            compact(tables.store)
        store.fault.arm(passing, failing)
        before = followed.view
        try:
            followed.poll()
        except OSError:
            assert followed.view is before
        store.fault.arm(1 << 62, 0)
        followed.poll()
        followed.poll()

        fresh = Tables(tables.store, ["bulk"], 16 << 20)
        assert everything(followed.view) == everything(fresh.view)
        assert followed.view.provenance == fresh.view.provenance
        fresh.close()
        if not store.fault.hit and passing > 30:
            return
    followed.close()


def test_a_small_file_that_cannot_be_read_keeps_no_other_out_of_memory(tables):
    tables.define(UP)
    put(tables, START)
    followed = opened(tables)
    folder = Path(tables.store.uri("samples"))
    known = {file.path for file in snapshot(tables.store, "samples").files}
    put(tables, START + 1)
    (bad,) = (f.path for f in snapshot(tables.store, "samples").files if f.path not in known)
    (folder / bad).write_bytes(b"PAR1 torn PAR1")
    for k in range(2, 5):
        put(tables, START + k)

    settle(followed)

    assert len(followed.view.files) == 1
    assert sum(run.rows for run in followed.view.head) == 4 * 3
    with pytest.raises(StorageError, match=bad):
        samples(followed.view)


def vacuum(store):
    """Deletes every file that is not live any more, as the vacuum job would days later."""
    live = {file.path for file in snapshot(store, "samples").files}
    for path in Path(store.uri("samples")).rglob("*.parquet"):
        if path.name not in live and "_delta_log" not in path.parts:
            path.unlink()


@pytest.mark.parametrize("times", [START + 60_000, Range(START, START + 60_000, 15_000)])
def test_a_file_vacuumed_under_a_query_is_read_from_a_newer_view(tables, times):
    tables.define(UP)
    for k in range(4):
        put(tables, START + k * 15_000)
    followed = opened(tables)
    files = FileTable(snapshot(tables.store, "samples").files)
    stale = replace(followed.view, head=(), files=files)
    wanted = evaluate(followed.view, "up", times, Options())

    compact(tables.store)
    vacuum(tables.store)
    with pytest.raises(FileGone):
        evaluate(stale, "up", times, Options())
    asked = []

    def newer(view):
        asked.append(view)
        settle(followed)
        return followed.view

    options = Options(newer_view=newer)
    got = evaluate(stale, "up", times, options)
    lines = explain(stale, "up", times, options, run=True)

    assert asked == [stale, stale]
    assert got.result.value.values.tolist() == wanted.result.value.values.tolist()
    assert got.provenance.versions["samples"] > stale.provenance.versions["samples"]
    assert "actual" in lines[0]


def test_a_view_that_lags_says_so_before_it_is_too_old_to_be_trusted(tmp_path):
    home = tmp_path / "home"
    tables = WrittenTables(str(home / "tables"))
    tables.define(UP)
    put(tables, START)
    port = free_port()
    environment = os.environ | {
        "VARVE_HOME": str(home),
        "VARVE_QUERY__PORT": str(port),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "varve.cli", "serve", "query"]
    service = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    log = home / "tables" / "samples" / "_delta_log"
    try:
        await_status(url, 200)
        assert ready(url) == (200, "Varve is ready.\n")
        log.rename(log.with_name("away"))
        log.write_text("no folder")  # so that a look is an error
        lagging = wait_until(lambda: "lags" in ready(url)[1], url)
        log.unlink()
        log.with_name("away").rename(log)
        put(tables, START + 1)
        wait_until(lambda: ready(url) == (200, "Varve is ready.\n"), url)
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(30)

    assert lagging[0] == 200
    assert "no look at the tables for" in lagging[1]
    assert "_delta_log" in lagging[1]


def ready(url):
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, err.read().decode()


def wait_until(condition, url, deadline_s=60.0):
    """What /-/ready says once the condition holds."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():
            return ready(url)
    raise AssertionError(f"not within {deadline_s} s: {ready(url)}")
