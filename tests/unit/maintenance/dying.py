"""Dies at a commit: before it is written, or right after."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from varve.storage.table import Table


class Killed(BaseException):
    """What nothing in the code catches, as it catches no kill -9."""


@contextlib.contextmanager
def dying(*, written: bool) -> Iterator[None]:
    """The process dies at its next commit, in whatever table."""
    write = Table.write_next

    def dies(self: Table, *args: object, **given: object) -> bool:
        if written:
            assert write(self, *args, **given)
        raise Killed

    Table.write_next = dies  # type: ignore[method-assign]
    try:
        yield
    finally:
        Table.write_next = write  # type: ignore[method-assign]


def deaths(work: Callable[[], object]) -> Iterator[None]:
    """Does some work again and again, and dies before its first commit, then right after it, until
    it has none to make: so it dies around each of them. Yields after each death.
    """
    while True:
        for written in (False, True):
            try:
                with dying(written=written):
                    work()
            except Killed:
                yield
            else:
                return
