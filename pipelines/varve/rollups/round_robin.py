"""Which tier works next: one job serves all tiers, one commit at a time."""

from __future__ import annotations

from collections.abc import Sequence

from varve.rollups.tier import PlannedCommit, TierWorker


class RoundRobin:
    """Rounds in which every tier may close windows, the finest first, and then one tier makes one
    commit of repairs, another tier each round.

    So no close waits for more than one commit of repairs, the backlog of one tier does not hold up
    the others, and repairs still come along while closing falls behind.
    """

    def __init__(self, workers: Sequence[TierWorker]) -> None:
        self._workers = workers
        self._next_to_close = 0
        """Index of the tier that may close next; those before it had their turn in this round."""
        self._next_to_repair = 0
        """Index of the tier that is asked first for repairs at the end of this round."""
        self._more_to_close = False
        """Whether a tier that closed in this round had more to close."""

    def next(self) -> tuple[TierWorker, PlannedCommit] | None:
        """The next commit and its tier, to be done before the next call; None if there is nothing
        to do now.
        """
        while True:
            while self._next_to_close < len(self._workers):
                worker = self._workers[self._next_to_close]
                self._next_to_close += 1
                planned = worker.plan_close()
                if planned is not None:
                    self._more_to_close |= planned.more
                    return worker, planned
            goes_on, self._more_to_close, self._next_to_close = self._more_to_close, False, 0
            for _ in self._workers:
                worker = self._workers[self._next_to_repair]
                self._next_to_repair = (self._next_to_repair + 1) % len(self._workers)
                planned = worker.plan_repair()
                if planned is not None:
                    return worker, planned
            if not goes_on:
                return None
