"""What repairs may take of the time, all tiers together."""

from __future__ import annotations


class Pace:
    """Whoever has worked on repairs rests in proportion, so that over time they take no more than
    `share` of it. The first tier's sweeps keep to it: those above only follow what it repairs.

    Not safe to share by threads.
    """

    def __init__(self, share: float = 0.25) -> None:
        """share: over 0, at most 1. 1: no rest."""
        self._rest_for_each_ms = 1 / share - 1
        self._from_ms = self._for_ms = 0

    def worked(self, spent_ms: int, now_ms: int) -> None:
        """A piece of repairs has just ended that took spent_ms."""
        past = now_ms - self._from_ms
        left = self._for_ms - past if 0 <= past < self._for_ms else 0
        self._from_ms, self._for_ms = now_ms, left + int(spent_ms * self._rest_for_each_ms)

    def rests(self, now_ms: int) -> bool:
        """A clock that was set back ends the rest."""
        return 0 <= now_ms - self._from_ms < self._for_ms
