"""Whose turn it is: one job works for all tiers, a commit at a time."""

from __future__ import annotations

from collections.abc import Sequence

from varve.rollups.tier import TierWorker, Work


class Turns:
    """Rounds: every tier closes, the finest first, then one tier repairs, another each round. So
    no close waits for more than one repair, the backlog of one tier does not hold up the others,
    and while closing falls behind, repairs still come along.
    """

    def __init__(self, workers: Sequence[TierWorker]) -> None:
        self._workers = workers
        self._closed = 0
        """How many have had their turn to close in this round."""
        self._repairs_next = 0
        self._more = False

    def next(self) -> tuple[TierWorker, Work] | None:
        """The next piece of work, to be done before the next call; None if there is none now."""
        while True:
            while self._closed < len(self._workers):
                worker = self._workers[self._closed]
                self._closed += 1
                work = worker.plan_close()
                if work is not None:
                    self._more |= work.more
                    return worker, work
            has_more, self._more, self._closed = self._more, False, 0
            for _ in self._workers:
                worker = self._workers[self._repairs_next]
                self._repairs_next = (self._repairs_next + 1) % len(self._workers)
                work = worker.plan_repair()
                if work is not None:
                    return worker, work
            if not has_more:
                return None
