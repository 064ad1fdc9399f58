import json
import random

import pytest

from tests.unit.maintenance.dying import Killed, deaths
from tests.year import BEGIN, DEBUG, SERIES, TABLES, Year, retention
from varve.maintenance import deletion
from varve.maintenance.batch_job import execute
from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.maintenance.vacuum import find_garbage
from varve.model.errors import BadRequest, Conflict
from varve.model.record_rows import RECORD_TABLES
from varve.model.window import DAY_MS, HOUR_MS, TIERS
from varve.rollups.task import run_task
from varve.storage.log import entries
from varve.storage.table import Table

KEPT = retention(4, 6, 8, 10, 11, debug=(1, 2.5, 4))
FOREVER = retention(*(1_000 + n for n in range(5)))
SELECTS = {
    "requests_total": lambda s: s.metric == "requests_total",
    'requests_total{host="0"}': lambda s: dict(s.tags).get("host") == "0",
    "debug_calls": lambda s: s.metric == "debug_calls",
    '{__name__="debug_calls",env="dev"}': lambda s: (
        (s.metric, dict(s.tags).get("env")) == ("debug_calls", "dev")
    ),
    '{env!="",env=~"d.*|prod"}': lambda s: "env" in dict(s.tags),
}
"""Selectors, and the series they select."""
PODS = {"pod_calls": lambda s: s.metric == "pod_calls"}
"""The same of series that come and go."""


