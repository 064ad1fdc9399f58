"""Lends threads to the queries of a process, for parts of a query that can run side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

WORTHWHILE: Final = 100_000
"""About a millisecond of a kernel, ten times what handing it over costs."""


class Workers:
    """Lends idle cores to queries, and never more than there are. Safe to use from any thread.

    cores: how many threads may evaluate at once, those of the queries' callers counted. With as
    many queries under way nothing is lent; with 1 nothing ever is. worthwhile: samples and values
    from which on a part of a query is worth a thread.
    """

    def __init__(self, cores: int, worthwhile: int = WORTHWHILE) -> None:
        if cores < 1:
            raise ValueError(f"cores must be at least 1, not {cores}")
        self.worthwhile = worthwhile
        self._cores = cores
        self._busy = 0
        self._lock = threading.Lock()
        # Its threads start when first used, and end with the process.
        self._pool = ThreadPoolExecutor(max(1, cores - 1), thread_name_prefix="promql")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Counts the calling thread as one that evaluates a query while the context is open."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def any_idle(self) -> bool:
        """Whether there may be a core to lend: asked before it is worked out what for."""
        return self._busy < self._cores

    def lend(self, work: Callable[[], None], most: int) -> int:
        """Runs `work` on up to `most` idle cores and returns how many. It does not wait for them.

        `work` must not raise, and must not wait for other work that is lent.
        """
        with self._lock:
            lent = max(0, min(most, self._cores - self._busy))
            self._busy += lent
        for _ in range(lent):
            self._pool.submit(self._run, work)
        return lent

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._busy -= 1
