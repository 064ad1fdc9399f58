import os
import subprocess
import sys

import pytest

from tests.small_disk import fill, mounted
from varve.local.notify_socket import NotifySocket
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


@pytest.mark.parametrize("text", ["", '{"component": "que', "[]", "null", '{"component": "query"}'])
def test_a_file_that_is_no_status_is_left_out(tmp_path, text):
    ComponentStatus(tmp_path, "streams").update(state="ready")
    (tmp_path / "run" / "query.status.json").write_text(text)

    assert list(read_status(tmp_path)) == ["streams"]


def test_a_status_that_cannot_be_written_ends_nothing_and_the_last_one_stays(tmp_path, caplog):
    status = ComponentStatus(tmp_path, "streams")
    status.update(detail={"batches": 1})
    (tmp_path / "run" / f".streams.status.json.{os.getpid()}").mkdir()  # in the draft's place

    for batches in (2, 3):
        status.update(detail={"batches": batches, "why": "x" * 5_000})

    assert read_status(tmp_path)["streams"].detail == {"batches": 1}
    assert len(caplog.messages) == 1
    assert "cannot write the status of streams" in caplog.messages[0]
    (tmp_path / "run" / f".streams.status.json.{os.getpid()}").rmdir()
    status.update(detail={"why": None})
    assert read_status(tmp_path)["streams"].detail == {"batches": 3}


def test_on_a_full_disk_a_status_is_written_where_there_is_room_and_never_in_half(tmp_path):
    with mounted(tmp_path / "disk", 1) as disk:
        status = ComponentStatus(disk, "streams")
        status.update(state="ready", detail={"batches": 1})
        filler = fill(disk)

        # What has room where the last one is takes its place, and anything longer leaves it.
        status.update(detail={"batches": 2, "why": "x" * 1_000})
        assert read_status(disk)["streams"].detail == {"batches": 2, "why": "x" * 1_000}
        status.update(detail={"batches": 3, "why": "x" * 10_000})
        assert read_status(disk)["streams"].detail["batches"] == 2
        assert [path.name for path in (disk / "run").iterdir()] == ["streams.status.json"]

        filler.unlink()
        status.update(detail={"why": None})
        assert read_status(disk)["streams"].detail == {"batches": 3}


def test_a_supervisor_hears_that_a_component_is_ready_and_gets_on(tmp_path, monkeypatch):
    heard = NotifySocket()
    for name, value in heard.environment.items():
        monkeypatch.setenv(name, value)
    own, of_another = ComponentStatus(tmp_path, "a"), ComponentStatus(tmp_path, "b", pid=1)

    own.update(state="starting")
    of_another.update(state="ready")
    assert heard.heard() == []
    own.update(state="ready")
    own.update(state="ready")
    own.progressed()

    # The first may have been lost: that it is ready is said again with whatever follows.
    assert heard.heard() == [(os.getpid(), "READY=1"), (os.getpid(), "READY=1\nWATCHDOG=1")]
    heard.close()
    own.progressed()  # nobody listens: nothing happens


def test_a_forgotten_component_is_not_read(tmp_path):
    ComponentStatus(tmp_path, "query").update(state="ready")
    forget(tmp_path, "query")

    assert read_status(tmp_path) == {}
