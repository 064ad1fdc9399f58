"""What an ingest query does once an hour besides its batches: counts series, expires quarantine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from varve.ingest.active_series import census
from varve.ingest.plan import IngestPlan
from varve.ingest.quarantine_expiry import expire_quarantine
from varve.ingest.series_registry import SeriesRegistry
from varve.model.clock import Clock
from varve.model.errors import Conflict
from varve.model.window import DAY_MS

log = logging.getLogger(__name__)

EVERY_S = 3_600.0


class Upkeep:
    """The hourly work of one query; several at once do no harm, one of them does the work."""

    def __init__(
        self,
        plan: IngestPlan,
        registry: SeriesRegistry,
        clock: Clock,
        is_believed: Callable[[], bool] = lambda: True,
    ) -> None:
        """registry: is offered each census. is_believed: whether the clock may be believed: by one
        that is ahead, everything in quarantine would be old.
        """
        self._is_believed = is_believed
        self._plan, self._registry, self._clock = plan, registry, clock

    def run(self, stopping: threading.Event) -> None:
        """Works until `stopping` is set. What fails is logged and tried again an hour later: none
        of it is worth an ingest that stands still.
        """
        self._attempt(self.expire)
        while not stopping.wait(EVERY_S):
            self._attempt(self.count)
            self._attempt(self.expire)

    def count(self) -> None:
        """Offers the registry a new census."""
        self._registry.offer(census(self._plan.store, self._plan.active_ms))

    def expire(self) -> None:
        """Removes quarantine that is to be kept no longer and what is beyond its bound, unless a
        rival is removing it. Nothing is too old while the clock is not believed.
        """
        plan = self._plan
        oldest_ms = self._clock.now_ms() - plan.quarantine_retention_ms
        before_ms = oldest_ms if self._is_believed() else None
        try:
            expired = expire_quarantine(plan.store, before_ms, plan.quarantine_bytes)
        except Conflict as err:
            log.info("quarantine: expiry is left to the next hour: %s", err)
            return
        for cause, counts in (
            (f"{plan.quarantine_retention_ms / DAY_MS:g} days", expired.by_age),
            (f"{plan.quarantine_bytes:,} bytes", expired.by_size),
        ):
            if counts:
                log.info(
                    "quarantine: %d samples beyond %s removed (%s)",
                    *(counts.total(), cause),
                    ", ".join(f"{n} {reason}" for reason, n in counts.most_common()),
                )
        if plan.on_expiry and expired.total():
            plan.on_expiry(expired)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("upkeep failed and is tried again in an hour")
