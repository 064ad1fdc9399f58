"""How the newest timestamp of Kafka's messages moves: as a clock does, or as a backfill.

Producers that are at work stamp their messages with the time, so the newest one moves by a second a
second. What a backfill or a mirror sends stands still, or runs through the past.
"""

from __future__ import annotations

from enum import Enum

WINDOW_MS = 300_000
"""How long each measurement takes. Five minutes: several messages even of producers that report
once a minute."""


class Pace(Enum):
    """How far the newest timestamp moved in a window."""

    STILL = "still"
    """Less than half of the window."""
    CLOCK = "clock"
    """As far as a clock, within a factor of two."""
    FAST = "fast"
    """Further. After silence it may be the first message of producers that are at work again."""


class MessagePace:
    """Measures one window after the other."""

    def __init__(self, now_ms: int, newest_ms: int) -> None:
        """newest_ms: the newest timestamp so far."""
        self._begun_ms, self._newest_ms = now_ms, newest_ms
        self._before = self._last = Pace.STILL

    @property
    def is_settled(self) -> bool:
        """Whether the last window tells that nobody produces by a clock."""
        return self._last is Pace.STILL or (self._last, self._before) == (Pace.FAST, Pace.FAST)

    def observe(self, now_ms: int, newest_ms: int) -> Pace | None:
        """Takes a look at the newest timestamp. Returns the pace of a window that has ended."""
        passed_ms, moved_ms = now_ms - self._begun_ms, newest_ms - self._newest_ms
        if passed_ms < WINDOW_MS:
            return None
        pace = Pace.FAST
        if moved_ms <= 2 * passed_ms:
            pace = Pace.CLOCK if 2 * moved_ms >= passed_ms else Pace.STILL
        self._begun_ms, self._newest_ms = now_ms, newest_ms
        self._before, self._last = self._last, pace
        return pace
