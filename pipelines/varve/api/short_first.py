"""Lets requests that have just begun go before those that have run for a while.

Threads of Python share one lock, which each step of a request has to get, and two cores are soon
busy: beside a query that takes seconds a small one would wait at each of its steps. So a request
that has run for 5 ms gives way wherever it looks whether it is cancelled: it waits while any
younger one is under way, 5 ms at most, and then goes on for as long as it has waited. It keeps half
of its speed however many small ones there are.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

YOUNG_S: Final = 0.005
"""For so long a request is young."""
LONGEST_WAIT_S: Final = 0.005
# Of threads that evaluate, beside that of the process.
_NICENESS: Final = 2


class ShortFirst:
    """The requests of a process that are under way. Safe to use from many threads."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.now_s = now_s
        self._young = 0
        self._none_young = threading.Condition()

    @property
    def young(self) -> int:
        """How many requests are young."""
        return self._young

    def begin(self) -> Turn:
        """A request begins, to be ended in any case."""
        with self._none_young:
            self._young += 1
        return Turn(self)

    def grown(self) -> None:
        """One of them is young no longer."""
        with self._none_young:
            self._young -= 1
            if not self._young:
                self._none_young.notify_all()

    def wait(self) -> None:
        """Returns when none is young, after LONGEST_WAIT_S at most."""
        with self._none_young:
            self._none_young.wait_for(lambda: not self._young, LONGEST_WAIT_S)


class Turn:
    """One request. Its threads call give_way; one of them, or who waits for it, ends it."""

    __slots__ = ("_all", "_goes_on_until_s", "_is_young", "_lock", "_young_until_s")

    def __init__(self, others: ShortFirst) -> None:
        self._all = others
        self._is_young = True
        self._lock = threading.Lock()
        self._young_until_s = others.now_s() + YOUNG_S
        self._goes_on_until_s = 0.0

    def give_way(self) -> None:
        """Waits a little if the request has run for a while and a younger one is under way."""
        if self._is_young:
            if self._all.now_s() >= self._young_until_s:
                self.end()
        elif self._all.young and (began_s := self._all.now_s()) >= self._goes_on_until_s:
            self._all.wait()
            ended_s = self._all.now_s()
            self._goes_on_until_s = 2 * ended_s - began_s

    def end(self) -> None:
        """It is young no longer, or has ended; another call does nothing."""
        with self._lock:
            was_young, self._is_young = self._is_young, False
        if was_young:
            self._all.grown()


def let_others_go_first() -> None:
    """Called by a thread that evaluates: where more is to be done than there are cores for, it has
    a little less of them than the event loop. Much less would do harm: what waits for a core may
    have the interpreter's lock.
    """
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + _NICENESS)
