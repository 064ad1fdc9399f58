"""Limits the share of time that repairs take, all tiers together."""

from __future__ import annotations


class RepairThrottle:
    """Demands a pause after each piece of repairs, in proportion to the time the piece took, so
    that repairs take no more than `share` of the time in the long run.

    The first tier begins no sweep during a pause; the tiers above only follow what it repairs.
    State: the pause lasts for _pause_ms from _paused_at_ms on. Not safe to share by threads.
    """

    def __init__(self, share: float = 0.25) -> None:
        """share: over 0, at most 1, where 1 means no pause."""
        self._pause_for_each_ms = 1 / share - 1
        self._paused_at_ms = self._pause_ms = 0

    def record(self, spent_ms: int, now_ms: int) -> None:
        """Notes that a piece of repairs has just ended that took spent_ms. What is left of an
        earlier pause is added to the new one.
        """
        past = now_ms - self._paused_at_ms
        left = self._pause_ms - past if 0 <= past < self._pause_ms else 0
        self._paused_at_ms = now_ms
        self._pause_ms = left + int(spent_ms * self._pause_for_each_ms)

    def is_paused(self, now_ms: int) -> bool:
        """Whether the pause lasts at now_ms. A clock that was set back ends it."""
        return 0 <= now_ms - self._paused_at_ms < self._pause_ms
