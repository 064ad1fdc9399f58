"""README's examples mean something: they run, on metrics that there are, and do not grow old."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.tables import WrittenTables
from varve.collectors.demo import history
from varve.promql.syntax.parser import parse
from varve.query.sql import connect

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
COMMANDS = [shlex.split(line) for line in SHELL.splitlines() if line.startswith(".venv/bin/varve ")]
STATEMENTS = [command[2] for command in COMMANDS if command[1] == "sql"]
QUERIES = [command[2] for command in COMMANDS if command[1] == "query"]


@pytest.fixture(scope="module")
def demo():
    """Types of the metrics of the demo's history."""
    series = history(1_795_338_000_000, days=0.01, interval_s=60, seed=1).series
    return {s.definition.metric: s.definition.type for s in series}


def test_there_are_examples_of_both_languages():
    assert STATEMENTS
    assert QUERIES


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_runs_and_takes_quantiles_of_gauges_alone(tmp_path, demo, statement):
    store = WrittenTables(str(tmp_path)).store

    connect(store, statement).execute(statement).fetchall()

    asked = re.findall(r"metric = '(\w+)'", statement)
    if re.search(r"\b(avg|p50|p95|p99)\b", statement):
        assert asked
        assert {demo[metric] for metric in asked} == {"gauge"}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_one_and_takes_rates_of_counters(demo, query):
    parse(query)

    for metric in re.findall(r"rate\((\w+)\[", query):
        assert demo.get(metric, "counter" if metric.endswith("_total") else "?") == "counter"


def test_the_message_to_send_is_of_now():
    (command,) = [line for line in SHELL.splitlines() if line.startswith("printf ")]

    message = json.loads(subprocess.check_output(["sh", "-c", command]))

    now = int(subprocess.check_output(["date", "+%s"]))
    assert abs(now - message["timestamp"]) < 60
    assert message["metric"] == "orders_total"


@pytest.mark.parametrize("file", ["README.md", "docs/client.md", "docs/deploy.md"])
def test_no_example_has_a_time_that_grows_too_old(file):
    text = (ROOT / file).read_text().replace("_", "")

    assert re.findall(r"\b1[5-9]\d{8}(?:\d{3})?\b", text) == []
