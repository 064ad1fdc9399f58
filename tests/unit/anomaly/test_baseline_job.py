"""Baselines kept from run to run equal a recomputation from the samples, whatever came late."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.tables import WrittenTables
from tests.unit.anomaly.series_rows import naive_minutes, naive_reference
from varve.anomaly.baseline_job import BASELINES, FEATURES, Baselines, newest_rows
from varve.anomaly.day_features import TABLE as DAY_FEATURES
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.model.calendar import NO_HOLIDAYS
from varve.model.identity import define
from varve.query.sql import connect
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

ROOT = Path(__file__).parents[3]
MONDAY = 1_795_392_000_000 - 1_795_392_000_000 % (7 * 86_400_000) + 4 * 86_400_000
HOUR, MINUTE, DAY = 3_600_000, 60_000, 86_400_000
GAUGE = define("depth", {"queue": "a"}, metric_type="gauge")
COUNTER = define("jobs_total", {"queue": "a"}, metric_type="counter")
SERIES = (GAUGE, COUNTER)
(DAY_QUERY,) = re.findall(
    r"^```sql\n(.*?)^```", (ROOT / "docs" / "anomalies.md").read_text(), re.DOTALL | re.MULTILINE
)
DAY_COLUMNS = ("level", "trend", "volatility", "gap_rate", "resets", "season_strength")


def baselines(store, **bounds):
    rows = snapshot(store, BASELINES).scan(Bounds(**bounds)).to_pylist()
    return {(r["series_id"], r["season"], r["method"], r["hour_of_week"]): r for r in rows}


def run(tables, **options):
    return execute(Baselines(tables.store, **options), tables.store, 0)


batches = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(1, 10 * 60),  # minutes; most batches come late for some
            st.integers(0, 59_999),
            st.one_of(st.none(), st.integers(0, 50).map(float)),
        ),
        min_size=1,
        max_size=60,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(batches, st.integers(60, 2_000))
@example([[(0, 1, 0, 0.0)], [(0, 1, 0, None)]], 60)  # hours close in which nothing came
@example([[(1, 1, 0, 0.0), (1, 2, 0, None), (1, 4, 0, 0.0)]], 60)  # an end in a minute of its own
@example([[(1, 1, 0, 0.0), (1, 4, 0, 0.0)], [(1, 2, 0, None)]], 60)  # which comes late
def test_any_lateness_leaves_the_reference_of_a_recomputation(
    tmp_path_factory, given_batches, rows
):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    tables.define(SERIES)
    sent = {d.series_id: {} for d in SERIES}
    for n, batch in enumerate(given_batches):
        fresh = {}
        for which, minute, ms, value in batch:
            key = (SERIES[which].series_id, MONDAY + minute * MINUTE + ms)
            if key[1] not in sent[key[0]] and key not in fresh:
                fresh[key] = value
                sent[key[0]][key[1]] = value
        samples = [(*key, value) for key, value in fresh.items()]
        tables.put(samples, complete_ms=MONDAY + (n + 2) * 3 * HOUR)
        tables.roll_up()
        run(tables, piece_rows=rows)

    end = MONDAY + (len(given_batches) + 1) * 3 * HOUR
    found = baselines(tables.store)
    for definition in SERIES:
        minutes = naive_minutes(sent[definition.series_id].items(), is_rate=definition is COUNTER)
        count, mean, stddev = naive_reference(minutes, end)
        row = found.get((definition.series_id, "none", "mean", -1))
        assert (row is None) == (count == 0)
        if row is not None:
            assert row["count"] == count
            assert row["mean"] == pytest.approx(mean, rel=1e-9, abs=1e-9)
            assert row["stddev"] == pytest.approx(stddev, rel=1e-9, abs=1e-7)
            assert row["is_rate"] == (definition is COUNTER)
            assert row["computed_at"] == end


def test_after_a_week_with_late_data_baselines_are_those_of_the_samples_at_once(tmp_path):
    random = np.random.default_rng(11)
    kept, whole = (WrittenTables(str(tmp_path / name)) for name in ("kept", "whole"))
    sent = {d.series_id: {} for d in SERIES}
    arrivals = {day: [] for day in range(1, 10)}
    total = 0.0
    for ts in range(MONDAY + 4 * MINUTE, MONDAY + 9 * DAY, 4 * MINUTE):
        level = 100 + 40 * np.sin(ts % DAY / DAY * 2 * np.pi)
        total += random.poisson(level)
        for definition, value in ((GAUGE, level + random.normal(0, 3)), (COUNTER, total)):
            sent[definition.series_id][ts] = float(value)
            day = (ts - MONDAY) // DAY + 1
            late = int(random.integers(1, 4)) if random.random() < 0.2 else 0
            arrivals[min(day + late, 9)].append((definition.series_id, ts, float(value)))
    for tables in (kept, whole):
        tables.define(SERIES)
    for day, samples in arrivals.items():
        kept.put(samples, complete_ms=MONDAY + day * DAY)
        kept.roll_up()
        run(kept)
    whole.put([row for rows in arrivals.values() for row in rows], complete_ms=MONDAY + 9 * DAY)
    whole.roll_up()
    run(whole)

    found, expected = baselines(kept.store), baselines(whole.store)

    assert found.keys() == expected.keys()
    assert (GAUGE.series_id, "day", "mean", 12) in found
    for key, row in expected.items():
        for name in ("mean", "stddev", "error", "held_above", "extreme_below"):
            assert found[key][name] == pytest.approx(row[name], rel=1e-9, abs=1e-9), (key, name)
    for definition in SERIES:
        minutes = naive_minutes(sent[definition.series_id].items(), is_rate=definition is COUNTER)
        count, mean, stddev = naive_reference(minutes, MONDAY + 9 * DAY)
        row = found[definition.series_id, "none", "mean", -1]
        assert row["count"] == count
        assert row["mean"] == pytest.approx(mean, rel=1e-9)
        assert row["stddev"] == pytest.approx(stddev, rel=1e-9)


def test_a_run_writes_the_hours_that_closed_or_were_repaired_and_no_others(tmp_path):
    tables = WrittenTables(str(tmp_path))
    tables.define(SERIES)
    put = [(GAUGE.series_id, MONDAY + n * MINUTE, float(n % 7)) for n in range(1, 601)]
    tables.put(put, complete_ms=MONDAY + 10 * HOUR)
    tables.roll_up()
    assert run(tables).done.hours == 10
    assert run(tables).done.hours == 0

    tables.put([(GAUGE.series_id, MONDAY + 90 * MINUTE + 1, 1e6)])
    tables.roll_up()
    planned = execute(Baselines(tables.store), tables.store, 0, dry_run=True)
    assert planned.planned.as_json()["repaired_hours"] == 1
    assert run(tables).done.hours == 1
    assert len(snapshot(tables.store, BASELINES).files) == 1, "old baselines are dropped"


def test_merging_files_of_features_changes_no_baseline(tmp_path):
    tables = WrittenTables(str(tmp_path))
    tables.define(SERIES)
    for hour in range(6):
        begin = MONDAY + hour * HOUR
        put = [(GAUGE.series_id, begin + n * MINUTE, float(n * hour)) for n in range(1, 61)]
        put += [(GAUGE.series_id, MONDAY + (hour + 1) * MINUTE - 1, 5.0)]
        tables.put(put, complete_ms=begin + HOUR)
        tables.roll_up()
        run(tables)
    before = newest_rows(snapshot(tables.store, FEATURES).scan(Bounds()))
    execute(Compaction(tables.store), tables.store, MONDAY + 90 * DAY)

    after = snapshot(tables.store, FEATURES)

    assert len(after.files) == 1
    assert newest_rows(after.scan(Bounds())).equals(before)
    assert after.scan(Bounds()).num_rows == 6


def test_a_daily_season_and_a_constant_are_told_apart(tmp_path):
    tables = WrittenTables(str(tmp_path))
    flat = define("flat", {}, metric_type="gauge")
    tables.define([GAUGE, flat])
    random = np.random.default_rng(7)
    put = []
    for minute in range(5, 8 * 24 * 60 + 1, 5):
        ts = MONDAY + minute * MINUTE
        level = 100 + 50 * np.sin(ts % DAY / DAY * 2 * np.pi)
        put.append((GAUGE.series_id, ts, float(level + random.normal(0, 2))))
        put.append((flat.series_id, ts, 5.0))
    tables.put(put, complete_ms=MONDAY + 8 * DAY)
    tables.roll_up()

    report = run(tables)

    found = baselines(tables.store)
    assert report.done.seasonal == {"day": 1, "week": 0}
    noon = found[GAUGE.series_id, "day", "mean", 6]
    assert noon["mean"] == pytest.approx(149, abs=3)
    assert noon["stddev"] < 6
    assert noon["error"] < found[GAUGE.series_id, "none", "mean", -1]["error"] / 5
    reference = found[flat.series_id, "none", "mean", -1]
    assert (reference["mean"], reference["stddev"]) == (5.0, 0.0)


def test_hours_of_the_week_begin_on_monday():
    ends = np.array([MONDAY + 1, MONDAY + HOUR, MONDAY + HOUR + 1])
    assert NO_HOLIDAYS.hour_of_week(ends).tolist() == [0, 0, 1]
    assert NO_HOLIDAYS.hour_of_week(np.array([MONDAY])).tolist() == [167]


def test_the_features_of_a_day_know_nothing_of_later_ones(tmp_path):
    query = DAY_QUERY
    tables = WrittenTables(str(tmp_path))
    tables.define(SERIES)
    random = np.random.default_rng(2)
    put = [
        (GAUGE.series_id, MONDAY + n * HOUR, float(10 + 5 * (n % 24 > 12) + random.normal()))
        for n in range(1, 10 * 24 + 1)
    ]
    tables.put(put, complete_ms=MONDAY + 10 * DAY)
    tables.roll_up()
    run(tables)

    whole = connect(tables.store, query).execute(query).df()
    for days in (3, 8):
        known = query.replace(
            "WHERE place = 1 AND", f"WHERE place = 1 AND window_end <= {MONDAY + days * DAY} AND"
        )
        part = connect(tables.store, known).execute(known).df()
        assert len(part) == days
        pd.testing.assert_frame_equal(part, whole.head(days))
    last = whole.iloc[-1]
    values = [value for _, ts, value in put if ts > MONDAY + 9 * DAY]
    assert last["level"] == pytest.approx(np.mean(values))
    assert last["gap_rate"] == pytest.approx(1 - 24 / 1440)
    assert 0.5 < last["season_strength"] < 1


def test_the_main_says_what_is_due_and_does_it(tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    tables.define(SERIES)
    put = [(GAUGE.series_id, MONDAY + n * MINUTE, 1.0) for n in range(1, 121)]
    tables.put(put, complete_ms=MONDAY + 2 * HOUR)
    tables.roll_up()

    def main(*options):
        done = subprocess.run(
            [sys.executable, ROOT / "jobs" / "baseline.py", "--home", tmp_path, *options],
            env=os.environ | {"PYTHONPATH": str(ROOT / "pipelines"), "JAVA_HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(main("--json"))["done"]["series"] == 1
    assert "no hour has closed or was repaired" in main()


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 1), st.integers(1, 10 * 24 * 60), st.integers(0, 50)),
            min_size=1,
            max_size=200,
        ),
        min_size=2,
        max_size=4,
    ),
    st.sampled_from([200, 1_000_000]),
)
def test_days_are_what_the_query_of_the_document_says_whatever_came_late(
    tmp_path_factory, given_batches, rows
):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    tables.define(SERIES)
    for n, batch in enumerate(given_batches):
        put = {
            (SERIES[which].series_id, MONDAY + minute * MINUTE): float(value)
            for which, minute, value in batch
        }
        samples = [(*key, value) for key, value in put.items()]
        tables.put(samples, complete_ms=MONDAY + (n + 1) * 3 * DAY)
        tables.roll_up()
        run(tables, piece_rows=rows)

    end = MONDAY + len(given_batches) * 3 * DAY
    columns = ["series_id", "day", *DAY_COLUMNS]
    expected = connect(tables.store, DAY_QUERY).execute(DAY_QUERY).df()[columns]
    expected = expected[expected["day"] <= end // DAY].reset_index(drop=True)
    found = newest_days(tables.store)[columns]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-9, atol=1e-9)


def test_a_run_computes_the_days_that_a_repair_is_in_the_week_before_of_and_no_others(tmp_path):
    tables = WrittenTables(str(tmp_path))
    tables.define(SERIES)
    other = define("depth", {"queue": "b"}, metric_type="gauge")
    tables.define([other])
    both = (GAUGE, other)
    put = [(s.series_id, MONDAY + n * HOUR, 1.0) for s in both for n in range(1, 12 * 24 + 1)]
    tables.put(put, complete_ms=MONDAY + 12 * DAY)
    tables.roll_up()
    run(tables)
    before = len(snapshot(tables.store, DAY_FEATURES).scan(Bounds()))

    tables.put([(GAUGE.series_id, MONDAY + 2 * DAY + 90 * MINUTE, 9.0)])
    tables.roll_up()
    run(tables)

    rows = snapshot(tables.store, DAY_FEATURES).scan(Bounds()).sort_by("revision")
    again = rows.slice(before)
    assert before == 2 * 12
    assert {*again["series_id"].to_pylist()} == {GAUGE.series_id}
    days = sorted((again["day_end"].to_numpy() - MONDAY) // DAY)
    assert days == [*range(3, 11)], "the day itself and the seven after it"


def newest_days(store):
    """The last row of each day, by series and day, with the columns of the document's query."""
    rows = snapshot(store, DAY_FEATURES).scan(Bounds()).to_pandas()
    rows = rows.sort_values("revision").groupby(["series_id", "day_end"]).last().reset_index()
    rows["day"] = rows["day_end"] // DAY
    return rows.sort_values(["series_id", "day"]).reset_index(drop=True)
