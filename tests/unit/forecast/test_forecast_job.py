"""From samples to a warning: the job over real tables, with both models."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from tests.tables import WrittenTables
from varve.forecast import capacity
from varve.forecast.forecast_job import Forecasting, fit_here
from varve.forecast.hourly import Hourly
from varve.forecast.report import as_html, capacity_report, cells
from varve.forecast.resources import parse
from varve.maintenance.batch_job import execute
from varve.model.errors import TemporaryError
from varve.model.identity import define
from varve.model.resources import schemas_dir
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

BEGIN = 1_795_392_000_000
HOUR, DAY = 3_600_000, 86_400_000
USED = define("disk_used_bytes", {"volume": "data"}, metric_type="gauge")
SIZE = define("disk_size_bytes", {"volume": "data"}, metric_type="gauge")
LOOSE = define("disk_used_bytes", {"volume": "tmp"}, metric_type="gauge")
JOBS = define("jobs_total", {}, metric_type="counter")
SERIES = (USED, SIZE, LOOSE, JOBS)
EVENT = json.loads((schemas_dir() / "wire" / "alert-event.schema.json").read_text())
RESOURCES = parse(
    """
[resource.disk]
match = { __name__ = "disk_used_bytes" }
threshold = { metric = "disk_size_bytes", times = 0.9 }
[resource.jobs]
match = { __name__ = "jobs_total" }
threshold = 1000
""",
    "here",
)


def used_at(ts):
    """Fills 5 a day, with a daily season; full (90 of 100) when the mean is there."""
    days = (ts - BEGIN) / DAY
    return 30 + 5 * days + 0.8 * np.sin(days * 2 * np.pi)


class Told:
    """The topic alerts, which may be away."""

    def __init__(self):
        self.events, self.is_away = [], False

    def __call__(self, events):
        if self.is_away:
            raise TemporaryError("no Kafka at here")
        self.events += [json.loads(event.message()) for event in events]


@pytest.fixture
def tables(tmp_path):
    written = WrittenTables(str(tmp_path / "tables"))
    written.define(SERIES)
    return written


def put_hours(tables, first, last, *, used=used_at, late=False):
    random = np.random.default_rng(first)
    rows = []
    for hour in range(first, last):
        ts = BEGIN + hour * HOUR + HOUR // 2
        rows += [
            (USED.series_id, ts, float(used(ts) + random.normal(0, 0.1))),
            (SIZE.series_id, ts, 100.0),
            (LOOSE.series_id, ts, 1.0),
            (JOBS.series_id, ts, float(hour * 3600)),
        ]
    tables.put(rows, complete_ms=None if late else BEGIN + last * HOUR)
    tables.roll_up()


def run(tables, told, fit=fit_here, resources=RESOURCES):
    job = Forecasting(tables.store, resources, fit, told)
    return execute(job, tables.store, 0).done


def rows_of(tables, name):
    return snapshot(tables.store, name).scan(Bounds()).to_pylist()


def test_a_disk_that_fills_is_warned_of_days_ahead_and_resolved_when_it_is_emptied(
    tables, tmp_path
):
    told = Told()
    put_hours(tables, 0, 8 * 24)
    now = BEGIN + 8 * DAY

    done = run(tables, told)

    assert (sum(done.by_model.values()), done.resources, done.breaches, done.events) == (3, 3, 1, 1)
    truth = next(ts for ts in range(now, now + 7 * DAY, HOUR) if used_at(ts) >= 90)
    assert truth - now > 3 * DAY
    (event,) = told.events
    jsonschema.validate(event, EVENT)
    assert (event["rule"], event["state"], event["value"]) == (
        capacity.ALERT,
        "firing",
        pytest.approx(used_at(now), abs=1),
    )
    assert event["labels"]["volume"] == "data"
    first = capacity_report(tables.store, now)[0]
    assert (first.series, first.state) == ('disk_used_bytes{volume="data"}', "firing")
    assert abs(first.reaches_at - truth) < 0.1 * (truth - now)
    assert first.earliest_at <= first.reaches_at
    assert first.probability > 0.5
    lines = {line.series: line for line in capacity_report(tables.store, now)}
    assert "no disk_size_bytes" in lines['disk_used_bytes{volume="tmp"}'].reason
    assert lines["jobs_total{}"].value == pytest.approx(1.0), "a counter is judged by its rate"
    assert all(len(cells(line)) == 7 for line in lines.values())
    assert "&quot;data&quot;" in as_html(list(lines.values()), now)

    again = run(tables, told)
    assert (again.by_model, again.events) == ({}, 0), "nothing is due, nothing is told twice"

    put_hours(tables, 8 * 24, 9 * 24 + 1, used=lambda _ts: 10.0)
    run(tables, told)
    assert [e["state"] for e in told.events] == ["firing", "resolved"]
    assert told.events[1]["fingerprint"] == event["fingerprint"]
    assert told.events[1]["ends_at"] == BEGIN + (9 * 24 + 1) * HOUR


def test_events_wait_for_a_topic_that_is_away_and_are_told_once_it_is_back(tables):
    told = Told()
    told.is_away = True
    put_hours(tables, 0, 8 * 24)
    assert run(tables, told).waiting == "no Kafka at here"
    assert told.events == []
    told.is_away = False
    assert run(tables, told).events == 1
    assert run(tables, told).events == 0


def test_history_that_comes_late_is_forecast_from_at_once(tables):
    told = Told()
    put_hours(tables, 6 * 24, 8 * 24 + 12)
    first = run(tables, told)
    assert sum(first.by_model.values()) == 3
    put_hours(tables, 0, 6 * 24, late=True)

    job = Forecasting(tables.store, RESOURCES, fit_here, told)
    due = execute(job, tables.store, 0, dry_run=True).planned

    assert due.as_json() == {"selected": 3, "new": 0, "old": 0, "off": 0, "grown": 3}


def test_a_series_that_leaves_its_interval_is_forecast_again(tables):
    told = Told()
    put_hours(tables, 0, 8 * 24)
    run(tables, told)
    put_hours(tables, 8 * 24, 8 * 24 + 4, used=lambda _ts: 5.0)

    job = Forecasting(tables.store, RESOURCES, fit_here, told)
    due = execute(job, tables.store, 0, dry_run=True).planned

    assert due.off.tolist() == [USED.series_id]


def test_a_killed_run_keeps_the_fits_it_has_committed(tables, monkeypatch):
    monkeypatch.setattr("varve.forecast.forecast_job.AT_ONCE", 1)
    told, begun = Told(), []
    put_hours(tables, 0, 4 * 24)

    def dies(tasks):
        begun.append(len(tasks))
        if len(begun) == 2:
            raise KeyboardInterrupt
        return fit_here(tasks)

    with pytest.raises(KeyboardInterrupt):
        run(tables, told, dies)

    assert len(rows_of(tables, "forecast_fits")) == 1
    assert sum(run(tables, told).by_model.values()) == 2


def test_a_series_whose_fit_fails_is_a_row_with_its_reason_and_the_others_go_on(tables):
    put_hours(tables, 0, 8 * 24)

    def poisoned(task):
        if task.series_id != LOOSE.series_id:
            return task
        signs = np.random.default_rng(1).choice([-1.0, 1.0], len(task.history.values))
        values = 1.5e308 * signs
        return replace(task, history=Hourly(task.history.end_ms, values))

    def fit(tasks):
        return fit_here([poisoned(task) for task in tasks])

    done = run(tables, Told(), fit)

    fits = {row["series_id"]: row for row in rows_of(tables, "forecast_fits")}
    assert done.failed == 1
    assert fits[LOOSE.series_id]["status"] == "failed"
    assert "too far apart" in fits[LOOSE.series_id]["reason"]
    assert {fits[s.series_id]["status"] for s in (USED, JOBS)} == {"forecast"}


def test_a_series_without_two_days_of_hours_is_a_row_with_a_reason(tables):
    put_hours(tables, 0, 24)
    done = run(tables, Told())
    # The first sample of a counter has no rate.
    assert done.reasons == {
        "24 hours have a number, 48 are needed": 2,
        "23 hours have a number, 48 are needed": 1,
    }
    assert {row["status"] for row in rows_of(tables, "forecast_fits")} == {"skipped"}


def test_the_command_prints_what_runs_out(tables, tmp_path):
    put_hours(tables, 0, 8 * 24)
    run(tables, Told())

    def capacity_of(*options):
        command = [sys.executable, "-m", "varve.cli", "capacity", "--home", str(tmp_path), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (firing, *_) = json.loads(capacity_of("--json"))
    assert (firing["resource"], firing["state"]) == ("disk", "firing")
    assert capacity_of("--html", str(tmp_path / "report.html")).startswith("written")
    assert "disk_used_bytes" in Path(tmp_path / "report.html").read_text()
