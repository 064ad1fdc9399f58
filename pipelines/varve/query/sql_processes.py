"""Runs SQL statements, each in a process of its own that is killed when nobody waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from varve.promql.errors import BadQueryError, LimitError, QueryError
from varve.query.sql_worker import Form, Task
from varve.storage.store import Store

# How soon a statement notices that nobody waits for it.
_CHECK_S = 0.05
_PIECE_BYTES = 1 << 20
_HEAD_BYTES = 1 << 20


class BusyError(QueryError):
    """As many statements as there may be run already."""

    error_type = "unavailable"


class StatementError(BadQueryError):
    """The statement is none that can be run here."""


class FailedStatementError(QueryError):
    """The statement could not be evaluated, or is over a bound."""


_ERRORS: Final[Mapping[str, type[Exception]]] = {
    "bad_data": StatementError,
    "execution": FailedStatementError,
    "internal": RuntimeError,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one statement may take, and how many may run at once."""

    memory_mb: int = 1_024
    rows: int = 1_000_000
    megabytes: int = 64
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class SqlAnswer:
    """The answer in the form that was asked for, and the versions of the tables it is from."""

    content: bytes
    versions: Mapping[str, int]


class SqlProcesses:
    """Safe to use from any thread. One process waits ready, so that a statement need not."""

    def __init__(self, store: Store, bounds: Bounds) -> None:
        self._store = store
        self._bounds = bounds
        self._places = threading.BoundedSemaphore(bounds.at_once)
        self._spare: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def run(
        self,
        query: str,
        form: Form,
        versions: Mapping[str, int],
        *,
        seconds: float,
        check: Callable[[], None],
        take: Callable[[int], None],
    ) -> SqlAnswer:
        """Runs one SELECT.

        versions: of tables to read, the newest of others. check: raises when nobody waits any more.
        take: asked for the bytes of the answer before they are held. Raises StatementError,
        FailedStatementError, BusyError and what these do.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError(f"query.sql_at_once = {self._bounds.at_once} statements run already")
        try:
            process = self._process()
            try:
                return self._run(process, self._task(query, form, versions, seconds), check, take)
            finally:
                _end(process)
        finally:
            self._places.release()

    def close(self) -> None:
        """Ends the process that waits; statements under way end with their callers."""
        with self._lock:
            self._is_closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            _end(spare)

    def warm(self) -> None:
        """Starts the process that waits, if there is none."""
        with self._lock:
            if self._spare is None and not self._is_closed:
                self._spare = _start()

    def _process(self) -> subprocess.Popen[bytes]:
        with self._lock:
            spare, self._spare = self._spare, None
        self.warm()
        if spare is not None and spare.poll() is None:
            return spare
        if spare is not None:
            _end(spare)
        return _start()

    def _task(self, query: str, form: Form, versions: Mapping[str, int], seconds: float) -> Task:
        bounds = self._bounds
        cores = len(os.sched_getaffinity(0))
        return Task(
            query,
            [(root.root, root.options) for root in self._store.roots()],
            versions,
            form,
            bounds.memory_mb,
            bounds.rows,
            bounds.megabytes << 20,
            max(1, round(min(seconds, 86_400) + 1) * cores),
        )

    def _run(
        self,
        process: subprocess.Popen[bytes],
        task: Task,
        check: Callable[[], None],
        take: Callable[[int], None],
    ) -> SqlAnswer:
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        with contextlib.suppress(OSError):  # it has ended: its answer says so
            process.stdin.write(task.to_json())
            process.stdin.flush()
        said = _read(process.stdout.fileno(), task.most_bytes + _HEAD_BYTES, check, take)
        line, _, body = said.partition(b"\n")
        try:
            head: dict[str, Any] = json.loads(line)
        except ValueError:
            code = process.wait()
            raise FailedStatementError(
                f"the process of the statement has ended (status {code}) without an answer: it took"
                f" over query.sql_memory_mb = {task.memory_mb:,}, too much time, or has a defect",
            ) from None
        if "error" in head:
            raise _ERRORS[head["kind"]](head["error"])
        return SqlAnswer(body, head["versions"])


def _read(pipe: int, most: int, check: Callable[[], None], take: Callable[[int], None]) -> bytes:
    """All that comes until the other end is closed."""
    pieces: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            check()
            if not selector.select(_CHECK_S):
                continue
            piece = os.read(pipe, _PIECE_BYTES)
            if not piece:
                return b"".join(pieces)
            take(2 * len(piece))  # once more, when they are joined
            size += len(piece)
            if size > most:
                raise LimitError("the answer of a statement is longer than it said")
            pieces.append(piece)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "varve.query.sql_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()
