"""Runs components as child processes: starts, watches, starts again, holds back and stops them.

A component fails alone. What ended it is taken to be outside and to pass, so it is started again
for as long as it takes; one that says it needs an operator is tried again rarely. A component that
runs but does not get on is killed and started again.

One thread, the one that made the supervisor, does everything but copy output into logs; it has to
be the main thread, for Linux ends a child with the thread that started it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from varve.local import child
from varve.local.notify_socket import NotifySocket
from varve.local.rotating_log import RotatingLog
from varve.services.supervised import NEEDS_OPERATOR, PROGRESS, READY
from varve.services.usage import family, usage_of
from varve.telemetry.metrics import ComponentUse, Usage

OPERATOR_RETRY_S = 600.0
"""Seconds until a component that needs an operator is tried again: some causes end elsewhere, a
topic that was missing, say."""

_LAST_LINES = 12
_UNUSED = Usage(0.0, 0)
# A longer time between two polls is no time in which a component did not get on: the machine was
# asleep, or this process was stopped.
_LONGEST_GAP_S = 5.0
# So often within its deadline a probe looks whether a component that is ready gets on.
_PROBES = 8


@dataclass(frozen=True, slots=True)
class Component:
    """A program and how to tell that it works.

    probe: for a program that does not speak sd_notify, whether it works; asked every poll until
    it is ready, and now and then from there on; may block for two seconds. stalled_s: seconds
    without progress after which it counts as hung. ends: it is a task that ends by itself, with
    status 0 when done. stop_s: seconds an orderly end may take before it is killed.
    """

    name: str
    command: Sequence[str]
    stalled_s: float
    probe: Callable[[], bool] | None = None
    ready_deadline_s: float = 120.0
    stop_s: float = 30.0
    ends: bool = False
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How long to wait before a component is started again.

    The first restart comes after backoff_s, each further one after twice as long, at most
    max_backoff_s; failures are forgotten once a component was ready for healthy_after_s.
    """

    backoff_s: float
    max_backoff_s: float
    healthy_after_s: float

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, at least one."""
        return min(self.backoff_s * 2.0 ** min(failures - 1, 64), self.max_backoff_s)


@dataclass(frozen=True, slots=True)
class Health:
    """state: held (back, on purpose), starting, ready, done (a task that has ended), waiting (to be
    started again) or failed (an operator is needed).

    why: what it waits for or what ended it last; "" if it is as it should be. restarts: since the
    supervisor was made. failures: in a row.
    """

    state: str
    pid: int
    restarts: int
    failures: int
    why: str

    @property
    def up(self) -> bool:
        return self.state in ("ready", "done")


class Supervisor:
    """Components in the order they were added. Must be stopped, whatever happened."""

    def __init__(
        self,
        logs: Path,
        policy: RestartPolicy,
        log_bytes: int,
        say: Callable[[str], None],
        on_start: Callable[[Component, int], None] = lambda _component, _pid: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """say: gets a line for a person when something happens. on_start: gets each new pid.

        now: seconds, of a clock that is never set.
        """
        self._logs = logs
        self._policy = policy
        self._log_bytes = log_bytes
        self._say = say
        self._on_start = on_start
        self._running: dict[str, _Running] = {}
        self._now = now
        self._socket = NotifySocket()
        self._polled_at = self._now()
        self._watched_s = 0.0
        """Seconds that this process has watched. Time in which it was stopped is not among them."""
        self.peak_rss_bytes = 0
        """Greatest sum of resident memory of all components seen by `measure`."""

    def add(self, component: Component, *, held: str = "") -> None:
        """Starts a component with the next poll, unless it is held for a reason."""
        log = RotatingLog(self._logs, component.name, self._log_bytes)
        self._running[component.name] = _Running(component, log, held=held)

    def hold(self, name: str, why: str) -> None:
        """Ends a component in order, and keeps it from running for as long as `why` is not ""."""
        running = self._running[name]
        running.held = "" if running.done else why

    def poll(self) -> None:
        """Notices what became ready, has ended, hangs, or is due to be started.

        Returns at once, but for probes and `on_start`.
        """
        now = self._now()
        self._watched_s += min(now - self._polled_at, _LONGEST_GAP_S)
        self._polled_at = now
        self._hear()
        for running in self._running.values():
            if running.process is not None and running.process.poll() is not None:
                self._ended(running, running.process.returncode)
            elif running.process is not None and running.held:
                self._end(running)
            elif running.process is not None:
                self._look(running)
            elif not running.held and not running.done and now >= running.start_at:
                self._launch(running)

    def health(self) -> dict[str, Health]:
        return {name: running.health() for name, running in self._running.items()}

    def is_up(self, name: str) -> bool:
        """Whether there is such a component, and it is ready or, being a task, done."""
        return name in self._running and self._running[name].health().up

    def last_words(self, name: str) -> str:
        """The last lines of a component's log, and where that is."""
        log = self._running[name].log
        words = "\n".join(f"  {line}" for line in log.last_lines(_LAST_LINES))
        return f"its last words ({log.path}):\n{words or '  (none)'}"

    def stop(self, name: str) -> int | None:
        """Asks a component to end and waits, by force after its stop_s.

        Returns its exit status; None if there was no process.
        """
        running = self._running.pop(name, None)
        if running is None or running.process is None:
            return None
        process = running.process
        process.terminate()
        try:
            process.wait(running.component.stop_s)
        except subprocess.TimeoutExpired:
            self._say(f"{name} did not stop within {running.component.stop_s:g} s: killed")
        self._reap(running)
        running.log.close()
        return process.returncode

    def kill_all(self) -> None:
        """Ends all components at once, without a chance to finish anything."""
        for name in reversed(list(self._running)):
            self._reap(self._running.pop(name))

    def measure(self) -> int:
        """Bytes of resident memory of all components and their children now.

        Pages that they share count in each. Keeps the peak.
        """
        for running in self._running.values():
            process = running.process
            running.usage = usage_of([] if process is None else family(process.pid))
        total = sum(running.usage.rss_bytes for running in self._running.values())
        self.peak_rss_bytes = max(self.peak_rss_bytes, total)
        return total

    def used(self) -> dict[str, ComponentUse]:
        """What each component has used as of the last `measure`. Any thread may call it."""
        found = {}
        for name, running in list(self._running.items()):
            health = running.health()
            held = health.state == "held"
            found[name] = ComponentUse(health.up, health.restarts, running.usage, held)
        return found

    def _hear(self) -> None:
        by_pid = {r.process.pid: r for r in self._running.values() if r.process is not None}
        for pid, message in self._socket.heard():
            running = by_pid.get(pid)
            if running is None:
                continue
            lines = message.splitlines()
            if READY in lines and running.ready_at is None and not running.component.ends:
                self._became_ready(running)
            if PROGRESS in lines:
                running.progressed_at = self._watched_s

    def _launch(self, running: _Running) -> None:
        component = running.component
        running.ready_at = running.kill_at = None
        running.started_at = self._now()
        running.launched_at = running.progressed_at = running.probed_at = self._watched_s
        if running.started:
            running.restarts += 1
        running.started = True
        running.log.begin()
        try:
            running.process = subprocess.Popen(
                [sys.executable, "-I", child.__file__, str(os.getpid()), *component.command],
                cwd=component.directory,
                env={**os.environ, **component.environment, **self._socket.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
            )
        except OSError as err:  # no memory, or too many processes
            self._failed(running, f"cannot be started: {err}")
            return
        running.copier = threading.Thread(
            target=_copy, args=(running.process, running.log), daemon=True
        )
        running.copier.start()
        self._on_start(component, running.process.pid)

    def _look(self, running: _Running) -> None:
        """Whether one that runs is ready; if it is, whether it gets on."""
        component = running.component
        waited_s = self._watched_s - running.probed_at
        if component.probe is not None and (
            running.ready_at is None or waited_s > component.stalled_s / _PROBES
        ):
            running.probed_at = self._watched_s
            if component.probe():
                running.progressed_at = self._watched_s
                if running.ready_at is None:
                    self._became_ready(running)
        if running.ready_at is not None or component.ends:
            if self._watched_s - running.progressed_at > component.stalled_s:
                self._reap(running)
                # What it said last was before it hung, and is not why.
                running.log.begin()
                self._failed(running, f"made no progress for {component.stalled_s:g} s")
        elif self._watched_s - running.launched_at > component.ready_deadline_s:
            self._reap(running)
            self._failed(running, f"was not ready within {component.ready_deadline_s:g} s")

    def _became_ready(self, running: _Running) -> None:
        running.ready_at = self._now()
        running.progressed_at = self._watched_s
        self._say(f"{running.component.name} ready in {self._now() - running.started_at:.1f} s")

    def _end(self, running: _Running) -> None:
        """Asks one that is to be held back to end; by force once its time is over."""
        if running.process is None:
            return
        if running.kill_at is None:
            running.kill_at = self._now() + running.component.stop_s
            running.process.terminate()
        elif self._now() > running.kill_at:
            self._ended(running, -signal.SIGKILL)

    def _ended(self, running: _Running, status: int) -> None:
        self._reap(running)
        if running.held:
            running.started = False  # what was held back is not started again, but at last
            return
        if running.component.ends and status == 0:
            running.done, running.why, running.failures = True, "", 0
            self._say(f"{running.component.name} done in {self._now() - running.started_at:.1f} s")
            return
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        self._failed(running, f"ended with {how}", needs_operator=status == NEEDS_OPERATOR)

    def _failed(self, running: _Running, what: str, *, needs_operator: bool = False) -> None:
        name, policy = running.component.name, self._policy
        if running.ready_at is not None and (
            self._now() - running.ready_at > policy.healthy_after_s
        ):
            running.failures = 0
        running.failures += 1
        running.ready_at = None
        running.needs_operator = needs_operator
        words = running.log.last_error()
        running.why = f"{what} ({words})" if words else what
        if needs_operator:
            delay = max(OPERATOR_RETRY_S, policy.max_backoff_s)
            self._say(f"{name} needs an operator: {words or what}; tried again in {delay:g} s")
        else:
            delay = policy.delay_s(running.failures)
            self._say(f"{name} {running.why}; starting it again in {delay:g} s")
        running.start_at = self._now() + delay

    def _reap(self, running: _Running) -> None:
        """Ends the process if it still runs, and whatever it has left of its session."""
        process = running.process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # nothing was left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if running.copier is not None:
            running.copier.join(1.0)
        running.process = None


@dataclass
class _Running:
    """A component and what has become of it.

    launched_at, progressed_at and probed_at are seconds watched by the supervisor; other times
    are of its clock.
    """

    component: Component
    log: RotatingLog
    held: str = ""
    """Why it is kept from running; "" if it is not."""
    process: subprocess.Popen[bytes] | None = None
    copier: threading.Thread | None = None
    started: bool = False
    started_at: float = 0.0
    launched_at: float = 0.0
    start_at: float = 0.0
    """Not before then it is started."""
    kill_at: float | None = None
    """When it is killed if it has not ended; None if it was not asked to."""
    ready_at: float | None = None
    progressed_at: float = 0.0
    probed_at: float = 0.0
    failures: int = 0
    needs_operator: bool = False
    restarts: int = 0
    why: str = ""
    done: bool = False
    usage: Usage = _UNUSED

    def health(self) -> Health:
        pid = 0 if self.process is None else self.process.pid
        state, why = self._state(), self.held or self.why
        if state in ("ready", "done"):
            why = ""
        return Health(state, pid, self.restarts, self.failures, why)

    def _state(self) -> str:
        if self.done:
            return "done"
        if self.held:
            return "held"
        if self.process is not None:
            return "starting" if self.ready_at is None else "ready"
        if not self.started:
            return "starting"
        return "failed" if self.needs_operator else "waiting"


def _copy(process: subprocess.Popen[bytes], log: RotatingLog) -> None:
    for line in process.stdout or ():
        log.write(line)
