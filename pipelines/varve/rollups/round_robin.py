"""Which tier works next: one job serves all tiers, one commit at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from varve.rollups.tier import TierWorker
from varve.rollups.tier_health import TierHealth
from varve.rollups.tier_plan import PlannedCommit


class RoundRobin:
    """Rounds in which every tier may close windows, the finest first, and then one tier makes one
    commit of repairs, another tier each round.

    So no close waits for more than one commit of repairs, the backlog of one tier does not hold up
    the others, and repairs still come along while closing falls behind. A tier that fails is left
    out until it may be tried again.
    """

    def __init__(
        self, workers: Sequence[TierWorker], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers = workers
        self._health = {w.tier.name: TierHealth(w.tier.name, now_s) for w in workers}
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
                planned = self._plan(worker, worker.plan_close)
                if planned is not None:
                    self._more_to_close |= planned.more
                    return worker, planned
            goes_on, self._more_to_close, self._next_to_close = self._more_to_close, False, 0
            for _ in self._workers:
                worker = self._workers[self._next_to_repair]
                self._next_to_repair = (self._next_to_repair + 1) % len(self._workers)
                may_be_tried = self._health[worker.tier.name].may_be_tried
                planned = self._plan(worker, worker.plan_repair)
                if planned is not None:
                    return worker, planned
                if may_be_tried and self._health[worker.tier.name].may_be_tried:
                    self.succeeded(worker)  # there is nothing to do
            if not goes_on:
                return None

    def failed(self, worker: TierWorker, error: Exception) -> None:
        """Leaves a tier out for a while. What was planned for it is forgotten."""
        worker.forget()
        self._health[worker.tier.name].failed(error)

    def succeeded(self, worker: TierWorker) -> None:
        """Notes that all is well with a tier: its planned commit was made."""
        self._health[worker.tier.name].succeeded()

    def failure(self, worker: TierWorker) -> str:
        """Why a tier failed when it was tried last; empty if it did not."""
        return self._health[worker.tier.name].failure

    def _plan(
        self, worker: TierWorker, plan: Callable[[], PlannedCommit | None]
    ) -> PlannedCommit | None:
        if not self._health[worker.tier.name].may_be_tried:
            return None
        try:
            return plan()
        except Exception as err:  # noqa: BLE001 - whatever it is, the other tiers can go on
            self.failed(worker, err)
            return None
