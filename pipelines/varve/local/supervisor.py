"""Runs components as child processes: waits until each is ready, restarts, gives up, stops.

One thread, the one that made it, does everything but copy output into logs; it has to be the main
thread, for Linux ends a child with the thread that started it.
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
from varve.local.rotating_log import RotatingLog
from varve.model.errors import VarveError
from varve.services.usage import family, usage_of
from varve.telemetry.metrics import ComponentUse, Usage

_LAST_LINES = 12
_UNUSED = Usage(0.0, 0)


class GaveUp(VarveError):
    """A component does not run and will not by being started again."""


@dataclass(frozen=True, slots=True)
class Component:
    """A program and how to tell that it works.

    ready: asked with its pid every poll until it says yes; may block for a second at most.
    ends: it is a task that ends by itself, with 0 when done. stop_s: how long an orderly end may
    take before it is killed.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[int], bool]
    ready_deadline_s: float = 120.0
    stop_s: float = 30.0
    ends: bool = False
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """attempts restarts in a row, backoff_s before the first and twice as long before each further
    one; forgotten once a component has run for healthy_after_s.
    """

    attempts: int
    backoff_s: float
    healthy_after_s: float

    def delay_s(self, failures: int) -> float | None:
        """How long to wait after so many failures in a row; None: do not try again."""
        return None if failures > self.attempts else self.backoff_s * 2 ** (failures - 1)


@dataclass(frozen=True, slots=True)
class Health:
    """restarts: since the supervisor was made. state: waiting (for its restart), starting, ready,
    or done (a task that has ended).
    """

    state: str
    pid: int
    restarts: int


class Supervisor:
    """Components in the order they were started. Must be stopped, whatever happened."""

    def __init__(
        self,
        logs: Path,
        policy: RestartPolicy,
        log_bytes: int,
        say: Callable[[str], None],
        on_start: Callable[[Component, int], None] = lambda _component, _pid: None,
    ) -> None:
        """say: gets a line for a person when something happens. on_start: gets each new pid."""
        self._logs = logs
        self._policy = policy
        self._log_bytes = log_bytes
        self._say = say
        self._on_start = on_start
        self._running: dict[str, _Running] = {}
        self.peak_rss_bytes = 0
        """Greatest sum of resident memory of all components seen by `measure`."""

    def start(self, component: Component) -> None:
        log = RotatingLog(self._logs, component.name, self._log_bytes)
        running = _Running(component, log)
        self._running[component.name] = running
        self._launch(running)

    def poll(self) -> None:
        """Notices what became ready, has ended or is due to be restarted. Returns at once, but for
        `ready` and `on_start`. Raises GaveUp.
        """
        for running in self._running.values():
            if running.process is None:
                if running.restart_at is not None and time.monotonic() >= running.restart_at:
                    running.restarts += 1
                    self._launch(running)
            elif running.process.poll() is not None:
                self._ended(running, running.process.returncode)
            elif running.ready_at is None:
                self._look(running)

    def health(self) -> dict[str, Health]:
        return {name: running.health() for name, running in self._running.items()}

    def is_up(self, name: str) -> bool:
        """Whether it is ready or, being a task, done."""
        return self._running[name].health().state in ("ready", "done")

    def stop(self, name: str) -> int | None:
        """Asks it to end and waits, by force after its stop_s. Its exit status; None if there was
        no process.
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
        return process.returncode

    def kill_all(self) -> None:
        """At once, without a chance to finish anything."""
        for name in reversed(list(self._running)):
            self._reap(self._running.pop(name))

    def measure(self) -> int:
        """Bytes of resident memory of all components and their children now; shared pages count in
        each. Keeps the peak.
        """
        for running in self._running.values():
            process = running.process
            running.usage = usage_of([] if process is None else family(process.pid))
        total = sum(running.usage.rss_bytes for running in self._running.values())
        self.peak_rss_bytes = max(self.peak_rss_bytes, total)
        return total

    def used(self) -> dict[str, ComponentUse]:
        """Of each component, as of the last `measure`. May be called from any thread."""
        found = {}
        for name, running in list(self._running.items()):
            health = running.health()
            found[name] = ComponentUse(
                health.state in ("ready", "done"), health.restarts, running.usage
            )
        return found

    def _launch(self, running: _Running) -> None:
        component = running.component
        running.restart_at = running.ready_at = None
        running.started_at = time.monotonic()
        running.process = subprocess.Popen(
            [sys.executable, "-I", child.__file__, str(os.getpid()), *component.command],
            cwd=component.directory,
            env={**os.environ, **component.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: we stop them in order
        )
        running.copier = threading.Thread(
            target=_copy, args=(running.process, running.log), daemon=True
        )
        running.copier.start()
        self._on_start(component, running.process.pid)

    def _look(self, running: _Running) -> None:
        process, component = running.process, running.component
        if process is None or component.ends:
            return
        took = time.monotonic() - running.started_at
        if component.ready(process.pid):
            running.ready_at = time.monotonic()
            self._say(f"{component.name} ready in {took:.1f} s")
        elif took > component.ready_deadline_s:
            self._reap(running)
            self._failed(running, f"was not ready within {component.ready_deadline_s:g} s")

    def _ended(self, running: _Running, status: int) -> None:
        self._reap(running)
        if running.component.ends and status == 0:
            took = time.monotonic() - running.started_at
            running.done = True
            self._say(f"{running.component.name} done in {took:.1f} s")
            return
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        self._failed(running, f"ended with {how}")

    def _failed(self, running: _Running, what: str) -> None:
        name = running.component.name
        if (
            running.ready_at is not None
            and time.monotonic() - running.ready_at > self._policy.healthy_after_s
        ):
            running.failures = 0
        running.failures += 1
        running.ready_at = None
        delay = self._policy.delay_s(running.failures)
        if delay is None:
            words = "\n".join(f"  {line}" for line in running.log.last_lines(_LAST_LINES))
            raise GaveUp(
                f"{name} {what}, {running.failures} times in a row; its last words"
                f" ({running.log.path}):\n{words or '  (none)'}"
            )
        why = running.log.last_error()
        self._say(f"{name} {what}{f' ({why})' if why else ''}; starting it again in {delay:g} s")
        running.restart_at = time.monotonic() + delay

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
    component: Component
    log: RotatingLog
    process: subprocess.Popen[bytes] | None = None
    copier: threading.Thread | None = None
    started_at: float = 0.0
    ready_at: float | None = None
    restart_at: float | None = None
    failures: int = 0
    restarts: int = 0
    done: bool = False
    usage: Usage = _UNUSED

    def health(self) -> Health:
        if self.done:
            return Health("done", 0, self.restarts)
        if self.process is None:
            return Health("waiting", 0, self.restarts)
        state = "starting" if self.ready_at is None else "ready"
        return Health(state, self.process.pid, self.restarts)


def _copy(process: subprocess.Popen[bytes], log: RotatingLog) -> None:
    for line in process.stdout or ():
        log.write(line)
