"""The examples of docs/sql.md run as they stand there, and answer what the samples do."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import re
import shlex
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.plans import task_plan
from tests.tables import WrittenTables
from tests.unit.ingest.messages import as_json, record
from varve.cli.main import main
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, window_end
from varve.query.sql import connect
from varve.rollups import sketch
from varve.storage.commit import Step, commit
from varve.storage.table import Table

pytestmark = pytest.mark.spark

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: re.findall(
        r"^```([a-z]+)(?: (\w+))?\n(.*?)^```", section, re.MULTILINE | re.DOTALL
    )
    for section in re.split(r"^## ", "## \n" + DOCUMENT, flags=re.MULTILINE)[1:]
}
ENGINES = ("duckdb", "spark")
QUEUES = [define("shop_queue_depth", {"queue": name}) for name in ("mail", "pack", "bill")]
ROUTES = [define("shop_requests_total", {"route": f"/r{i}", "instance": f"h{i}"}) for i in range(3)]
LATE_MINUTES = (54_000, 54_060, 54_150)
BOUNDS = ("0.1", "0.5", "1", "5", "+Inf")
BUCKETS = [
    define("shop_request_duration_seconds_bucket", {"le": le, "instance": f"h{i}"})
    for i in range(2)
    for le in BOUNDS
]
NOW = SystemClock().now_ms()
FIRST_HOUR = NOW // HOUR_MS * HOUR_MS - 5 * DAY_MS


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def samples():
    rng = random.Random(8)
    return [
        (series.series_id, NOW - rng.randrange(MINUTE_MS, 6 * DAY_MS), value)
        for k, series in enumerate(QUEUES)
        for value in (rng.lognormvariate(3, 2) * (-1) ** (k * n) for n in range(3_000))
    ]


@pytest.fixture(scope="module")
def counters():
    """Samples of counters that are reset now and then, some hours having none."""
    rng = random.Random(9)
    samples, observed = [], rng.choices([0.05, 0.3, 0.8, 3.0, 9.0], [5, 4, 3, 2, 1], k=4_000)
    for series in ROUTES:
        value = 100.0
        for ts in range(FIRST_HOUR, NOW - HOUR_MS, 300_000):
            if rng.random() < 0.1:
                continue
            value = float(rng.randrange(5)) if rng.random() < 0.02 else value + rng.randrange(50)
            samples.append((series.series_id, ts, value))
    for i, series in enumerate(BUCKETS):
        bound = float(BOUNDS[i % len(BOUNDS)])
        mine = observed[:2_000] if i < len(BOUNDS) else observed[2_000:]
        counts, reset = np.cumsum([v <= bound for v in mine]), rng.randrange(500, 1_500)
        for k in range(0, 2_000, 50):
            value = counts[k] if k < reset else counts[k] - counts[reset // 50 * 50]
            samples.append((series.series_id, FIRST_HOUR + k * 120_000, float(value)))
    return samples


@pytest.fixture(scope="module")
def tables(home, samples, counters):
    tables = WrittenTables(str(home / "tables"))
    tables.define([*QUEUES, *ROUTES, *BUCKETS], NOW)
    tables.put([*samples, *counters], complete_ms=NOW + DAY_MS)
    refuse(tables)
    tables.roll_up()
    return tables


def refuse(tables):
    """Puts into quarantine: a sample that is too late, one row of what does not fit beside it, ten
    series with too many labels, and bytes.
    """
    limits = Limits(default=MetricLimits(labels=1))
    late = [record(NOW - minutes * MINUTE_MS, metric="late") for minutes in LATE_MINUTES]
    crowd = [record(NOW, metric="crowd", a=str(n), b="1") for n in range(10)]
    values = [*map(as_json, late), as_json(*crowd), b"hello", *[as_json(*late)] * 9]
    plan = task_plan(tables.store, now_ms=NOW, limits=limits, reject_bytes=4_000)
    messages = [Message("raw-metrics", 3, 70 + n, NOW, value) for n, value in enumerate(values)]
    (outcome,) = run_task(messages, plan)
    commit(
        Table(tables.store, "quarantine"), outcome.quarantine, transactions={"test": Step(None, 1)}
    )


@pytest.fixture(scope="module")
def answers(samples):
    """By queue: mean, least, most, and the order statistic of the 95th percentile."""
    found = {}
    for series in QUEUES:
        values = sorted(v for series_id, _, v in samples if series_id == series.series_id)
        rank = math.floor(0.95 * (len(values) - 1))
        found[dict(series.tags)["queue"]] = np.mean(values), values[0], values[-1], values[rank]
    return found


def examples(title, engine):
    """The SQL of a section that is for an engine, or for any."""
    found = [
        text for language, of, text in SECTIONS[title] if language == "sql" and of in ("", engine)
    ]
    assert found
    return found


def grown(series, samples):
    """By time of the sample: what a counter grew up to it from the sample before."""
    points = sorted((ts, v) for series_id, ts, v in samples if series_id == series.series_id)
    return {
        ts: value - before if value >= before else value
        for (_, before), (ts, value) in pairwise(points)
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_means_and_quantiles_over_many_windows_are_those_of_the_samples(
    request, engine, tables, answers
):
    texts = examples("Over more than one window", engine)
    means, quantiles = (ask(request, engine, tables, text) for text in texts)

    assert {row["queue"] for row in means} == {row["queue"] for row in quantiles} == set(answers)
    for row in means:
        mean, least, most, _ = answers[row["queue"]]
        assert row["mean"] == pytest.approx(mean, rel=1e-12)
        assert (row["least"], row["most"]) == (least, most)
    for row in quantiles:
        assert row["p95"] == pytest.approx(answers[row["queue"]][3], rel=sketch.ERROR)


@pytest.mark.parametrize("engine", ENGINES)
def test_counters_grow_by_what_their_samples_grew_resets_and_gaps_included(
    request, engine, tables, counters
):
    (text,) = examples("Counters", engine)

    rows = ask(request, engine, tables, text)

    wanted = defaultdict(float)
    for series in ROUTES:
        for ts, growth in grown(series, counters).items():
            wanted[dict(series.tags)["route"], window_end(ts, HOUR_MS)] += growth
    got = {(row["route"], ms_of(row["window_end"])): row["requests"] for row in rows}
    # The hour that the first sample alone is in has no growth.
    assert {key: value for key, value in got.items() if value} == {
        key: value for key, value in wanted.items() if value
    }
    assert len(rows) > 3 * 100


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quantile_of_a_classic_histogram_is_that_of_what_its_buckets_grew(
    request, engine, tables, counters
):
    (text,) = examples("Classic histograms", engine)

    ((row,)) = ask(request, engine, tables, text)

    below = dict.fromkeys(map(float, BOUNDS), 0.0)
    for i, series in enumerate(BUCKETS):
        below[float(BOUNDS[i % len(BOUNDS)])] += sum(grown(series, counters).values())
    rank = 0.95 * below[math.inf]
    edges = sorted(below.items())
    k = next(k for k, (_, count) in enumerate(edges) if count >= rank)
    (lower, before), (bound, count) = (edges[k - 1] if k else (0.0, 0.0)), edges[k]
    wanted = (
        lower if math.isinf(bound) else lower + (bound - lower) * (rank - before) / (count - before)
    )
    assert row["p95"] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_seasons_are_those_of_the_hours_of_the_week(request, engine, tables, samples):
    (text,) = examples("Weekly seasons", engine)

    rows = ask(request, engine, tables, text)

    by_hour = defaultdict(list)
    for series_id, ts, value in samples:
        by_hour[series_id, window_end(ts, HOUR_MS) - HOUR_MS].append(value)
    assert len(rows) == len(by_hour)
    names = {dict(s.tags)["queue"]: s.series_id for s in QUEUES}
    for row in rows:
        start = dt.datetime.fromtimestamp(ms_of(row["window_start"]) / 1000, dt.UTC)
        assert row["hour_of_week"] == start.weekday() * 24 + start.hour
        values = by_hour[names[row["queue"]], ms_of(row["window_start"])]
        assert row["depth"] == pytest.approx(np.mean(values), rel=1e-9)
        assert row["weeks"] == 1
        assert row["usual"] == row["depth"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_refused_adds_up_by_metric_limit_lateness_and_place(request, engine, tables):
    texts = examples("rejects", engine)

    limits, lateness, places = (ask(request, engine, tables, text) for text in texts)

    allowed = 12 * DAY_MS
    beyond = LATE_MINUTES[-1] * MINUTE_MS - allowed
    names = ("reason", "metric", "limit_name", "allowed", "beyond", "samples")
    assert [tuple(row[name] for name in names) for row in limits] == [
        ("too_old", "late", "retention.samples_days", allowed, beyond, 30),
        ("label_limit", "crowd", "default.labels", 1, 1, 10),
        ("malformed", None, None, None, None, 1),
    ]
    assert {ms_of(row["until"]) for row in limits} == {NOW}
    assert [(row["hours_old"], row["samples"]) for row in lateness] == [(900, 1), (903, 29)]
    assert [tuple(row.values()) for row in places] == [("raw-metrics", 3, 71, 83, 29)]


def ms_of(time):
    return round(time.replace(tzinfo=dt.UTC).timestamp() * 1000)


def ask(request, engine, tables, query):
    if engine == "duckdb":
        result = connect(tables.store, query).execute(query)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    spark = request.getfixturevalue("views_in_spark")
    return [row.asDict() for row in spark.sql(query).collect()]


def run_python(title, tables, **names):
    """The names that the Python of a section leaves behind."""
    ((language, _, text),) = SECTIONS[title]
    assert language == "python"
    names["root"] = tables.store.root
    exec(text, names)
    return names


@pytest.fixture
def views_in_spark(spark, tables):
    """Made as the document says, in the session that there is."""
    made = run_python("In Spark", tables)["spark"]
    assert made.conf.get("spark.sql.session.timeZone") == "UTC"
    return made


def test_duckdb_in_python_answers_as_printed(tables, samples, counters):
    frame = run_python("In DuckDB", tables)["frame"]

    found = dict(zip(frame["metric"], frame["samples"], strict=True))
    assert set(found) == {s.metric for s in (*QUEUES, *ROUTES, *BUCKETS)}
    assert found["shop_queue_depth"] == len({sample[:2] for sample in samples})


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_are_as_printed(library, tables, samples):
    frame = run_python(f"In {library}", tables)["frame"]

    rows = frame.reset_index().to_dict("records") if library == "pandas" else frame.to_dicts()
    assert [row["queue"] for row in rows] == ["bill", "mail", "pack"]
    for row in rows:
        (series,) = (s for s in QUEUES if dict(s.tags)["queue"] == row["queue"])
        values = [v for i, _, v in samples if i == series.series_id]
        assert row["mean"] == pytest.approx(np.mean(values), rel=1e-9)
        assert row["most"] == max(values)


def test_the_commands_answer(home, tables, capsys, monkeypatch):
    monkeypatch.setenv("VARVE_HOME", str(home))
    blocks = (text for found in SECTIONS.values() for lang, _, text in found if lang == "sh")
    (text,) = (text for text in blocks if text.startswith("varve sql "))
    # The last one reads a file.
    *commands, from_file = [c for c in re.split(r"^varve ", text, flags=re.MULTILINE) if c]

    printed = []
    for command in commands:
        assert main(shlex.split(command)) == 0
        printed.append(capsys.readouterr().out)

    assert from_file == "sql - --format csv < report.sql\n"
    assert all(name in printed[0] for name in ("mail", "pack", "bill"))
    assert "window_end" in printed[1]
    found = {row["reason"]: row["text"] for row in json.loads(printed[2])}
    assert found.keys() == {"too_old", "label_limit", "malformed"}
    assert found["malformed"] == "hello"
