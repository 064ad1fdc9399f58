import os
import subprocess
import sys

from varve.model.clock import ManualClock
from varve.services.status import ComponentStatus, forget, read_status


def test_a_component_is_read_as_it_last_said(tmp_path):
    clock = ManualClock(1_000)
    status = ComponentStatus(tmp_path, "streams", clock=clock)
    status.update(detail={"batches": 1, "failing": "yes"})
    clock.advance(500)
    status.update(state="ready", detail={"batches": 2, "failing": None})
    clock.advance(500)
    status.update()

    record = read_status(tmp_path)["streams"]

    assert (record.state, record.since_ms, record.updated_ms) == ("ready", 1_500, 2_000)
    assert record.detail == {"batches": 2}
    assert record.alive()


def test_a_component_whose_process_has_ended_is_not_alive_whatever_it_last_said(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ComponentStatus(tmp_path, "query", pid=child.pid).update(state="ready")
    assert read_status(tmp_path)["query"].alive()

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # leaves it a zombie
    assert not read_status(tmp_path)["query"].alive()
    child.communicate()
    assert not read_status(tmp_path)["query"].alive()


def test_a_home_never_used_has_no_components(tmp_path):
    assert read_status(tmp_path / "none") == {}


def test_a_forgotten_component_is_not_read(tmp_path):
    ComponentStatus(tmp_path, "query").update(state="ready")
    forget(tmp_path, "query")

    assert read_status(tmp_path) == {}
