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

    def succeeded(self) -> None:
        self.failures, self.open_until_ms, self.probing = 0, 0, False

    def failed(self, now_ms: int) -> None:
        self.failures += 1
        self.probing = False
        if self.is_open:
            pause_ms = FIRST_PAUSE_MS << min(self.failures - FAILURES_TO_OPEN, 8)
            self.open_until_ms = now_ms + min(pause_ms, LONGEST_PAUSE_MS)


def backoff_ms(attempts: int, chance: random.Random) -> int:
    """How long to wait after so many attempts: it doubles from one to the next, up to a fifth less
    by chance, so that few coincide.
    """
    longest = min(LONGEST_RETRY_MS, FIRST_RETRY_MS << min(attempts - 1, 10))
    return round(longest * chance.uniform(0.8, 1.0))
