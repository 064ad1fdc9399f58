import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from varve.local.supervisor import OPERATOR_RETRY_S, Component, RestartPolicy, Supervisor

POLICY = RestartPolicy(backoff_s=0.05, max_backoff_s=0.1, healthy_after_s=60)
SAYS = "from varve.services.supervised import *; notify(READY); import time; "
SLEEPER = "import time; time.sleep(600)"
WORKER = f"{SAYS}\nwhile True: notify(PROGRESS); time.sleep(0.01)"
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


class Watched:
    """A supervisor and what it said. Its clock is `skipped_s` ahead of the real one."""

    def __init__(self, folder):
        self.said = []
        self.pids = []
        self.skipped_s = 0.0
        self.supervisor = Supervisor(
            folder,
            POLICY,
            10_000,
            self.said.append,
            lambda _component, pid: self.pids.append(pid),
            lambda: time.monotonic() + self.skipped_s,
        )

    def add(self, code, name="part", held="", stalled_s=60, **options):
        command = [sys.executable, "-c", code]
        component = Component(name, command, stalled_s, environment=ENVIRONMENT, **options)
        self.supervisor.add(component, held=held)

    def state(self, name="part"):
        return self.supervisor.health()[name].state

    def skip(self, seconds):
        """Lets time pass, watching all the while."""
        for _ in range(seconds):
            self.skipped_s += 1
            self.supervisor.poll()

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
    waits = f"import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.01)\n"
    watched.add(waits + WORKER)
    watched.until(lambda: watched.pids)
    assert watched.state() == "starting"

    flag.touch()
    watched.until(lambda: watched.supervisor.is_up("part"))

    assert watched.said[0].startswith("part ready in ")
    assert watched.supervisor.health()["part"].pid == watched.pids[0]


def test_nobody_is_ready_in_anothers_name(watched):
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SAYS!r}])\n"
    watched.add(f"{child}\nprint('asked', flush=True)\n{SLEEPER}")

    watched.until(lambda: "asked" in watched.supervisor.last_words("part"))
    watched.supervisor.poll()

    assert watched.state() == "starting"


def test_a_program_that_does_not_speak_is_asked(watched, tmp_path):
    works = tmp_path / "works"
    watched.add(f"open({str(works)!r}, 'w'); {SLEEPER}", probe=works.exists, stalled_s=5)
    watched.until(lambda: watched.supervisor.is_up("part"))
    watched.skip(30)
    assert len(watched.pids) == 1

    works.unlink()
    watched.skip(7)
    watched.until(lambda: len(watched.pids) == 2 and watched.supervisor.is_up("part"))

    assert "part made no progress for 5 s" in watched.said[1]


def test_a_task_is_up_once_it_is_done_not_when_it_is_ready(watched, tmp_path):
    flag = tmp_path / "flag"
    watched.add(
        f"{SAYS} import os\nprint('said', flush=True)\n"
        f"while not os.path.exists({str(flag)!r}): time.sleep(0.01)",
        ends=True,
    )
    watched.until(lambda: "said" in watched.supervisor.last_words("part"))
    watched.supervisor.poll()
    assert not watched.supervisor.is_up("part")

    flag.touch()
    watched.until(lambda: watched.supervisor.is_up("part"))

    assert watched.state() == "done"
    assert len(watched.pids) == 1


def test_one_that_dies_is_started_again(watched):
    watched.add(WORKER)
    watched.until(lambda: watched.supervisor.is_up("part"))
    os.kill(watched.pids[0], signal.SIGKILL)

    watched.until(lambda: len(watched.pids) == 2 and watched.supervisor.is_up("part"))

    assert watched.supervisor.health()["part"].restarts == 1
    assert "ended with SIGKILL" in watched.said[1]


def test_one_that_keeps_dying_is_tried_for_as_long_as_it_takes_and_others_go_on(watched, tmp_path):
    flag = tmp_path / "the cause has passed"
    fails = f"import os\nif not os.path.exists({str(flag)!r}): raise SystemExit('no Kafka')\n"
    watched.add(fails + WORKER)
    watched.add(WORKER, name="other")
    watched.until(lambda: len(watched.pids) == 9)
    health = watched.supervisor.health()["part"]
    assert health.failures >= 7
    assert health.why == "ended with exit status 1 (no Kafka)"
    assert "no Kafka" in (tmp_path / "part.log").read_text()
    assert watched.supervisor.health()["other"].restarts == 0

    flag.touch()
    watched.until(lambda: watched.supervisor.is_up("part"))

    assert watched.supervisor.health()["part"].why == ""


