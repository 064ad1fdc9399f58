"""What each component says of itself: one small JSON file each under <home>/run.

Written by the component (or by `varve up` for the broker and for one that is just starting), read
by `varve status` and by whoever is curious. Replaced atomically, so that a reader never sees half,
and written on a full disk, too.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from varve.model.clock import Clock, SystemClock
from varve.services import supervised

log = logging.getLogger(__name__)

State = Literal["starting", "ready", "degraded", "failed", "stopped"]
STATES: tuple[State, ...] = get_args(State)

# Processes tell their start in ticks since boot; setting the clock moves what that is as a time.
_CLOCK_STEP_MS = 2_000
_BLOCK = 4_096


@dataclass(frozen=True, slots=True)
class Record:
    """What a component last said.

    pid is 0 if there is no process. started_ms is when the process began, which tells it from a
    later one of the same pid; since_ms when it came into this state; updated_ms when it last said
    anything. All are ms since the Unix epoch, UTC.
    """

    component: str
    state: State
    pid: int
    started_ms: int
    since_ms: int
    updated_ms: int
    detail: dict[str, Any] = field(default_factory=dict)

    def alive(self) -> bool:
        """Whether the process that wrote this still runs."""
        started_ms = _started_ms(self.pid)
        return started_ms is not None and abs(started_ms - self.started_ms) <= _CLOCK_STEP_MS


class ComponentStatus:
    """The status file of one component; one writer, not to be shared between threads.

    >>> import tempfile
    >>> home = Path(tempfile.mkdtemp())
    >>> ComponentStatus(home, "streams").update(state="ready", detail={"batches": 1})
    >>> read_status(home)["streams"].detail
    {'batches': 1}
    """

    def __init__(
        self, home: Path, component: str, *, pid: int | None = None, clock: Clock | None = None
    ) -> None:
        """pid: the component's process, this one by default; 0 for none."""
        self._path = _path(home, component)
        self._component = component
        self._pid = os.getpid() if pid is None else pid
        self._started_ms = _started_ms(self._pid) or 0
        self._clock = clock or SystemClock()
        self._state: State = "starting"
        self._since_ms = self._clock.now_ms()
        self._detail: dict[str, Any] = {}
        self._failing = ""

    def update(
        self, *, state: State | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Writes the file, and tells the supervisor once this process is ready.

        Keys of `detail` are added to those said before (None takes one away); values must be JSON.
        `state` stays what it was unless given. A file that cannot be written is a warning: what
        cannot be said must not end the work.
        """
        now_ms = self._clock.now_ms()
        if state is not None and state != self._state:
            self._state, self._since_ms = state, now_ms
            if state == "ready" and self._pid == os.getpid():
                supervised.notify(supervised.READY)
        merged = self._detail | dict(detail or {})
        self._detail = {k: v for k, v in merged.items() if v is not None}
        record = {
            "component": self._component,
            "state": self._state,
            "pid": self._pid,
            "started_ms": self._started_ms,
            "since_ms": self._since_ms,
            "updated_ms": now_ms,
            "detail": self._detail,
        }
        try:
            _replace_or_overwrite(self._path, json.dumps(record))
            self._failing = ""
        except OSError as err:
            if self._failing != str(err):
                self._failing = str(err)
                log.warning("cannot write the status of %s: %s", self._component, err)

    @staticmethod
    def progressed() -> None:
        """Tells the supervisor of this process that its work goes on.

        Call it where work is done, at least every few seconds: a process that stops to say so for
        supervision.stalled_after_s is taken to hang, and started again.
        """
        supervised.notify(supervised.PROGRESS)


def read_status(home: Path) -> dict[str, Record]:
    """The last word of every component that ever ran in this home, by name.

    A file that is no status is left out.
    """
    folder = home / "run"
    records = map(_read, sorted(folder.glob("*.status.json")))
    return {record.component: record for record in records if record is not None}


def forget(home: Path, component: str) -> None:
    """Removes a component's file, so that nobody takes an earlier run's word for this one's."""
    _path(home, component).unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> None:
    """Writes a file so that a reader finds the old text or the new one, whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _path(home: Path, component: str) -> Path:
    return home / "run" / f"{component}.status.json"


def _replace_or_overwrite(path: Path, text: str) -> None:
    """Replaces the file. Where the disk has no room for a second one, overwrites it in its place.

    Files are filled up to whole blocks with spaces, so that a longer text finds its room taken
    already. Raises OSError if it does not, and leaves the file as it was.
    """
    blocks = -(-len(text) // _BLOCK) or 1
    filled = text.ljust(blocks * _BLOCK)
    try:
        replace_file(path, filled)
    except OSError:
        if not path.is_file() or len(filled) != path.stat().st_size:
            raise
        with path.open("r+b", buffering=0) as file:
            file.write(filled.encode())


def _read(path: Path) -> Record | None:
    for _ in range(2):  # it may be overwritten just now
        try:
            return Record(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
    return None


def _started_ms(pid: int) -> int | None:
    """When the process began; None if there is none. A zombie has ended."""
    if pid <= 0:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return int(process.create_time() * 1000)
    except psutil.NoSuchProcess:
        return None
