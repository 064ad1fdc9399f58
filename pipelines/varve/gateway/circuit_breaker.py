"""When to stop trying Kafka, and when to try again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable


class CircuitBreaker:
    """Open after a failure, until something succeeds. May be used by any thread.

    While it is open, `may_try` lets one attempt through after each pause. Pauses are random between
    0 and a bound that doubles from one failure to the next (full jitter), so that many gateways do
    not come back at once.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        *,
        first_pause_s: float = 0.1,
        longest_pause_s: float = 10.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._now_s = now_s
        self._first_s, self._longest_s = first_pause_s, longest_pause_s
        self._uniform = uniform
        self._lock = threading.Lock()
        self._failures = 0
        self._try_at_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures > 0

    def failed(self) -> float:
        """Notes a failure; returns the pause in seconds until the next attempt."""
        with self._lock:
            bound = min(self._first_s * 2 ** min(self._failures, 30), self._longest_s)
            self._failures += 1
            pause_s = self._uniform(0.0, bound)
            self._try_at_s = self._now_s() + pause_s
            return pause_s

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0

    def may_try(self) -> bool:
        """Whether it is closed, or time for an attempt; the next has to wait for this one."""
        with self._lock:
            if not self._failures:
                return True
            if self._now_s() < self._try_at_s:
                return False
            self._try_at_s = self._now_s() + self._longest_s
            return True
