"""A circuit breaker: a receiver that fails again and again is left alone for a while."""

from __future__ import annotations

import random
from dataclasses import dataclass

FAILURES_TO_OPEN = 5
"""So many failures in a row open the circuit."""
FIRST_PAUSE_MS = 5_000
LONGEST_PAUSE_MS = 30_000
FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 30_000


@dataclass(slots=True)
class Circuit:
    """Closed: everything is tried. Open: nothing is until `open_until_ms`, then one attempt."""

    failures: int = 0
    open_until_ms: int = 0
    probing: bool = False
    failing_since_ms: int | None = None
    """Since when nothing was taken; None while the last attempt was."""
    tried_ms: int = 0
    """When the last attempt was over."""
    taken_ms: int = 0
    """When something was taken last."""

    @property
    def is_open(self) -> bool:
        return self.failures >= FAILURES_TO_OPEN

    def wait_ms(self, now_ms: int) -> int:
        """How long an attempt has to wait; 0 if it may be made now."""
        if not self.is_open:
            return 0
        if now_ms < self.open_until_ms:
            return self.open_until_ms - now_ms
        return FIRST_PAUSE_MS if self.probing else 0

    def attempted(self) -> None:
        """An attempt is being made."""
        self.probing = self.is_open

    def taken(self, now_ms: int) -> None:
        """A message was taken."""
        self._answered(now_ms)
        self.failing_since_ms, self.taken_ms = None, now_ms

    def refused(self, now_ms: int) -> None:
        """A message was refused for good by a receiver that answers."""
        self._answered(now_ms)
        self._not_taken(now_ms)

    def failed(self, now_ms: int) -> None:
        """An attempt failed that may be made again."""
        self._not_taken(now_ms)
        self.failures += 1
        self.probing = False
        if self.is_open:
            pause_ms = FIRST_PAUSE_MS << min(self.failures - FAILURES_TO_OPEN, 8)
            self.open_until_ms = now_ms + min(pause_ms, LONGEST_PAUSE_MS)

    def _answered(self, now_ms: int) -> None:
        self.failures, self.open_until_ms, self.probing = 0, 0, False
        self.tried_ms = now_ms

    def _not_taken(self, now_ms: int) -> None:
        self.tried_ms = now_ms
        if self.failing_since_ms is None:
            self.failing_since_ms = now_ms


def backoff_ms(attempts: int, chance: random.Random) -> int:
    """How long to wait after so many attempts: it doubles from one to the next, up to a fifth less
    by chance, so that few coincide.
    """
    longest = min(LONGEST_RETRY_MS, FIRST_RETRY_MS << min(attempts - 1, 10))
    return round(longest * chance.uniform(0.8, 1.0))
