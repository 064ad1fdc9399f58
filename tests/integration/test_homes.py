"""A home that an earlier release wrote: this one answers from it, and ingests and rolls up on."""

import json
import shutil
from pathlib import Path

import pytest

from tests.fixtures.asking import answers
from tests.fixtures.make_home import LIMITS, UNDEFINED
from tests.line import DAY_MS, PARTITION, QUERY, Line
from tests.unit.ingest.messages import as_arrow, as_json, record
from varve.ingest.quarantine_replay import Selection
from varve.ingest.reject_reasons import Reason
from varve.ingest.replayed import Replayed
from varve.model.window import TIERS, Window
from varve.query.sql import connect
from varve.rollups.verify import verify
from varve.services.table_sizes import TableSize
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

QUARANTINE = "SELECT reason, count(*), sum(samples) FROM quarantine GROUP BY 1 ORDER BY 1"
HOMES = sorted((Path(__file__).parents[1] / "fixtures").glob("home-*"))


@pytest.fixture(params=HOMES, ids=lambda home: home.name)
def home(request, tmp_path):
    """Its store, a copy; and what was true of it."""
    shutil.copytree(request.param / "tables", tmp_path / "tables")
    expected = json.loads((request.param / "expected.json").read_text())
    return Store(str(tmp_path / "tables")), expected


def _count(store, table):
    return sum(file.rows for file in Table(store, table).live_files().values())


def test_there_is_a_home_of_this_release_or_of_one_before():
    assert HOMES


def test_it_answers_as_it_did(home):
    store, expected = home

    assert answers(store, expected["now_ms"]) == expected


def test_a_start_changes_no_answer_and_may_be_repeated(home):
    store, expected = home

    create_tables(store)
    versions = {name: Table(store, name).version for name in expected["positions"]}
    create_tables(store)

    assert {name: Table(store, name).version for name in expected["positions"]} == versions
    assert answers(store, expected["now_ms"]) == expected


def test_ingest_goes_on_where_it_was_and_knows_its_series(home):
    store, expected = home
    line = Line(store.root, expected["now_ms"] + 60_000, limits=LIMITS)
    stored, registered = _count(store, "samples"), _count(store, "series")
    assert line.next == expected["positions"]["samples"][PARTITION.position(QUERY)]

    now_ms = line.clock.now_ms()
    crowd = [record(now_ms, 7.0, "crowd", user=user) for user in "019"]
    accounting = line.ingest(as_json(record(now_ms, 5.0, host="a"), *crowd), b"garbage")

    # Two of the crowd were there first; the limit is on new ones.
    assert accounting["stored"] == 3
    assert accounting["rejected"] == {"cardinality_limit": 1, "malformed": 1}
    assert accounting["batch"] == expected["positions"]["samples"][f"batch:{QUERY}"] + 1
    assert _count(store, "samples") == stored + 3
    assert _count(store, "series") == registered


def test_what_it_had_refused_is_shown_without_the_numbers_it_did_not_keep(home):
    store, expected = home
    query = "SELECT reason, sum(samples), count(metric), count(allowed) FROM rejects GROUP BY 1"

    found = connect(store, query).sql(query).fetchall()

    assert {(row[2], row[3]) for row in found} == {(0, 0)}
    assert sum(row[1] for row in found) == sum(
        int(samples) for _, _, samples in expected["sql"][QUARANTINE]
    )


def test_what_waited_in_quarantine_is_stored_once_its_definition_comes(home):
    store, expected = home
    line = Line(store.root, expected["now_ms"], limits=LIMITS)
    waiting = next(
        int(samples)
        for reason, _, samples in expected["sql"][QUARANTINE]
        if reason == "'unknown_series'"
    )
    line.ingest(as_arrow([(UNDEFINED, expected["now_ms"] + 1, 6.0)]))

    counts = line.replay(Selection(frozenset({Reason.UNKNOWN_SERIES})))

    assert counts == Replayed(stored=waiting)
    left = snapshot(store, "quarantine").scan(Bounds())["reason"].to_pylist()
    assert "unknown_series" not in left
    assert "malformed" in left


def test_rollups_close_and_repair_what_the_earlier_release_had_written(home):
    store, expected = home
    frontiers = {t.name: expected["positions"][t.table][f"frontier:{t.name}"] for t in TIERS}
    line = Line(store.root, expected["now_ms"] + DAY_MS, limits=LIMITS)
    late_ms = frontiers["1d"] - 7_200_000
    line.ingest(as_json(record(late_ms, 50.0, host="b"), record(line.clock.now_ms(), 1.0)))

    line.roll_up()

    for tier in TIERS:
        assert Table(store, tier.table).position(f"frontier:{tier.name}") > frontiers[tier.name]
    report = verify(store, Window(late_ms - 2 * DAY_MS, expected["now_ms"] + 2 * DAY_MS))
    assert report.differences == []
    assert all(report.rows.values())


def test_its_size_is_known(home):
    store, _ = home

    size = TableSize(store, "samples").look()

    assert size.rows == _count(store, "samples")
    assert size.log < size.version
