"""What the page shows of a home."""

import os

import psutil
import pytest

from varve.model.clock import ManualClock
from varve.services.component_views import condition
from varve.services.status import ComponentStatus

NOW_MS = 1_800_000_000_000
ME = os.getpid()


def said(home, name, state, *, pid=ME, **detail):
    status = ComponentStatus(home, name, pid=pid, clock=ManualClock(NOW_MS))
    status.update(state=state, detail=detail)


def names(found):
    return {c["name"]: (c["state"], c["note"]) for c in found["components"]}


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    return next(pid for pid in range(2, 1 << 22) if not psutil.pid_exists(pid))


def test_a_home_is_in_the_state_that_varve_up_says_with_the_reason_of_each_component(tmp_path):
    told = {"streams": {"state": "failed", "why": "wrong password"}, "query": {"state": "ready"}}
    said(tmp_path, "up", "degraded", components=told)
    said(tmp_path, "streams", "starting")
    said(tmp_path, "query", "ready", url="http://127.0.0.1:9690")

    found = condition(tmp_path, NOW_MS)

    assert found["state"] == "degraded"
    assert names(found)["streams"] == ("failed", "wrong password")
    assert names(found)["query"][0] == "ready"


@pytest.mark.parametrize("state", ["starting", "ready", "degraded"])
def test_the_state_is_as_told(tmp_path, state):
    said(tmp_path, "up", state, components={})

    assert condition(tmp_path, NOW_MS)["state"] == state


def test_a_supervisor_that_was_killed_or_hangs_is_degraded(tmp_path, gone):
    said(tmp_path, "query", "ready")
    said(tmp_path, "up", "ready", pid=gone, components={})
    assert condition(tmp_path, NOW_MS)["state"] == "degraded"
    assert names(condition(tmp_path, NOW_MS))["up"][0] == "dead"

    said(tmp_path, "up", "ready", components={})
    assert condition(tmp_path, NOW_MS + 31_000)["state"] == "degraded"


@pytest.mark.parametrize("up", [None, "stopped"])
def test_a_service_on_its_own_speaks_for_what_runs_beside_it_only(tmp_path, gone, up):
    if up:
        said(tmp_path, "up", up, pid=gone)
    said(tmp_path, "streams", "ready", pid=gone)
    said(tmp_path, "query", "ready")

    assert condition(tmp_path, NOW_MS) == {
        "state": "ready",
        "components": [{"name": "query", "state": "ready", "note": ""}],
    }

    said(tmp_path, "maintenance", "starting")
    assert condition(tmp_path, NOW_MS)["state"] == "starting"
    said(tmp_path, "collector", "degraded")
    assert condition(tmp_path, NOW_MS)["state"] == "degraded"


def test_a_home_that_is_not_there_is_nothing_wrong(tmp_path):
    assert condition(tmp_path / "none", NOW_MS) == {"state": "ready", "components": []}
