"""One budget for the memory of a query service: its index, its caches, the queries under way."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from varve.promql.errors import LimitError

INDEX: Final = "index"
HEAD: Final = "head"
ROW_GROUPS: Final = "row_groups"
SELECTIONS: Final = "selections"
STEPS: Final = "steps"
QUERIES: Final = "queries"
USES: Final = (INDEX, HEAD, ROW_GROUPS, SELECTIONS, STEPS, QUERIES)
"""What memory is counted for. The index and the head are held in any case; row groups, remembered
selections and steps make room when queries need it."""

_HELD_IN_ANY_CASE: Final = (INDEX, HEAD, QUERIES)

UNBOUNDED: Final = 1 << 62
"""For whoever evaluates in a process of its own: more than any machine has."""


class MemoryBudget:
    """Bytes that are held, by use, and how many there may be. Safe to use from any thread.

    Holders count what they hold with `add`. Queries ask first, with a `Reservation`: what does not
    fit, even with empty caches, is refused.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._used: Counter[str] = Counter()
        self._caches: list[Callable[[int], int]] = []
        self._lock = threading.Lock()

    @property
    def used(self) -> Mapping[str, int]:
        """Bytes by use."""
        with self._lock:
            return {use: self._used[use] for use in USES}

    def add(self, use: str, nbytes: int) -> None:
        """Counts bytes that are held from now on, or no longer if it is negative."""
        with self._lock:
            self._used[use] += nbytes

    def add_cache(self, shrink: Callable[[int], int]) -> None:
        """Registers a cache. `shrink` frees at least so many bytes if it can, counts them with
        `add`, and returns how many it freed. It must not ask for memory itself.
        """
        self._caches.append(shrink)

    def reserve(self, nbytes: int) -> None:
        """Counts bytes for a query. LimitError if they do not fit, even with empty caches; these
        are left as they are then.
        """
        missing = self._try_reserve(nbytes)
        if missing > 0 and nbytes <= self._free_at_most():
            for shrink in self._caches:
                if missing > 0:
                    shrink(missing)
                    missing = self._try_reserve(nbytes)
        if missing > 0:
            raise LimitError(
                f"the query needs {_mib(nbytes)} more where {_mib(self._free_at_most())} are free"
                f" of query.memory_mb = {self.max_bytes >> 20:,}: ask for less, or not for so much"
                " at once"
            )

    def _free_at_most(self) -> int:
        """Bytes that are free once the caches are empty."""
        with self._lock:
            return self.max_bytes - sum(self._used[use] for use in _HELD_IN_ANY_CASE)

    def _try_reserve(self, nbytes: int) -> int:
        """How many bytes are missing; 0 if they fitted in and are counted now."""
        with self._lock:
            missing = self._used.total() + nbytes - self.max_bytes
            if missing > 0:
                return missing
            self._used[QUERIES] += nbytes
            return 0


class Reservation:
    """What one query holds of a budget; all of it is given back at its end.

    Safe to use from any thread. Without a budget nothing is counted and all is allowed.
    """

    def __init__(self, budget: MemoryBudget | None = None) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._nbytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def take(self, nbytes: int) -> None:
        """Asks for bytes before they are allocated. LimitError if they do not fit."""
        if self._budget is not None:
            self._budget.reserve(nbytes)
        with self._lock:
            self._nbytes += nbytes

    def give_back(self, nbytes: int) -> None:
        """Says that bytes taken before are no longer held."""
        with self._lock:
            self._nbytes -= nbytes
        if self._budget is not None:
            self._budget.add(QUERIES, -nbytes)

    def release(self) -> None:
        """Gives everything back. Safe to repeat."""
        with self._lock:
            nbytes, self._nbytes = self._nbytes, 0
        if self._budget is not None:
            self._budget.add(QUERIES, -nbytes)


def _mib(nbytes: int) -> str:
    return f"{max(0, nbytes) / 2**20:,.1f} MiB"
