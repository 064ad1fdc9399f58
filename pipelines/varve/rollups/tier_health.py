"""When a tier that has failed is tried again. The others go on meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# Seconds until a tier is tried again: twice as long after each further failure in a row.
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0


class TierHealth:
    """Failures in a row of one tier. What is outside may come back at any time, so it never gives
    up. Not safe to share by threads.
    """

    def __init__(self, tier: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._tier = tier
        self._now_s = now_s
        self._retry_s = FIRST_RETRY_S
        self._retry_at_s = now_s()
        self.failure = ""
        """Why the tier failed when it was tried last; empty if it did not."""

    @property
    def may_be_tried(self) -> bool:
        return not self.failure or self._now_s() >= self._retry_at_s

    def failed(self, error: Exception) -> None:
        """Notes a failure. The first of a kind is logged with its stack trace."""
        told = f"{type(error).__name__}: {error}"
        is_new = told != self.failure
        if not self.failure:
            self._retry_s = FIRST_RETRY_S
        self.failure = told
        self._retry_at_s = self._now_s() + self._retry_s
        log.error(
            "tier %s failed and is tried again in %.0f s: %s",
            *(self._tier, self._retry_s, told),
            exc_info=error if is_new else None,
        )
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def succeeded(self) -> None:
        """Notes that the tier could be worked on."""
        if self.failure:
            log.warning("tier %s works again", self._tier)
        self.failure = ""
