"""A gateway of several processes is one gateway: nothing is lost, doubled or told wrong by it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

import httpx
import psutil
import pytest

from tests.integration.gateway.gateway_process import GatewayProcess, Sender
from tests.integration.gateway.spooled import spooled_samples
from tests.remote_writing import HEADERS_V1, snappy, write_request
from varve.services.ports import require_free
from varve.services.status import read_status
from varve.telemetry.several import LABEL

NOBODY = "127.0.0.1:9"
PROCESSES = 3
DEADLINE_S = 180


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Of three processes, without Kafka."""
    home = tmp_path_factory.mktemp("processes")
    running = GatewayProcess(home, NOBODY, processes=str(PROCESSES), pushed_every_s="3600")
    running.know_partitions(raw_metrics=4)
    running.start()
    until(lambda: all_are_ready(running), running)
    yield running
    if psutil.pid_exists(running.pid):
        running.kill()


def until(condition, gateway):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, gateway.log[-3000:]
        time.sleep(0.05)


def all_are_ready(gateway):
    said = read_status(gateway.home)["gateway"]
    return said.state == "ready" and "waiting" not in said.detail


def workers(gateway):
    """The processes that do the work."""
    found = []
    for child in psutil.Process(gateway.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def delta(start_ns):
    """An export of OTLP: one more order."""
    point = {
        "startTimeUnixNano": str(start_ns),
        "timeUnixNano": str(start_ns + 10**6),
        "asDouble": 1.0,
    }
    orders = {
        "name": "orders",
        "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]},
    }
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [orders]}]}]}


def test_metrics_say_whose_they_are_and_add_up(gateway):
    now_ms = time.time_ns() // 1_000_000
    for n in range(60):  # each over a connection of its own
        body = snappy(write_request([({"__name__": "up", "n": str(n)}, [(now_ms, 1.0)])]))
        answer = httpx.post(f"{gateway.url}/api/v1/write", content=body, headers=HEADERS_V1)
        assert answer.status_code == 204

    found = re.findall(
        rf'varve_gateway_received_samples_total{{{LABEL}="(\d)",protocol="remote_write"}} (\S+)',
        httpx.get(f"{gateway.url}/metrics").text,
    )

    assert sum(float(value) for _, value in found) == 60
    assert len(found) > 1


def test_pushed_groups_are_kept_by_one_process_whoever_is_asked(gateway):
    for n in range(12):
        answer = httpx.put(f"{gateway.url}/metrics/job/backup/n/{n}", content="done 1\n")
        assert answer.status_code in (200, 202), answer.text
    for n in range(6):
        answer = httpx.delete(f"{gateway.url}/metrics/job/backup/n/{n}")
        assert answer.status_code in (200, 202), answer.text

    def kept():
        with contextlib.suppress(OSError):
            text = (gateway.home / "gateway-groups.json").read_text()
            return {int(n) for n in re.findall(r'"n",\s*"(\d+)"', text)}
        return set()

    until(lambda: kept() == set(range(6, 12)), gateway)


def test_one_that_is_killed_loses_nothing_and_fewer_take_over_its_spool(gateway):
    now_ms = time.time_ns() // 1_000_000
    for n in range(12):  # before any is killed: a total is kept in memory
        answer = httpx.post(f"{gateway.url}/v1/metrics", json=delta((now_ms + n) * 10**6))
        assert answer.status_code == 200, answer.text
    senders = [Sender(gateway.url, f"s{n}", 1 + n % 2, now_ms) for n in range(8)]

    def more(samples):
        goal = sum(len(s.acknowledged) for s in senders) + samples
        until(lambda: sum(len(s.acknowledged) for s in senders) >= goal, gateway)

    try:
        more(1_000)
        before = {one.pid for one in workers(gateway)}
        os.kill(max(before), signal.SIGKILL)
        more(1_000)
        until(lambda: len(workers(gateway)) == PROCESSES, gateway)
        assert len(before & {one.pid for one in workers(gateway)}) == PROCESSES - 1
        until(lambda: all_are_ready(gateway), gateway)
        more(1_000)
    finally:
        for sender in senders:
            sender.stop()
    there = workers(gateway)
    gateway.kill()  # the supervisor: the others notice, and leave the port
    _, alive = psutil.wait_procs(there, DEADLINE_S)
    assert alive == []
    require_free("127.0.0.1", gateway.port, "gateway.port")
    folders = [one.name for one in (gateway.home / "gateway-spool").glob("process-*/bulk/*.spool")]
    assert folders

    gateway.environment["VARVE_GATEWAY__PROCESSES"] = "1"
    gateway.start()
    assert gateway.stop() == 0

    found = spooled_samples(gateway.home)
    pushed = {
        (f"{named['__name__']}/{named['n']}/{named['round']}", ts, value)
        for labels, ts, value in found
        for named in [dict(labels)]
        if "round" in named
    }
    assert set().union(*(s.acknowledged for s in senders)) <= pushed
    assert pushed <= set().union(*(s.sent for s in senders))
    orders = [v for labels, _, v in found if dict(labels)["__name__"] == "orders_total"]
    assert sorted(value for value in orders if value) == [float(n) for n in range(1, 13)]
