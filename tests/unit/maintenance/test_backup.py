"""docs/operations.md: a copy taken table by table in its order, while all is written, is whole."""

import re
import shutil
from pathlib import Path

import pyarrow.compute as pc

from tests.line import Line
from tests.unit.ingest.messages import as_json, record
from varve.model.window import TIERS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import entries
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
MINUTE_MS = 60_000
START_MS = 1_795_338_000_000
MESSAGES = 40


def _ingest(line):
    """Message number n, whenever and by whomever it is read: a sample of now, a late one, a record
    that is refused. Every tenth has a new series.
    """
    number = line.next
    ts = START_MS + number * MINUTE_MS
    line.clock.at_ms = ts
    now = record(ts - 1, 1.0, series=str(number // 10))
    late = record(ts - 17 * MINUTE_MS, float(number), series="late")
    line.ingest(as_json(now, late, {"metric": "bad", "timestamp": ts}))


def _finish(line):
    while line.next < MESSAGES:
        _ingest(line)
    line.roll_up()


def _rows(line, table):
    return snapshot(line.store, table).scan(Bounds())


def _rolled_up(line, tier):
    """The newest revision of each row."""
    return {
        (row["series_id"], row["window_end"]): (row["count"], row["sum"], row["last_value"])
        for row in _rows(line, tier.table).sort_by("revision").to_pylist()
    }


def _order():
    text = OPERATIONS.read_text()
    return re.search(r"^    (rollup_1d .*)$", text, re.MULTILINE)[1].split()


def _copy(table, source, target):
    """The log, then the files, as documented; only what the copied log has may be needed."""
    shutil.copytree(source / table / "_delta_log", target / table / "_delta_log")
    shutil.copytree(
        source / table, target / table, dirs_exist_ok=True, ignore=lambda *_: ["_delta_log"]
    )


def test_a_copy_in_the_documented_order_goes_on_to_the_same_end(tmp_path):
    line = Line(str(tmp_path / "tables"), START_MS)
    for number in range(20):
        _ingest(line)
        if number % 3 == 0:
            line.roll_up()
    for table in _order():
        _copy(table, tmp_path / "tables", tmp_path / "copy")
        _ingest(line)
        line.roll_up()
    _finish(line)
    assert {tier.table for tier in TIERS} | {"samples", "series", "quarantine", "repairs"} == set(
        _order()
    )

    copy = Store(str(tmp_path / "copy"))
    samples, quarantine = Table(copy, "samples"), Table(copy, "quarantine")
    # Nothing in it speaks of what is not there.
    ids = snapshot(copy, "series").scan(Bounds())["series_id"]
    assert pc.all(pc.is_in(snapshot(copy, "samples").scan(Bounds())["series_id"], ids)).as_py()
    assert quarantine.position(positions.rejects("bulk")) >= samples.position(
        positions.rejects("bulk")
    )
    for below, above in zip(("samples", *(t.table for t in TIERS)), TIERS, strict=False):
        read = [
            entry.metadata["version"]
            for entry in entries(copy, above.table, 0, Table(copy, above.table).version)
            if "version" in entry.metadata
        ]
        assert max(read, default=0) <= Table(copy, below).version

    restored = Line(str(tmp_path / "copy"), START_MS)
    assert 20 < restored.next < MESSAGES
    _finish(restored)

    assert sorted(_rows(restored, "samples").to_pylist(), key=str) == sorted(
        _rows(line, "samples").to_pylist(), key=str
    )
    for tier in TIERS:
        assert _rolled_up(restored, tier) == _rolled_up(line, tier)
    refused = {(r["partition"], r["offset"]) for r in _rows(restored, "quarantine").to_pylist()}
    assert refused == {(0, number) for number in range(MESSAGES)}
