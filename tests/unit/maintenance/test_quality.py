"""Quality checks find what is planted in real tables, and nothing else."""

from __future__ import annotations

import pytest

pytest.importorskip("great_expectations")

import time

import pyarrow as pa

from tests.tables import WrittenTables
from varve.maintenance.batch_job import execute
from varve.maintenance.quality.job import ALERT, QualityCheck
from varve.maintenance.quality.suites import Thresholds
from varve.model.errors import TemporaryError
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS, MINUTE_MS, Window
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

BEGIN = 1_795_305_600_000
HOURS = 6
END = BEGIN + HOURS * HOUR_MS
WINDOW = Window(BEGIN, END)
EXPECTED = Thresholds(0.05, 0.1, 0.02, 0.95)
GAUGE = define("queue", {"host": "a"}, metric_type="gauge")
COUNTER = define("requests_total", {"host": "a"}, metric_type="counter")


@pytest.fixture
def tables(tmp_path):
    return WrittenTables(str(tmp_path / "tables"))


def fill(tables, *, falling=False, skipped=0, stale=0):
    """Six hours of a gauge and a counter, a sample a minute each."""
    tables.define([GAUGE, COUNTER])
    rows = []
    for n in range(HOURS * 60):
        ts = BEGIN + (n + 1) * MINUTE_MS
        if not skipped or n % 60 >= skipped:
            rows.append((GAUGE.series_id, ts, None if n < stale else float(n % 7)))
        rows.append((COUNTER.series_id, ts, float(n % 5 if falling else n)))
    tables.put(rows, complete_ms=END)
    tables.roll_up()


class Told:
    def __init__(self):
        self.events, self.metrics, self.away = [], [], False

    def __call__(self, events, found, at_ms):
        if self.away:
            raise TemporaryError("no Kafka")
        self.events += events
        self.metrics += [(j.suite, j.success, at_ms) for j in found]


def check(tables, told=None, now_ms=END + MINUTE_MS, **options):
    job = QualityCheck(
        tables.store, EXPECTED, told or Told(), rows=100_000, hours=2, window=WINDOW, **options
    )
    return execute(job, tables.store, now_ms).as_json()


def failed(report):
    return {(j["suite"], j["column_name"]) for j in report["done"]["failed"]}


def test_all_is_met_where_nothing_is_wrong_and_the_pages_say_so(tables, tmp_path):
    fill(tables)

    report = check(tables, docs=tmp_path / "quality")

    assert report["done"]["failed"] == []
    assert report["done"]["expectations"] > 60
    assert "recomputed" in (tmp_path / "quality" / "index.html").read_text()
    kept = snapshot(tables.store, "quality").scan(Bounds())
    assert kept.num_rows == report["done"]["expectations"]
    assert set(kept["success"].to_pylist()) == {True}


@pytest.mark.parametrize(
    ("fault", "suites"),
    [
        ({"falling": True}, {("counters", "reset_share")}),
        ({"skipped": 20}, {("gaps", "gap_share")}),
        ({"stale": 60}, {("samples", "value")}),
    ],
    ids=str,
)
def test_a_fault_of_what_was_measured_is_found_alone(tables, fault, suites):
    fill(tables, **fault)

    assert failed(check(tables)) == suites


def test_a_rollup_row_that_is_not_what_the_samples_give_is_found(tables):
    fill(tables)
    rows = snapshot(tables.store, "rollup_1m").scan(Bounds())
    wrong = [
        {**row, "max": row["max"] + 1, "revision": row["revision"] + 1} for row in rows.to_pylist()
    ]
    schema = table_schema("rollup_1m").arrow
    table = Table(tables.store, "rollup_1m")
    file = write_file(tables.store, "rollup_1m", pa.Table.from_pylist(wrong, schema))
    turn = table.position("turn:1m")
    commit(table, [file], transactions={"turn:1m": Step(turn, turn + 1)})

    assert ("recomputed", "differing") in failed(check(tables))


def test_samples_that_are_unaccounted_for_are_found(tables):
    fill(tables)
    table = Table(tables.store, "samples")
    said = {"in": 10, "stored": 7, "merged": 1, "rejected": {"too_old": 1}}
    commit(table, [], transactions={"batch:bulk": Step(None, 0)}, metadata=said)
    now_ms = int(time.time() * 1000) + 1  # commits have the time of this machine
    job = QualityCheck(
        tables.store,
        EXPECTED,
        Told(),
        rows=1000,
        hours=0,
        window=Window(now_ms - HOUR_MS, now_ms),
    )
    report = execute(job, tables.store, END + MINUTE_MS).as_json()

    assert ("accounting", "unaccounted") in failed(report)


def test_a_tier_that_stands_still_is_found(tables):
    fill(tables)

    assert failed(check(tables, now_ms=END + 10 * MINUTE_MS)) == {("frontier", "bound_s, age_s")}


def test_an_alert_fires_in_every_run_that_does_not_meet_an_expectation(tables):
    fill(tables)
    told = Told()

    check(tables, told, now_ms=END + 10 * MINUTE_MS)
    check(tables, told, now_ms=END + 11 * MINUTE_MS)

    assert [e.state for e in told.events] == ["firing", "firing"]
    assert {e.labels["alertname"] for e in told.events} == {ALERT}
    assert told.events[0].starts_ms == told.events[1].starts_ms == END + 10 * MINUTE_MS
    assert told.events[0].key == told.events[1].key
    assert len(told.metrics) > 120


def test_what_is_well_again_is_resolved(tables):
    fill(tables)
    told = Told()
    check(tables, told, now_ms=END + 10 * MINUTE_MS)
    tables.put([(GAUGE.series_id, END + 20 * MINUTE_MS, 1.0)], complete_ms=END + 20 * MINUTE_MS)
    tables.roll_up()

    check(tables, told, now_ms=END + 21 * MINUTE_MS)

    assert [e.state for e in told.events] == ["firing", "resolved"]
    assert told.events[1].starts_ms == END + 10 * MINUTE_MS


def test_results_are_kept_when_nobody_can_be_told(tables):
    fill(tables)
    told = Told()
    told.away = True

    with pytest.raises(TemporaryError):
        check(tables, told)

    assert snapshot(tables.store, "quality").scan(Bounds()).num_rows > 60


def test_the_same_seed_draws_the_same_rows(tables):
    from varve.maintenance.quality.facts import Sampling, table_rows

    fill(tables)
    held = snapshot(tables.store, "samples")

    one, same, other = (table_rows(held, Sampling(WINDOW, END, seed, 50, 0)) for seed in (1, 1, 2))

    assert len(one) == 50
    assert one.equals(same)
    assert not one.equals(other)
