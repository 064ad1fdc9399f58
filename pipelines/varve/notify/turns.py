"""Whose turn it is to tell: the first of those who see each other, the others after a while."""

from __future__ import annotations

from typing import Protocol


class Turns(Protocol):
    def wait_ms(self, now_ms: int) -> int | None:
        """How long after a look at a group this notifier waits for others to tell it; 0 if it is
        the first. None while it does not know yet.
        """
        ...


class Alone:
    """There is nobody else."""

    def wait_ms(self, now_ms: int) -> int:  # noqa: ARG002 - of the protocol
        return 0
