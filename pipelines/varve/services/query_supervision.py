"""Runs streaming queries that share a session: one that fails does not end the others.

A failed query is started again by itself, after a wait that doubles, for as long as another one
runs. Once none does, the cause is not in one of them: then the failure is raised, and whoever runs
the process starts it anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
# A query that ran so long before it failed is started again as if it were the first time.
_HEALTHY_S = 60.0
_CHECK_S = 0.5


class Query(Protocol):
    """A running query."""

    def stop(self) -> None:
        """Ends the query after what is under way."""
        ...

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        ...


S_contra = TypeVar("S_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Start(Generic[S_contra]):
    """What starts a query in a session. name: for logs and states."""

    name: str
    start: Callable[[S_contra], Query]


class Supervised(Generic[S_contra]):
    """One query, started as often as it takes."""

    def __init__(self, start: Start[S_contra], clock_s: Callable[[], float]) -> None:
        """clock_s: seconds of a clock that never goes back."""
        self.name = start.name
        self.query: Query | None = None
        """The query while it runs."""
        self.failure: Exception | None = None
        """What ended it last, while it does not run."""
        self._start, self._clock_s = start.start, clock_s
        self._wait_s = FIRST_WAIT_S
        self._started_s = 0.0
        self._due_s = clock_s()

    def look(self, session: S_contra) -> None:
        """Starts the query if that is due, or notices that it has failed."""
        try:
            if self.query is not None:
                self.query.raise_failure()
            elif self._clock_s() >= self._due_s:
                self._started_s = self._clock_s()
                self.query = self._start(session)
                self.failure = None
        except Exception as err:  # noqa: BLE001  # whatever it is, the other queries go on
            self._failed(err)

    def stop(self) -> None:
        query, self.query = self.query, None
        if query is not None:
            query.stop()

    def _failed(self, err: Exception) -> None:
        now_s = self._clock_s()
        if self.query is not None and now_s - self._started_s >= _HEALTHY_S:
            self._wait_s = FIRST_WAIT_S
        self.failure, self._due_s = err, now_s + self._wait_s
        log.error(
            "%s has failed and is started again in %g s", self.name, self._wait_s, exc_info=err
        )
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        try:
            self.stop()
        except Exception:
            log.exception("%s did not end in order", self.name)


def supervise(
    session: S_contra,
    starts: Sequence[Start[S_contra]],
    stopping: threading.Event,
    *,
    is_done: Callable[[Query], bool] = lambda _: False,
    on_change: Callable[[Mapping[str, str]], None] = lambda _: None,
    on_look: Callable[[Sequence[Any]], None] = lambda _: None,
    clock_s: Callable[[], float] = time.monotonic,
) -> None:
    """Runs queries until `stopping` is set or all of them are done, then ends each in order.

    on_change: called with the failure of each query by its name, empty if it runs, whenever that
    changes. on_look: called at each look with the queries that run. Raises the failure of a query
    if no other one runs.
    """
    queries = [Supervised(start, clock_s) for start in starts]
    shown: Mapping[str, str] | None = None
    try:
        while not stopping.is_set():
            for one in queries:
                if not stopping.is_set():
                    one.look(session)
            running = [one.query for one in queries if one.query is not None]
            on_look(running)
            if len(running) == len(queries) and all(map(is_done, running)):
                return
            failures = [one.failure for one in queries if one.failure is not None]
            if failures and all(map(is_done, running)):
                raise failures[0]
            states = {one.name: str(one.failure or "") for one in queries}
            if states != shown:
                shown = states
                on_change(states)
            stopping.wait(_CHECK_S)
    finally:
        for one in queries:
            one.stop()
