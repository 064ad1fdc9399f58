"""The form of a batch job and its command line, by the job that replays quarantine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import replay_quarantine
from tests.line import Line
from tests.unit.ingest.messages import as_arrow, as_json, record
from varve.ingest.limits import Limits, MetricLimits
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

ROOT = Path(__file__).parents[3]
ATTIC = define("temperature", {"room": "attic"})


@pytest.fixture
def line(tmp_path):
    """Quarantine holds a sample of a series without definition and two series over a limit, of
    which a limit of now allows one; a message that is none; and samples of another query.
    """
    limits = Limits(metrics={"requests": MetricLimits(series=0)})
    line = Line(str(tmp_path / "tables"), SystemClock().now_ms() - 1_000, limits=limits)
    now_ms = line.clock.now_ms()
    line.ingest(
        as_json(record(now_ms, host="a"), record(now_ms, host="b")),
        as_arrow([(ATTIC, now_ms, 1.0)], defined=False),
        b"no message",
    )
    (tmp_path / "limits.toml").write_text("[default]\nseries = 1\n")
    return line


def run(monkeypatch, capsys, home, *arguments):
    """Exit status, and what the job printed."""
    monkeypatch.setattr(sys, "argv", ["replay_quarantine.py", "--home", str(home), *arguments])
    status = replay_quarantine.main()
    return status, capsys.readouterr().out


def stored(line):
    return len(snapshot(line.store, "samples").scan(Bounds()))


def versions(line):
    return [Table(line.store, name).version for name in ("samples", "series", "quarantine")]


def test_a_dry_run_says_what_is_due_and_changes_nothing(line, tmp_path, monkeypatch, capsys):
    before = versions(line)
    arguments = ("--reason", "cardinality_limit", "--reason", "malformed", "--dry-run")

    status, text = run(monkeypatch, capsys, tmp_path, *arguments)
    _, as_one_line = run(monkeypatch, capsys, tmp_path, *arguments, "--json")

    assert status == 0
    assert "bulk: 2 cardinality_limit, 1 malformed in quarantine" in text
    assert "critical: no samples of these reasons and times in quarantine" in text
    assert "nothing was changed" in text
    assert json.loads(as_one_line) == {
        "job": "replay_quarantine",
        "planned": {
            "samples": {
                "bulk": {"cardinality_limit": 2, "malformed": 1},
                "critical": {},
                "histograms": {},
                "exemplars": {},
            },
        },
        "done": None,
    }
    assert versions(line) == before


def test_it_says_what_it_stored_what_stays_and_why_and_does_it_once(
    line, tmp_path, monkeypatch, capsys
):
    every = [f"--reason={r}" for r in ("cardinality_limit", "malformed", "unknown_series")]

    first = json.loads(run(monkeypatch, capsys, tmp_path, *every, "--json")[1])["done"]["bulk"]
    before = versions(line)
    second = json.loads(run(monkeypatch, capsys, tmp_path, *every, "--json")[1])["done"]["bulk"]

    left = {
        "rejected": {"cardinality_limit": 1, "malformed": 1},
        "waiting": {"unknown_series": 1},
    }
    assert first == {"stored": 1, "merged": 0} | left
    assert second == {"stored": 0, "merged": 0} | left
    assert stored(line) == 1
    assert versions(line) == before


def test_a_table_that_is_not_there_is_one_line_and_exit_status_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["x", "--home", str(tmp_path / "nowhere"), "--reason", "too_old"]
    )

    assert replay_quarantine.main() == 1
    assert "no table quarantine" in capsys.readouterr().err


def test_it_starts_without_spark_and_help_says_what_it_does():
    code = "import sys; sys.argv[1:] = ['--help']\nfrom jobs.replay_quarantine import main\n"
    code += "try: main()\nexcept SystemExit: print('pyspark' in sys.modules)"

    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "pipelines"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ended.stdout.endswith("False\n")
    for word in ("--dry-run", "--json", "--home", "--config", "unknown_series", "exactly\nonce"):
        assert word in ended.stdout
