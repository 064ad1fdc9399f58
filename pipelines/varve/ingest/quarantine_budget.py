"""How much of its rejects an ingest query keeps: less while there are many.

Quarantine has a bound in bytes, beyond which its oldest files go. Without a budget a flood of
rejects would drive out whatever was there before within minutes, and files that have gone stay on
the disk for some hours. So a query spends a part of the bound at once, then so much as comes in
over time; what is beyond is counted, with the offsets to read it again from Kafka.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

BURST = 8
"""A query may write this part of the bound at once: an eighth. There are two queries."""

REFILL = 2
"""A query may write this part of the bound in REFILL_MS on end: a half."""

REFILL_MS = 12 * 3_600_000
"""As long as files that have gone stay on the disk: so there is at most twice the bound there, and
what the queries may write at once.
"""


class QuarantineBudget:
    """The budget of one query: a bucket of bytes that fills with time."""

    def __init__(self, query: str, bound_bytes: int, written_bytes: int, now_ms: int) -> None:
        """bound_bytes: of quarantine. written_bytes: how much of quarantine was written so lately
        that it counts, see `counts_since_ms`.
        """
        self._query = query
        self._most = bound_bytes / BURST
        self._per_ms = bound_bytes / REFILL / REFILL_MS
        self._left = max(0.0, self._most - written_bytes)
        self._at_ms = now_ms
        self._is_short = False

    @staticmethod
    def counts_since_ms(now_ms: int) -> int:
        """From when on what was written counts at a start: before that the bucket has filled."""
        return now_ms - REFILL_MS * REFILL // BURST

    def per_partition(self, most: int, partitions: int, now_ms: int) -> int:
        """How many bytes of rejects a batch keeps of each of its partitions: `most` of them while
        there is enough. now_ms: of a clock that may step back; it fills nothing then.
        """
        self._left = min(self._most, self._left + max(0, now_ms - self._at_ms) * self._per_ms)
        self._at_ms = now_ms
        # Large rejects are kept up to as much again.
        share = max(0, int(self._left / 2 / max(1, partitions)))
        self._say(is_short=share < most and self._left < self._most)
        return min(most, share)

    def spend(self, written_bytes: int) -> None:
        """Takes what a batch has written out of the budget, which may be more than is left."""
        self._left -= written_bytes

    def _say(self, *, is_short: bool) -> None:
        if is_short and not self._is_short:
            log.warning(
                "%s: so much is refused that quarantine keeps less of it than"
                " ingest.reject_bytes, and the rest as a number with its offsets"
                " (retention.quarantine_bytes)",
                self._query,
            )
        elif self._is_short and not is_short:
            log.info("%s: quarantine keeps all of ingest.reject_bytes again", self._query)
        self._is_short = is_short
