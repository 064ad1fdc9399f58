"""`varve up` as a user runs it: real broker, Spark, query service, from an empty folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import psutil
import pytest

from varve.local.broker import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

DEADLINE_S = 480


class Up:
    """A `varve up` in a folder of its own."""

    def __init__(self, home, *arguments, **environment):
        self.home = home
        self.ports = [free_port() for _ in range(3)]
        kafka, controller, query = map(str, self.ports)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "VARVE_KAFKA__PORT": kafka,
            "VARVE_KAFKA__CONTROLLER_PORT": controller,
            "VARVE_QUERY__PORT": query,
            "VARVE_TELEMETRY__PORT": "0",
            "VARVE_TELEMETRY__UP_PORT": "0",
            "VARVE_COLLECTOR__INTERVAL_S": "1",
            "VARVE_ROLLUP__GRACE_S": "1",
            **environment,
        }
        self.output = home.parent / f"{home.name}.out"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                self._command("up", *arguments),
                env=self.environment,
                cwd=home.parent,
                stdout=output,
                stderr=output,
            )

    def _command(self, name, *arguments):
        return [sys.executable, "-m", "varve.cli", name, "--home", str(self.home), *arguments]

    def run(self, name, *arguments):
        return subprocess.run(
            self._command(name, *arguments),
            env=self.environment,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def said(self):
        return self.output.read_text()

    def until(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.1)

    def until_ready(self):
        self.until(lambda: "Ready after" in self.said())

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def ask(self, query):
        """What the query service answers."""
        text = urllib.parse.urlencode({"query": query})
        url = f"http://127.0.0.1:{self.ports[2]}/api/v1/query?{text}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]["result"]

    def count(self):
        """Samples of node_time_seconds the query service gives."""
        return sum(len(series["values"]) for series in self.ask("node_time_seconds[1h]"))

    def targets(self):
        """Jobs of Varve's own that answer."""
        return {series["metric"]["job"] for series in self.ask('up{job=~"varve-.+"} == 1')}

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def start():
    running = []

    def begin(*arguments, **options):
        running.append(Up(*arguments, **options))
        return running[-1]

    yield begin
    for up in running:
        up.end()


def test_a_home_lives_through_stops_crashes_and_a_second_start(start, tmp_path):
    home = tmp_path / "with space" / "home"
    home.parent.mkdir()
    up = start(home)
    up.until_ready()
    assert f"open http://127.0.0.1:{up.ports[2]}/" in up.said()
    up.until(lambda: up.count() > 5)

    # It measures itself, by way of Kafka as everything else.
    own = {"varve-streams", "varve-query", "varve-up", "varve-collector"}
    up.until(lambda: up.targets() == own)
    up.until(lambda: up.ask('rate(varve_ingest_samples_total{query="bulk"}[1m]) > 0'))
    sums = (
        "sum(varve_ingest_samples_total) - sum(varve_ingest_stored_samples_total)"
        " - sum(varve_ingest_merged_samples_total) - sum(varve_ingest_rejected_samples_total)"
    )
    assert [series["value"][1] for series in up.ask(sums)] == ["0"]

    # A second one is told who has the home, and disturbs nothing.
    second = up.run("up")
    assert second.returncode == 1
    assert f"held by process {up.process.pid}" in second.stderr
    assert up.run("reset", "--yes").returncode == 1

    # A component that dies comes back.
    streams = next(c for c in up.status()["components"] if c["name"] == "streams")
    os.kill(streams["pid"], signal.SIGKILL)
    up.until(lambda: "streams ended with SIGKILL" in up.said())
    up.until(lambda: up.said().count("streams ready") == 2)
    before = up.count()
    up.until(lambda: up.count() > before)

    # An orderly stop stores all that was sent, stale markers too.
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(120) == 0, up.said()
    assert "not yet stored" not in up.said()
    status = up.status()
    assert {c["state"] for c in status["components"]} == {"stopped"}
    rows = status["progress"]["rows"]["samples"]

    # The next start goes on where this one stopped; its parent's death ends every child.
    again = start(home)
    again.until_ready()
    again.until(lambda: again.status()["progress"]["rows"]["samples"] > rows)
    children = psutil.Process(again.process.pid).children(recursive=True)
    assert len(children) >= 4
    again.process.kill()
    again.process.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []


def test_a_bounded_demo_fills_every_tier_and_sums_up(start, tmp_path):
    up = start(
        tmp_path / "home",
        *("--demo", "--for", "60"),
        VARVE_DEMO__DAYS="3",
        VARVE_DEMO__INTERVAL_S="300",
    )

    assert up.process.wait(DEADLINE_S) == 0, up.said()

    summary = json.loads((tmp_path / "home" / "demo-summary.json").read_text())
    assert summary["complaints"] == []
    assert summary["generated_samples"] == 3 * 288 * 96
    assert summary["live_samples"] > 0
    assert summary["unstored"] == 0
    sent = summary["live_samples"] + summary["generated_samples"]
    assert summary["rows"]["samples"] + sum(summary["rejected"].values()) == sent
    assert all(summary["rows"][f"rollup_{t}"] > 0 for t in ("1m", "5m", "1h", "1d"))
    assert summary["freshness"]["samples"] > 0
    assert "Summary" in up.said()


def test_a_taken_port_is_named_before_anything_is_started(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = start(tmp_path / "home", VARVE_QUERY__PORT=str(port))

        assert up.process.wait(60) == 1

    assert f"port {port} is taken by" in up.said()
    assert f"(pid {os.getpid()})" in up.said()
    assert "query.port" in up.said()
    assert not (tmp_path / "home" / "kafka").exists()


def test_a_kafka_of_ones_own_is_used_and_one_that_is_not_there_is_named(start, tmp_path):
    up = start(tmp_path / "home", "--kafka", f"127.0.0.1:{free_port()}")

    assert up.process.wait(60) == 1
    assert "correct kafka.bootstrap_servers" in up.said()
    assert not (tmp_path / "home" / "kafka").exists()
