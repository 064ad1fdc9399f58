"""The query side follows the tables: new commits, new series, compaction, and a service's life."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tables import WrittenTables
from varve.model.errors import NeedsOperator
from varve.model.identity import define
from varve.promql.errors import StorageError
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.file_table import FileTable
from varve.query.reader import Reader
from varve.query.tables import Tables
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table

START = 1_795_338_000_000
UP = [define("up", {"instance": f"h{i}"}) for i in range(3)]
END = 2**62


@pytest.fixture
def tables(tmp_path):
    return WrittenTables(str(tmp_path / "tables"))


def opened(tables, cache_bytes=16 << 20):
    followed = Tables(tables.store, ["bulk"], cache_bytes)
    settle(followed)
    return followed


def settle(followed):
    followed.poll()
    while not followed.caught_up:
        followed.poll()


def samples(view, *matchers):
    """By instance: (ts, value) of every sample."""
    wanted = [Matcher("__name__", MatchOp.EQUAL, "up"), *matchers]
    found = Reader(view).select(wanted, 0, END, SelectHints())
    got = {}
    for i, labels in enumerate(found.labels.dicts()):
        rows = slice(found.samples.begins[i], found.samples.ends[i])
        ts, values = found.samples.ts[rows].tolist(), found.samples.values[rows].tolist()
        got[labels["instance"]] = list(zip(ts, values, strict=True))
    return got


def put(tables, ts, ids=range(3)):
    tables.put([(UP[i].series_id, ts, float(i)) for i in ids], complete_ms=ts)


def test_a_commit_is_seen_at_the_next_look_and_an_earlier_view_stays_as_it_was(tables):
    tables.define(UP)
    put(tables, START)
    followed = opened(tables)
    earlier = followed.view

    put(tables, START + 1)
    changed = followed.poll()

    assert changed
    assert samples(followed.view)["h2"] == [(START, 2.0), (START + 1, 2.0)]
    assert samples(earlier)["h2"] == [(START, 2.0)]
    assert earlier.provenance.complete_until_ms == START
    assert followed.view.provenance.complete_until_ms == START + 1
    assert earlier.provenance.token != followed.view.provenance.token
    assert not followed.poll()


def test_a_new_series_is_found_with_its_first_sample(tables):
    tables.define(UP[:1])
    put(tables, START, ids=[0])
    followed = opened(tables)

    tables.define(UP)
    put(tables, START + 1)
    followed.poll()

    assert set(samples(followed.view)) == {"h0", "h1", "h2"}


def test_compaction_changes_no_answer(tables):
    tables.define(UP)
    for k in range(20):
        put(tables, START + k * 600_000)
    followed = opened(tables)
    before, view = samples(followed.view), followed.view

    compact(tables.store)
    assert samples(view) == before
    settle(followed)

    assert samples(followed.view) == before
    put(tables, START + 20 * 600_000)
    settle(followed)
    assert len(samples(followed.view)["h1"]) == len(before["h1"]) + 1


def compact(store):
    """All of samples in one file, as the compaction job would leave it."""
    live = snapshot(store, "samples")
    rows = live.scan(Bounds()).sort_by([("series_id", "ascending"), ("ts", "ascending")])
    removes = [Removal(file.path, file.size) for file in live.files]
    rewrite(Table(store, "samples"), [write_file(store, "samples", rows)], removes)


def test_what_does_not_fit_in_memory_is_read_from_its_files(tables):
    tables.define(UP)
    for k in range(12):
        put(tables, START + k * 3_600_000)

    small = opened(tables, cache_bytes=200)

    assert samples(small.view) == samples(opened(tables).view)
    assert len(samples(small.view)["h0"]) == 12


def test_counting_reads_nothing_and_is_never_too_low(tables):
    tables.define(UP)
    for k in range(5):
        put(tables, START + k)
    view = opened(tables).view
    decoded = view.row_groups.decoded

    matcher = Matcher("instance", MatchOp.EQUAL, "h1")
    series, most = Reader(view).count([matcher], START, START + 3)

    assert series == 1
    assert 3 <= most <= 15
    assert view.row_groups.decoded == decoded


def test_a_file_that_is_gone_is_an_error_of_the_storage(tables):
    tables.define(UP)
    put(tables, START)
    files = snapshot(tables.store, "samples").files
    cold = replace(opened(tables).view, head=(), files=FileTable(files))
    for file in files:
        (Path(tables.store.uri("samples")) / file.path).unlink()

    with pytest.raises(StorageError, match="cannot read samples"):
        samples(cold)


def test_tables_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(NeedsOperator, match="no table samples"):
        Tables(Store(str(tmp_path)), ["bulk"], 1 << 20)


def test_the_service_waits_for_tables_answers_and_stops_on_sigterm(tmp_path):
    root = tmp_path / "home with space"
    port = free_port()
    environment = os.environ | {
        "VARVE_HOME": str(root),
        "VARVE_QUERY__PORT": str(port),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "varve.cli", "serve", "query"]
    service = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        await_status(url, 503)
        tables = WrittenTables(str(root / "tables"))
        tables.define(UP)
        put(tables, START)
        await_status(url, 200)
        status = json.loads((root / "run" / "query.status.json").read_text())
        with urllib.request.urlopen(f"{url}/api/v1/query?query=up&time={START / 1000}") as answer:
            body = json.load(answer)
        service.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        code = service.wait(30)
    finally:
        service.kill()
        service.communicate()

    assert status["detail"]["url"] == url
    assert len(body["data"]["result"]) == 3
    assert code == 0
    assert time.monotonic() - asked < 10
    assert json.loads((root / "run" / "query.status.json").read_text())["state"] == "stopped"


def test_a_taken_port_is_refused_with_its_holder(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        environment = os.environ | {
            "VARVE_HOME": str(tmp_path),
            "VARVE_QUERY__PORT": str(port),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-m", "varve.cli", "serve", "query"]
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    assert ran.returncode == 78  # it needs an operator
    assert f"port {port} is taken by" in ran.stderr
    assert "query.port" in ran.stderr
    assert "Traceback" not in ran.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_status(url, wanted, deadline_s=240.0):
    """Until /-/ready answers with the status; compiling may come first."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as response:
                got = response.status
        except urllib.error.HTTPError as err:
            got = err.code
        except OSError:
            got = None
        if got == wanted:
            return
    raise AssertionError(f"{url}/-/ready was not {wanted} within {deadline_s} s")
