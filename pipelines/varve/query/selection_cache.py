"""Selections of series that queries have made, remembered within a bound of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from varve.promql.syntax.ast import Matcher
from varve.query.memory import SELECTIONS, MemoryBudget

# A quarter of what a service may hold: dashboards ask for the same series again and again.
_SHARE = 4

Key = tuple[tuple[Matcher, ...], bytes | None]
"""Matchers, and the token of the series they select from."""


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


S = TypeVar("S", bound=Sized)


class SelectionCache(Generic[S]):
    """The least recently used selections go first. Safe to use from many threads.

    Selections belong to one index, whose number is its generation. Those of an index that has been
    replaced are dropped, unless they are the same in the next one.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._max_bytes = budget.max_bytes // _SHARE
        self._generation = 0
        self._held: OrderedDict[Key, S] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        budget.add_cache(self._shrink)

    def replace_index(self, is_unchanged: Callable[[Key], bool] | None = None) -> int:
        """Drops what is not the same for the index that comes; everything without `is_unchanged`.
        Returns the generation of that index.
        """
        with self._lock:
            keys = list(self._held)
        same = {key for key in keys if is_unchanged is not None and is_unchanged(key)}
        with self._lock:
            self._generation += 1
            gone = [self._held.pop(key).nbytes for key in list(self._held) if key not in same]
            self._bytes -= sum(gone)
            self._budget.add(SELECTIONS, -sum(gone))
            return self._generation

    def get(self, generation: int, key: Key) -> S | None:
        with self._lock:
            if generation != self._generation or key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key]

    def put(self, generation: int, key: Key, found: S) -> S:
        """Remembers a selection, unless it alone is over the bound. Returns the one to use: the one
        that is remembered already, so that queries share what they derive from it.
        """
        with self._lock:
            if generation != self._generation or found.nbytes > self._max_bytes:
                return found
            if key not in self._held:
                self._drop(self._bytes + found.nbytes - self._max_bytes)
                self._held[key] = found
                self._bytes += found.nbytes
                self._budget.add(SELECTIONS, found.nbytes)
            return self._held[key]

    def _shrink(self, nbytes: int) -> int:
        with self._lock:
            return self._drop(nbytes)

    def _drop(self, nbytes: int) -> int:
        freed = 0
        while freed < nbytes and self._held:
            _, gone = self._held.popitem(last=False)
            freed += gone.nbytes
        self._bytes -= freed
        self._budget.add(SELECTIONS, -freed)
        return freed
