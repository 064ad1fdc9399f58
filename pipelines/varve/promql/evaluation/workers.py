"""Lends threads to the queries of a process, for parts of a query that can run side by side."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

T = TypeVar("T")

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
        return self.idle > 0

    @property
    def idle(self) -> int:
        """How many cores there may be to lend."""
        return max(0, self._cores - self._busy)

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

    def side_by_side(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What each job returns, those on idle cores and the others one after the other here.

        Raises what the first of them raised that did, in their order; those after it that have not
        begun are not run. Jobs must not need one another.
        """
        run = _Jobs(jobs)
        self.lend(run.work, len(jobs) - 1)
        run.work()
        return run.results()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._busy -= 1


class _Jobs(Generic[T]):
    """Jobs that threads take one by one."""

    def __init__(self, jobs: Sequence[Callable[[], T]]) -> None:
        self._jobs = jobs
        self._next = itertools.count()
        self._results: dict[int, T] = {}
        self._errors: dict[int, BaseException] = {}
        self._left = len(jobs)
        self._changed = threading.Condition()

    def work(self) -> None:
        """Does what nobody has begun."""
        while (i := next(self._next)) < len(self._jobs):
            try:
                if not any(failed < i for failed in list(self._errors)):
                    self._results[i] = self._jobs[i]()
            except BaseException as error:  # noqa: BLE001 - raised where results are asked for
                self._errors[i] = error
            with self._changed:
                self._left -= 1
                self._changed.notify()

    def results(self) -> list[T]:
        """Waits for those that others have begun."""
        with self._changed:
            self._changed.wait_for(lambda: not self._left)
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._results[i] for i in range(len(self._jobs))]