def test_waiting_doubles_up_to_a_bound():
    policy = RestartPolicy(backoff_s=1.0, max_backoff_s=60, healthy_after_s=60)

    assert [policy.delay_s(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert policy.delay_s(10_000) == 60


def test_failures_are_forgotten_once_it_was_well_for_long_enough(watched):
    watched.add(WORKER)
    for _ in range(2):
        watched.until(lambda: watched.supervisor.is_up("part"))
        watched.skipped_s += POLICY.healthy_after_s
        os.kill(watched.pids[-1], signal.SIGKILL)
        watched.until(lambda: watched.state() == "waiting")

    assert watched.supervisor.health()["part"].failures == 1


def test_one_that_needs_an_operator_is_not_tried_again_and_again(watched):
    watched.add("import sys; print('NeedsOperatorError: drop the column'); sys.exit(78)")
    watched.until(lambda: watched.state() == "failed")
    watched.skip(int(OPERATOR_RETRY_S) - 30)

    assert len(watched.pids) == 1
    assert len(watched.said) == 1
    assert watched.said[0].startswith("part needs an operator: NeedsOperatorError: drop the column")

    watched.skip(60)
    watched.until(lambda: len(watched.pids) == 2)


def test_one_that_is_not_ready_in_time_is_started_again(watched):
    watched.add(SLEEPER, ready_deadline_s=5)
    watched.until(lambda: watched.pids)
    watched.skip(7)

    watched.until(lambda: len(watched.pids) == 2)

    assert watched.said[0].startswith("part was not ready within 5 s")
    assert not _runs(watched.pids[0])


def test_one_that_runs_and_does_not_get_on_is_started_again(watched):
    watched.add(WORKER, stalled_s=60)
    watched.until(lambda: watched.supervisor.is_up("part"))
    os.kill(watched.pids[0], signal.SIGSTOP)
    watched.until(lambda: psutil.Process(watched.pids[0]).status() == psutil.STATUS_STOPPED)
    watched.skip(55)
    assert len(watched.pids) == 1

    watched.skip(10)
    watched.until(lambda: len(watched.pids) == 2 and watched.supervisor.is_up("part"))

    assert "part made no progress for 60 s" in watched.said[1]
    assert not _runs(watched.pids[0])


def test_a_pulse_is_no_progress(watched):
    """A thread that lives does not make a loop that is stuck one that gets on."""
    watched.add(f"{SAYS}import threading; threading.Thread(target=lambda: {SLEEPER!r}).start()\n"
                "while True: notify('STATUS=alive'); time.sleep(0.01)", stalled_s=20)  # fmt: skip
    watched.until(lambda: watched.supervisor.is_up("part"))

    watched.skip(25)

    watched.until(lambda: len(watched.pids) == 2)


def test_one_that_gets_on_is_left_alone(watched):
    watched.add(WORKER, stalled_s=5)
    watched.until(lambda: watched.supervisor.is_up("part"))

    for _ in range(40):
        watched.skip(2)
        heard = watched.supervisor._running["part"].progressed_at
        watched.until(lambda: watched.supervisor._running["part"].progressed_at > heard)  # noqa: B023

    assert len(watched.pids) == 1


def test_time_in_which_nobody_watched_is_no_time_without_progress(watched):
    watched.add(WORKER, stalled_s=20)
    watched.until(lambda: watched.supervisor.is_up("part"))
    os.kill(watched.pids[0], signal.SIGSTOP)

    watched.skipped_s += 3_600  # the machine was asleep
    watched.supervisor.poll()

    assert len(watched.pids) == 1
    assert watched.state() == "ready"


def test_one_that_is_held_ends_in_order_and_starts_when_it_may(watched, tmp_path):
    trap = "import signal, sys; signal.signal(15, lambda *_: (print('bye'), sys.exit(1)))\n"
    watched.add(trap + WORKER, held="the disk is full")
    watched.skip(5)
    assert (watched.state(), watched.pids) == ("held", [])

    watched.supervisor.hold("part", "")
    watched.until(lambda: watched.supervisor.is_up("part"))
    watched.supervisor.hold("part", "the disk is full")
    watched.until(lambda: not watched.supervisor.health()["part"].pid)

    assert (tmp_path / "part.log").read_text() == "bye\n"
    assert watched.supervisor.health()["part"].why == "the disk is full"
    assert watched.supervisor.used()["part"].held

    watched.supervisor.hold("part", "")
    watched.until(lambda: watched.supervisor.is_up("part"))
    assert watched.supervisor.health()["part"].restarts == 0


def test_one_that_is_held_and_will_not_end_is_killed(watched):
    watched.add(f"import signal; signal.signal(15, signal.SIG_IGN)\n{WORKER}", stop_s=5)
    watched.until(lambda: watched.supervisor.is_up("part"))

    watched.supervisor.hold("part", "the disk is full")
    watched.skip(7)

    assert watched.state() == "held"
    assert not _runs(watched.pids[0])


def test_one_that_cannot_be_started_is_tried_again(watched, tmp_path):
    folder = tmp_path / "not yet"
    watched.add(WORKER, directory=folder)
    watched.until(lambda: watched.supervisor.health()["part"].failures == 2)
    assert "cannot be started: " in watched.said[0]

    folder.mkdir()

    watched.until(lambda: watched.supervisor.is_up("part"))


def test_stopping_lets_it_finish_and_gives_its_status(watched, tmp_path):
    code = "import signal, sys\nsignal.signal(15, lambda *_: (print('bye'), sys.exit(7)))\n"
    watched.add(code + WORKER)
    watched.until(lambda: watched.supervisor.is_up("part"))

    assert watched.supervisor.stop("part") == 7
    assert (tmp_path / "part.log").read_text() == "bye\n"


def test_one_that_will_not_stop_is_killed_with_its_children(watched, tmp_path):
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
    )
    watched.add(code + WORKER, stop_s=0.2)
    watched.until(lambda: watched.supervisor.is_up("part"))

    watched.supervisor.stop("part")

    assert "did not stop within 0.2 s" in watched.said[-1]
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_of_components_is_measured(watched):
    watched.add(WORKER)
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
s.add(Component("part", [sys.executable, "-c", {WORKER!r}], 60))
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
        env=os.environ | ENVIRONMENT,
    )
    component = psutil.Process(int(parent.stdout.readline()))
    while parent.stdout.readline() != "up\n":
        pass

    parent.kill()
    parent.communicate()

    assert psutil.wait_procs([component], timeout=10)[1] == []
