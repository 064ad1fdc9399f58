"""What is to be done later, by time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[int], None]
"""Gets the time in ms."""


class Timers:
    """Actions by time; of one time, in the order in which they were added."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Action]] = []
        self._numbers = itertools.count()

    def add(self, at_ms: int, action: Action) -> None:
        heapq.heappush(self._heap, (at_ms, next(self._numbers), action))

    def next_due_ms(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def run(self, now_ms: int, most: int | None = None) -> None:
        """Runs what is due, and what becomes due by it; at most so many actions."""
        while self._heap and self._heap[0][0] <= now_ms and most != 0:
            heapq.heappop(self._heap)[2](now_ms)
            most = most if most is None else most - 1
