import os
import subprocess
import sys
import time

import psutil
import pytest

from varve.local.supervisor import Component, GaveUp, RestartPolicy, Supervisor

POLICY = RestartPolicy(attempts=2, backoff_s=0.05, healthy_after_s=60)
SLEEPER = "import time; time.sleep(600)"


class Watched:
    """A supervisor and what it said."""

    def __init__(self, folder):
        self.said = []
        self.pids = []
        self.supervisor = Supervisor(
            folder, POLICY, 10_000, self.said.append, lambda _c, pid: self.pids.append(pid)
        )

    def start(self, code, name="part", **options):
        ready = options.pop("ready", lambda _pid: True)
        command = [sys.executable, "-c", code]
        self.supervisor.start(Component(name, command, ready, **options))

    def until(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.said
            self.supervisor.poll()
            time.sleep(0.01)


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path)
    yield watched
    watched.supervisor.kill_all()


def test_a_component_is_up_once_it_says_so(watched, tmp_path):
    flag = tmp_path / "flag"
    watched.start(f"open({str(flag)!r}, 'w'); {SLEEPER}", ready=lambda _pid: flag.exists())

    watched.until(lambda: watched.supervisor.is_up("part"))

    assert watched.said[0].startswith("part ready in ")
    assert watched.supervisor.health()["part"].pid == watched.pids[0]


def test_a_task_is_up_once_it_is_done(watched):
    watched.start("pass", ends=True)

    watched.until(lambda: watched.supervisor.is_up("part"))

    assert watched.supervisor.health()["part"].state == "done"


def test_one_that_dies_is_started_again(watched):
    watched.start(SLEEPER)
    watched.until(lambda: watched.supervisor.is_up("part"))
    os.kill(watched.pids[0], 9)

    watched.until(lambda: len(watched.pids) == 2 and watched.supervisor.is_up("part"))

    assert watched.supervisor.health()["part"].restarts == 1
    assert "ended with SIGKILL" in watched.said[1]


def test_one_that_keeps_dying_is_given_up_with_its_last_words(watched, tmp_path):
    watched.start("raise SystemExit('the disk is full')")

    with pytest.raises(GaveUp, match=r"exit status 1, 3 times in a row(.|\n)*the disk is full"):
        watched.until(lambda: False)

    assert len(watched.pids) == 3
    assert "the disk is full" in (tmp_path / "part.log").read_text()


def test_one_that_is_not_ready_in_time_is_started_again(watched):
    watched.start(SLEEPER, ready=lambda _pid: False, ready_deadline_s=0.2)

    with pytest.raises(GaveUp, match="was not ready within 0.2 s"):
        watched.until(lambda: False)

    assert not any(psutil.pid_exists(pid) for pid in watched.pids)


def test_waiting_doubles_and_ends():
    policy = RestartPolicy(attempts=3, backoff_s=1.0, healthy_after_s=60)

    assert [policy.delay_s(n) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, None]


def test_stopping_lets_it_finish_and_gives_its_status(watched, tmp_path):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(7)))\n"
        f"open({str(tmp_path / 'up')!r}, 'w')\n{SLEEPER}"
    )
    watched.start(code, ready=lambda _pid: (tmp_path / "up").exists())
    watched.until(lambda: watched.supervisor.is_up("part"))

    assert watched.supervisor.stop("part") == 7
    assert (tmp_path / "part.log").read_text() == "bye\n"


def test_one_that_will_not_stop_is_killed_with_its_children(watched, tmp_path):
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n{SLEEPER}"
    )
    child = tmp_path / "child"
    watched.start(code, stop_s=0.2, ready=lambda _pid: child.exists() and child.read_text())
    watched.until(lambda: watched.supervisor.is_up("part"))

    watched.supervisor.stop("part")

    assert "did not stop within 0.2 s" in watched.said[-1]
    deadline = time.monotonic() + 10
    while _runs(int(child.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_of_components_is_measured(watched):
    watched.start(SLEEPER)
    watched.until(lambda: watched.supervisor.is_up("part"))

    # A process that has only just been forked owns next to nothing.
    watched.until(lambda: watched.supervisor.measure() > 1_000_000)
    now = watched.supervisor.measure()

    assert now > 1_000_000
    assert watched.supervisor.peak_rss_bytes >= now


PARENT = f"""
import sys, time
from pathlib import Path
from varve.local.supervisor import Component, RestartPolicy, Supervisor
s = Supervisor(Path(sys.argv[1]), RestartPolicy(1, 1, 1), 10_000, print,
               lambda _c, pid: print(pid, flush=True))
s.start(Component("part", [sys.executable, "-c", {SLEEPER!r}], lambda _pid: True))
while not s.is_up("part"):
    s.poll()
print("up", flush=True)
time.sleep(600)
"""


def test_no_component_outlives_a_supervisor_that_was_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    component = psutil.Process(int(parent.stdout.readline()))
    while parent.stdout.readline() != "up\n":
        pass

    parent.kill()
    parent.communicate()

    assert psutil.wait_procs([component], timeout=10)[1] == []
