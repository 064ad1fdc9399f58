"""`varve up` as a user runs it: real broker, Spark, query service, from an empty folder."""

import contextlib
import json
import os
import signal
import socket
import threading
from contextlib import contextmanager

import psutil
import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaError

from tests.integration.local.up_process import DEADLINE_S
from varve.local.broker import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.spark]


@contextmanager
def sending(servers):
    """A producer that does not stop."""
    over = threading.Event()

    def send():
        producer = KafkaProducer(bootstrap_servers=servers, max_block_ms=500)
        while not over.wait(0.01):
            with contextlib.suppress(KafkaError):
                producer.send("raw-metrics", b'{"metric": "m", "value": 1, "timestamp": 1}')
        with contextlib.suppress(KafkaError):
            producer.close(1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# The producer is there for longer than its broker, and complains once it is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_home_lives_through_stops_crashes_and_a_second_start(start, tmp_path):
    home = tmp_path / "with space" / "home"
    home.parent.mkdir()
    up = start(home)
    up.until_ready()
    assert f"open http://127.0.0.1:{up.ports[2]}/" in up.said()
    up.until(lambda: up.count() > 5)

    # It measures itself, by way of Kafka as everything else.
    own = {
        f"varve-{name}"
        for name in ("streams", "query", "up", "collector", "maintenance", "rules", "notify")
    }
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

    # An orderly stop stores all that was sent, stale markers too, and waits for nobody who goes on.
    with sending(f"127.0.0.1:{up.ports[0]}"):
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(120) == 0, up.said()
    assert "not yet stored" not in up.said()
    status = up.status()
    states = {c["name"]: c["state"] for c in status["components"]}
    assert set(states.values()) == {"stopped"}, (states, up.said())
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
        *("--demo", "--for", "15"),  # shorter than freshness is warmed up for otherwise
        VARVE_DEMO__DAYS="8",
        VARVE_DEMO__INTERVAL_S="600",
        VARVE_FORECASTS__LOOK_EVERY_S="2",
        VARVE_MAINTENANCE__COMPACT_EVERY_S="2",
    )

    assert up.process.wait(DEADLINE_S) == 0, up.said()

    summary = json.loads((tmp_path / "home" / "demo-summary.json").read_text())
    assert summary["complaints"] == []
    assert summary["generated_samples"] == 8 * 144 * 96
    assert summary["live_samples"] > 0
    assert summary["pushed_samples"] > 0
    assert summary["unstored"] == 0
    sent = sum(summary[f"{how}_samples"] for how in ("live", "pushed", "generated", "computed"))
    assert summary["rows"]["samples"] + sum(summary["rejected"].values()) == sent
    assert all(summary["rows"][f"rollup_{t}"] > 0 for t in ("1m", "5m", "1h", "1d"))
    assert summary["freshness"]["answers"] > 0
    assert "Summary" in up.said()
    # What the jobs have found in the history is said, with its page: on a busy machine
    # it may be nothing yet.
    url = f"http://127.0.0.1:{up.ports[2]}/"
    for what, found, page in (
        ("Unusual", summary["episode"], "anomalies"),
        ("Forecast", summary["breach"], "capacity"),
    ):
        said = f"{what}: {found}" if found else f"{what.lower():<14} nothing yet"
        assert said in up.said()
        assert not found or ('job="demo-shop"' in found and found.endswith(url + page))


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
