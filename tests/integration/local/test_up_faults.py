"""Faults of every day, made while `varve up` runs: nothing needs a hand, and nothing is lost."""

import os
import re
import signal
import time

import pytest
from deltalake import DeltaTable, Field

from tests.faulty_s3 import FaultyS3
from tests.integration.local.up_process import DEADLINE_S, accounted
from tests.small_disk import fill, mounted
from tests.tables import WrittenTables
from varve.local.broker import Broker
from varve.services.home import Home
from varve.storage.store import Store

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

OUTAGE_S = 30

QUICK = {"VARVE_SUPERVISION__STALLED_AFTER_S": "20", "VARVE_SUPERVISION__MAX_BACKOFF_S": "5"}


def _stored_on(up):
    """Waits until more is stored than now."""
    before = up.count()
    up.until(lambda: up.count() > before)


def test_what_hangs_or_dies_is_started_again_and_a_full_disk_is_waited_for(start, tmp_path):
    with mounted(tmp_path / "disk", 500) as disk:
        up = start(disk / "home", output=tmp_path / "out", **QUICK)
        up.until_ready()
        up.until(lambda: up.count() > 5)
        up.until(lambda: up.run("status").returncode == 0)

        for name in ("collector", "query"):
            os.kill(up.component(name)["pid"], signal.SIGSTOP)
        for name in ("collector", "query"):
            up.until(lambda name=name: f"{name} made no progress for 20 s" in up.said())
        up.until(lambda: up.said().endswith("all components run again\n"))

        os.kill(up.component("kafka")["pid"], signal.SIGKILL)
        up.until(lambda: up.component("kafka")["state"] == "waiting")
        assert up.run("status").returncode == 3
        up.until(lambda: up.said().endswith("all components run again\n"))
        _stored_on(up)

        filler = fill(disk)
        up.until(lambda: all(up.component(n)["state"] == "held" for n in ("streams", "collector")))
        answer = up.run("status")
        assert answer.returncode == 3
        assert re.search(r"(?m)^up +degraded .* is full: less than 50 MiB are free$", answer.stdout)
        assert re.search(r"(?m)^streams +held .* is full: less than", answer.stdout)
        assert "is full: less than 50 MiB are free: what writes waits" in up.said()
        page = up.metrics()
        assert 'varve_component_held{component="streams"} 1.0' in page
        assert float(re.search(r'varve_disk_free_bytes{what="home"} (\S+)', page)[1]) < 50e6
        assert up.count() > 0  # what is stored can be asked for
        # While the disk is full, a status that cannot be written leaves the last one.
        assert not [p for p in (up.home / "run").iterdir() if p.stat().st_size == 0]

        filler.unlink()
        up.until(lambda: up.said().endswith("all components run again\n"))
        _stored_on(up)
        shown = up.run("status")
        assert shown.returncode == 0, shown.stdout + shown.stderr

        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(120) == 0, up.said()
        assert "not yet stored" not in up.said()
        said = up.said().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in said)
        log = (up.home / "logs" / "up.log").read_text()
        assert all(line.partition(" ")[2] in log for line in said)


def test_one_that_needs_an_operator_fails_alone_and_is_not_tried_again_and_again(start, tmp_path):
    home = Home.at(tmp_path / "home")
    with home.held():
        home.mark()
    WrittenTables(str(home.path / "tables"))
    samples = DeltaTable(str(home.path / "tables" / "samples"))
    samples.alter.add_columns([Field("colour", "string")])  # as a later release may have it

    up = start(home.path)
    up.until(lambda: "streams needs an operator" in up.said())
    up.until(lambda: up.component("streams")["state"] == "failed")
    up.until(lambda: up.component("query")["state"] == "ready")

    status = up.run("status")
    assert status.returncode == 3
    assert re.search(r"(?m)^streams +failed .*colour", status.stdout)
    assert re.search(r"(?m)^up +degraded .*streams: .*colour", status.stdout)
    assert up.ask("vector(1)")
    assert up.component("streams")["restarts"] == 0
    assert up.component("collector")["state"] == "held"
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0, up.said()


def test_a_bounded_run_gives_up_on_what_needs_an_operator(start, tmp_path):
    home = Home.at(tmp_path / "home")
    with home.held():
        home.mark()
    WrittenTables(str(home.path / "tables"))
    DeltaTable(str(home.path / "tables" / "samples")).alter.add_columns([Field("c", "string")])

    up = start(home.path, "--for", "5")

    assert up.process.wait(DEADLINE_S) == 1
    assert re.search(
        r"varve up: streams ended with exit status 78 (.|\n)*its last words", up.said()
    )


@pytest.mark.slow
def test_an_object_store_may_be_away_and_answer_errors(start, tmp_path):
    """It answers 500 and 503, before or after it has done as asked, and hangs."""
    with FaultyS3() as s3:
        options = "".join(f'{name} = "{value}"\n' for name, value in s3.options.items())
        config = tmp_path / "varve.toml"
        config.write_text(f'[storage]\nroot = "{s3.root}"\n[storage.options]\n{options}')
        up = start(tmp_path / "home", "--config", str(config), **QUICK)
        up.until_ready()
        up.until(lambda: up.count() > 5)

        s3.failing, begun = 1.0, time.monotonic()
        up.until(lambda: time.monotonic() - begun > OUTAGE_S)
        s3.failing, begun = 0.3, time.monotonic()
        up.until(lambda: time.monotonic() - begun > OUTAGE_S / 2)
        assert s3.faults.total() > 5
        s3.failing = 0.0
        up.until(lambda: up.is_well() and up.run("status").returncode == 0)
        _stored_on(up)

        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(120) == 0, up.said()
        taken = accounted(Store(s3.root, s3.options))
        assert taken["in"] == taken["stored"] + taken["merged"] + taken["rejected"]
        assert taken["in"] == taken["rows"] + taken["merged"] > 0
        assert "not yet stored" not in up.said()


@pytest.mark.slow
def test_a_kafka_of_ones_own_may_be_away_for_minutes(start, tmp_path):
    with Broker(tmp_path / "kafka") as broker:
        up = start(tmp_path / "home", "--kafka", broker.bootstrap_servers, **QUICK)
        up.until_ready()
        up.until(lambda: up.count() > 5)

        broker.stop()
        # Ingest ends once Spark has given up on Kafka, and is tried again all the time.
        up.until(lambda: up.component("streams")["restarts"] >= 4)
        assert up.run("status").returncode == 3
        broker.start()

        up.until(lambda: up.said().endswith("all components run again\n"))
        _stored_on(up)
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(120) == 0, up.said()
