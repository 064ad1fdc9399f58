"""Dies at a commit, or loses the storage: before it is written, or right after."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from varve.storage.table import Table


class Killed(BaseException):
    """What nothing in the code catches, as it catches no kill -9."""


@contextlib.contextmanager
def dying(*, written: bool, error: type[BaseException] = Killed, at: int = 1) -> Iterator[None]:
    """The process dies of an error at its next commit, in whatever table; at: at the how many-th of
    its commits.
    """
    write, left = Table.write_next, at

    def dies(self: Table, *args: object, **given: object) -> bool:
        nonlocal left
        left -= 1
        if left:
            return write(self, *args, **given)
        if written:
            assert write(self, *args, **given)
        raise error

    Table.write_next = dies  # type: ignore[method-assign]
    try:
        yield
    finally:
        Table.write_next = write  # type: ignore[method-assign]


def deaths(work: Callable[[], object], error: type[BaseException] = Killed) -> Iterator[None]:
    """Does some work again and again, and dies before its first commit, then right after it, until
    it has none to make: so it dies around each of them. Yields after each death.
    """
    while True:
        for written in (False, True):
            try:
                with dying(written=written, error=error):
                    work()
            except error:
                yield
            else:
                return
