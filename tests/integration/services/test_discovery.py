"""Two homes and one address: every command asks its own home, or says that it does not run."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tables import WrittenTables
from varve.local.broker import free_port
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.services.home import Home
from varve.services.status import read_status


def _make(path, value):
    """A home whose one series has this value now."""
    home = Home.at(path)
    with home.held():
        home.mark()
    tables = WrittenTables(str(path / "tables"))
    series = define("which", {}, metric_type="gauge")
    now_ms = SystemClock().now_ms()
    tables.define([series], now_ms)
    tables.put([(series.series_id, now_ms - 1_000, value)])
    return home


@dataclass
class Homes:
    """Home a is served at the port that the settings of both name."""

    a: Home
    b: Home
    port: int

    def run(self, *command, home, port=None):
        return subprocess.run(
            [sys.executable, "-m", "varve.cli", *command, "--home", str(home.path)],
            env=_environment(port or self.port),
            cwd=self.a.path.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def _environment(port):
    own = {n: v for n, v in os.environ.items() if not n.startswith("VARVE_")}
    return own | {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "VARVE_QUERY__PORT": str(port),
    }


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("homes")
    homes = Homes(_make(folder / "a", 1.0), _make(folder / "b", 2.0), free_port())
    service = subprocess.Popen(
        [sys.executable, "-m", "varve.cli", "serve", "query", "--home", str(homes.a.path)],
        env=_environment(homes.port),
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 120
        while not (r := read_status(homes.a.path).get("query")) or r.state != "ready":
            assert service.poll() is None, service.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield homes
    finally:
        service.kill()
        service.communicate()


def test_the_service_of_the_home_answers(homes):
    answer = homes.run("query", "which", home=homes.a)

    assert (answer.stdout, answer.stderr) == ("which  1\n", "")


def test_a_home_knows_where_its_own_service_is_whatever_the_settings_say(homes):
    answer = homes.run("query", "which", home=homes.a, port=free_port())

    assert (answer.stdout, answer.stderr) == ("which  1\n", "")


def test_another_homes_service_does_not_answer_for_this_one(homes):
    answer = homes.run("query", "which", home=homes.b)

    assert answer.stdout == "which  2\n"
    assert answer.stderr == (
        f"no query service of this home: at http://127.0.0.1:{homes.port} another home's"
        f" answers: reading {homes.b.path / 'tables'}\n"
    )


def test_every_answer_says_whose_it_is(homes):
    for path in ("/", "/-/ready", "/metrics", "/api/v1/query?query=1", "/api/v1/query", "/none"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{homes.port}{path}") as answer:
                headers = answer.headers
        except urllib.error.HTTPError as err:
            headers = err.headers
        assert headers["Varve-Home"] == homes.a.id, path


def test_the_status_of_a_home_is_of_what_runs_for_it(homes):
    running, other = (homes.run("status", "--json", home=home) for home in (homes.a, homes.b))

    assert running.returncode == 0
    assert [c["name"] for c in json.loads(running.stdout)["components"]] == ["query"]
    assert other.returncode == 3
    status = json.loads(other.stdout)
    assert status["components"] == []
    assert status["progress"]["rows"]["samples"] == 1
    assert status["lag_unknown"] == "no Kafka: the broker of this home does not run"
    assert "nothing has run here" in homes.run("status", home=homes.b).stdout


def test_of_tables_elsewhere_nothing_is_said_that_this_home_cannot_know(homes, tmp_path):
    elsewhere = str(homes.b.path / "tables")
    answer = subprocess.run(
        [sys.executable, "-m", "varve.cli", "status", "--home", str(tmp_path / "none")],
        env=_environment(homes.port) | {"VARVE_STORAGE__ROOT": elsewhere},
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0
    assert f"tables {elsewhere}" in answer.stdout
    assert "nothing has run here" not in answer.stdout
    assert not Path(tmp_path / "none").exists()
