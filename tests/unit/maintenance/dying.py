"""Dies at a commit: before it is written, or right after."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from varve.storage.table import Table


class Killed(BaseException):
    """What nothing in the code catches, as it catches no kill -9."""


@contextlib.contextmanager
def dying_at(commit: int, *, written: bool) -> Iterator[None]:
    """The process dies at its commit of this number, from 0, in whatever table."""
    write, seen = Table.write_next, [0]

    def dying(self: Table, *args: object, **given: object) -> bool:
        if seen[0] > commit:
            raise Killed
        dies, seen[0] = seen[0] == commit, seen[0] + 1
        if dies and not written:
            raise Killed
        won = write(self, *args, **given)
        if dies:
            raise Killed
        return won

    Table.write_next = dying  # type: ignore[method-assign]
    try:
        yield
    finally:
        Table.write_next = write  # type: ignore[method-assign]


def deaths(work: Callable[[], object]) -> Iterator[None]:
    """Does some work again and again, and dies one commit later each time, first before it and
    then after; ends with the time that it came through. Yields after each death.
    """
    for commit in range(1_000):
        for written in (False, True):
            try:
                with dying_at(commit, written=written):
                    work()
            except Killed:
                yield
            else:
                return
    raise AssertionError("it never comes through")
