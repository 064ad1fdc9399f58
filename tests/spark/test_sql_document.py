"""The examples of docs/sql.md run as they stand there, and answer what the samples do."""

from __future__ import annotations

import json
import math
import random
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.tables import WrittenTables
from varve.cli.main import main
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.model.window import DAY_MS, MINUTE_MS
from varve.query.sql import connect
from varve.rollups import sketch

pytestmark = pytest.mark.spark

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
BLOCKS = re.findall(r"^```([a-z]+)(?: (\w+))?\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
SQL = {"duckdb": [], "spark": []}
for language, engine, text in BLOCKS:
    for name, texts in SQL.items():
        if language == "sql" and engine in ("", name):
            texts.append(text)
QUEUES = [define("shop_queue_depth", {"queue": name}) for name in ("mail", "pack", "bill")]
NOW = SystemClock().now_ms()


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
def tables(home, samples):
    tables = WrittenTables(str(home / "tables"))
    tables.define(QUEUES, NOW)
    tables.put(samples, complete_ms=NOW + DAY_MS)
    tables.roll_up()
    return tables


@pytest.fixture(scope="module")
def answers(samples):
    """By queue: mean, least, most, and the order statistic of the 95th percentile."""
    found = {}
    for series in QUEUES:
        values = sorted(v for series_id, _, v in samples if series_id == series.series_id)
        rank = math.floor(0.95 * (len(values) - 1))
        found[dict(series.tags)["queue"]] = np.mean(values), values[0], values[-1], values[rank]
    return found


def test_every_example_is_found():
    assert len(SQL["duckdb"]) == len(SQL["spark"]) == 2
    assert [language for language, *_ in BLOCKS].count("sh") == 1


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_means_and_quantiles_over_many_windows_are_those_of_the_samples(
    request, engine, tables, answers
):
    means, quantiles = (ask(request, engine, tables, text) for text in SQL[engine])

    assert {row["queue"] for row in means} == {row["queue"] for row in quantiles} == set(answers)
    for row in means:
        mean, least, most, _ = answers[row["queue"]]
        assert row["mean"] == pytest.approx(mean, rel=1e-12)
        assert (row["least"], row["most"]) == (least, most)
    for row in quantiles:
        assert row["p95"] == pytest.approx(answers[row["queue"]][3], rel=sketch.ERROR)


def ask(request, engine, tables, query):
    if engine == "duckdb":
        result = connect(tables.store, query).execute(query)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    spark = request.getfixturevalue("views_in_spark")
    return [row.asDict() for row in spark.sql(query).collect()]


@pytest.fixture
def views_in_spark(spark, tables):
    """Made as the document says."""
    (text,) = (text for language, _, text in BLOCKS if language == "python")
    exec(text, {"spark": spark, "root": tables.store.root})
    return spark


def test_the_commands_answer(home, tables, capsys, monkeypatch):
    monkeypatch.setenv("VARVE_HOME", str(home))
    (text,) = (text for language, _, text in BLOCKS if language == "sh")
    # The last one reads a file.
    *commands, from_file = [c for c in re.split(r"^varve ", text, flags=re.MULTILINE) if c]

    printed = []
    for command in commands:
        assert main(shlex.split(command)) == 0
        printed.append(capsys.readouterr().out)

    assert from_file == "sql - --format csv < report.sql\n"
    assert all(name in printed[0] for name in ("mail", "pack", "bill"))
    assert "window_end" in printed[1]
    assert json.loads(printed[2]) == []