def filled(tmp_path, seed=1, days=3, kept=FOREVER, each_ms=HOUR_MS // 2):
    year = Year(str(tmp_path), kept, seed, each_ms)
    for _ in range(days):
        year.day(parts=1)
    year.compact()
    return year


def meant(year, wanted):
    """Keys of the samples that a deletion means."""
    selects = SELECTS | PODS
    chosen = {s.series_id for s in year.series if any(selects[text](s) for text in wanted.match)}
    return {
        (series, ts)
        for series, ts in year.samples
        if series in chosen and wanted.start_ms <= ts <= wanted.end_ms
    }


def delete(year, wanted):
    return execute(Deletion(year.store, wanted), year.store, year.clock.now_ms())


def forget(year, wanted):
    """Has the oracle forget them, too; how many they are."""
    gone = meant(year, wanted)
    for key in gone:
        del year.samples[key]
    return len(gone)


@pytest.mark.parametrize("seed", range(3))
def test_everything_is_as_if_the_samples_had_never_been(tmp_path, seed):
    year, rng = filled(tmp_path, seed), random.Random(seed)
    for _ in range(6):
        start = BEGIN + rng.randrange(3 * DAY_MS)
        length = rng.choice([0, 1, 90_000, HOUR_MS, 5 * HOUR_MS, DAY_MS])
        if rng.random() < 0.3:  # aligned ends: windows go as a whole
            start = start // HOUR_MS * HOUR_MS + 1
            length = max(length // HOUR_MS * HOUR_MS - 1, 0)
        wanted = Wanted((rng.choice(list(SELECTS)),), start, start + length)

        report = delete(year, wanted)

        assert report.planned.rows["samples"] == forget(year, wanted)
        year.check()
        if rng.random() < 0.5:
            year.day(parts=1)
            year.compact()
    year.day(parts=1)
    year.check()


def test_without_a_range_all_of_a_series_goes_and_the_commit_says_what_went(tmp_path):
    year = filled(tmp_path, days=2)
    wanted = Wanted(("debug_calls", "requests_total"), by="ann@ops")

    done = delete(year, wanted).done

    assert done.samples == forget(year, wanted)
    year.check()
    table = Table(year.store, "samples")
    (entry,) = entries(year.store, "samples", table.version - 1, table.version)
    said = entry.metadata["deletion"]
    assert said["match"] == ["debug_calls", "requests_total"]
    assert (said["by"], said["samples"]) == ("ann@ops", done.samples)
    assert said["series"] == sum(s.metric != "debug_depth" for s in SERIES)


def test_a_dry_run_changes_nothing_and_says_what_would_go(tmp_path):
    year = filled(tmp_path, days=2)
    wanted = Wanted(("requests_total",), BEGIN, BEGIN + HOUR_MS)
    versions = {name: Table(year.store, name).version for name in TABLES}

    job = Deletion(year.store, wanted)
    report = execute(job, year.store, year.clock.now_ms(), dry_run=True)

    assert {name: Table(year.store, name).version for name in TABLES} == versions
    planned = json.loads(json.dumps(report.as_json()))["planned"]
    assert planned["rows"]["samples"] == len(meant(year, wanted)) > 0
    # The sample at the very start is of the hour before, which has no row.
    assert planned["rows"]["rollup_1h"] == planned["series"] == 3
    assert planned["anew"]["rollup_1d"] == 3
    assert "requests_total: 3 series, from 2027-01-01T00:00:00Z" in "\n".join(report.lines())


def test_nothing_is_committed_where_there_is_nothing_to_delete(tmp_path):
    year = filled(tmp_path, days=1)
    version = Table(year.store, "samples").version

    done = delete(year, Wanted(("requests_total",), BEGIN - DAY_MS, BEGIN)).done

    assert done.number is None
    assert Table(year.store, "samples").version == version


@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_deletion_that_dies_at_any_commit_is_finished_by_whoever_comes_next(tmp_path, error):
    year = filled(tmp_path, days=2)
    wanted = Wanted(("requests_total",), BEGIN + 90_001, BEGIN + DAY_MS + 90_000)
    died = 0
    for _ in deaths(lambda: delete(year, wanted), error):
        died += 1
        # While the rest is owed, what it is finished from stays in the log.
        if deletion.is_owed(year.store):
            assert find_garbage(year.store, "samples", year.clock.now_ms()).keep_log_from == 0
        year.roll_up()

    forget(year, wanted)
    year.check()
    assert died == 2 * (1 + len(TIERS) + len(RECORD_TABLES))
    assert not deletion.is_owed(year.store)


def test_what_a_driver_had_computed_before_is_not_committed_after(tmp_path):
    year = filled(tmp_path, days=2)
    late = {(SERIES[0].series_id, BEGIN + HOUR_MS - 5): 7.0}
    year.put(late)
    worker = year.workers[0]
    work = worker.plan()
    files = [file for file in map(run_task, work.tasks) if file is not None]
    assert files
    wanted = Wanted(("requests_total",), BEGIN, BEGIN + 2 * HOUR_MS)

    delete(year, wanted)
    forget(year, wanted)

    with pytest.raises(Conflict):
        worker.commit(work, files)
    worker.recover()
    year.roll_up()
    year.check()


def test_windows_whose_samples_have_expired_go_as_a_whole_at_the_ends(tmp_path):
    year = Year(str(tmp_path), KEPT, 5, HOUR_MS // 2)
    for _ in range(7):
        year.day(parts=1)
        year.expire()
    before = {name: year.stored(name) for name in TABLES}
    series = SERIES[0].series_id
    mark = year.mark("samples", series)
    # Half an hour of 1m rows whose samples have gone: 1m goes whole, the rest is made of it.
    start, end = mark - HOUR_MS + 1, mark - HOUR_MS // 2
    wanted = Wanted(('requests_total{host="0"}',), start + 30_000, end - 30_000)

    delete(year, wanted)

    for name in TABLES:
        after = year.stored(name)
        changed = {k for k in before[name] if after.get(k) != before[name][k]}
        assert {s for s, _ in changed} <= {series}
        assert not after.keys() - before[name].keys()
    minutes = {e for s, e in year.stored("rollup_1m") if s == series}
    assert not any(start < at <= end for at in minutes)
    hour = year.stored("rollup_1h")[series, mark]
    assert hour != before["rollup_1h"][series, mark]


def test_other_series_and_classes_are_left_alone(tmp_path):
    year = Year(str(tmp_path), KEPT, 6, HOUR_MS // 2)
    for _ in range(3):
        year.day(parts=1)
    year.expire()
    wanted = Wanted(("debug_calls",), BEGIN + DAY_MS + 5, BEGIN + 2 * DAY_MS + 90_000)

    delete(year, wanted)
    forget(year, wanted)

    dev = {s.series_id for s in SERIES if DEBUG.matches(s)}
    for name, wanted_rows in year.oracle(dict.fromkeys(TABLES, 0)).items():
        there = year.stored(name)
        for key, row in wanted_rows.items():
            if key[0] not in dev:
                assert there[key] == row


@pytest.mark.parametrize(
    ("match", "complaint"),
    [
        ((), "a selector is wanted"),
        (("up offset 5m",), "not a plain vector selector"),
        (("up{",), "cannot select series"),
        (("rate(up[5m])",), "not a plain vector selector"),
        (('{a=~".*"}',), "at least one non-empty matcher"),
    ],
)
def test_what_selects_no_series_is_refused(tmp_path, match, complaint):
    year = Year(str(tmp_path), FOREVER, 1)
    with pytest.raises(BadRequest, match=complaint):
        delete(year, Wanted(match))


def test_a_range_that_ends_before_it_begins_is_refused():
    with pytest.raises(BadRequest, match="ends before it begins"):
        Wanted(("up",), 2, 1)


def test_more_series_than_a_commit_can_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(deletion, "MOST_SERIES", 2)
    year = Year(str(tmp_path), FOREVER, 1)
    with pytest.raises(BadRequest, match="delete them in several"):
        delete(year, Wanted(("requests_total",)))
