"""Ends a query that takes too long or that nobody waits for any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from varve.promql.errors import QueryCanceledError, QueryTimeoutError

_ENVIRONMENT: Final = "query execution"

Check = Callable[[], None]
"""Raises QueryCanceledError or QueryTimeoutError if the query has to stop. It takes under a
microsecond, and all that a query does calls it at least every 250 ms: see tests/unit/promql/
test_interrupt.py."""

T = TypeVar("T")


def never() -> None:
    """The check of what cannot be interrupted."""


class Interrupt:
    """When a query has to stop: past its deadline, or once `cancelled` is set.

    deadline: in seconds of `monotonic`; None is none. give_way: called at each check; it may wait
    a little. It may be used from many threads.
    """

    def __init__(
        self,
        deadline: float | None = None,
        cancelled: threading.Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        give_way: Callable[[], None] = never,
    ) -> None:
        self._give_way = give_way
        self._deadline = deadline
        self._cancelled = cancelled
        self._monotonic = monotonic

    def check(self) -> None:
        """Raises QueryCanceledError or QueryTimeoutError if the query has to stop."""
        self._give_way()
        if self._cancelled is not None and self._cancelled.is_set():
            raise QueryCanceledError(f"query was canceled in {_ENVIRONMENT}")
        if self._deadline is not None and self._monotonic() > self._deadline:
            raise QueryTimeoutError


def sorted_with_checks(items: Sequence[Any], check: Check, run: int = 65_536) -> list[Any]:
    """The items in ascending order, with checks between so many; sorted runs merge fast."""
    runs: list[Any] = []
    for begin in range(0, len(items), run):
        check()
        runs += sorted(items[begin : begin + run])
    check()
    return sorted(runs) if len(items) > run else runs


def checked(items: Iterable[T], check: Check, every: int = 256) -> Iterator[T]:
    """The items, with a check before the first and then after each `every` of them."""
    for place, item in enumerate(items):
        if place % every == 0:
            check()
        yield item
