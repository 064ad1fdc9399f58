"""What an ingest query does once an hour besides its batches: counts series, expires quarantine."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

from varve.ingest.active_series import census
from varve.ingest.plan import IngestPlan
from varve.ingest.series_registry import SeriesRegistry
from varve.model.clock import Clock
from varve.model.errors import Conflict
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

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
        self._store, self._registry, self._clock = plan.store, registry, clock
        self._active_ms, self._quarantine_ms = plan.active_ms, plan.quarantine_retention_ms

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
        self._registry.offer(census(self._store, self._active_ms))

    def expire(self) -> None:
        """Removes quarantine that is to be kept no longer, unless a rival is removing it or the
        clock is not believed.
        """
        if not self._is_believed():
            return
        try:
            expired = expire_quarantine(self._store, self._clock.now_ms() - self._quarantine_ms)
        except Conflict as err:
            log.info("quarantine: expiry is left to the next hour: %s", err)
        else:
            if expired:
                log.info(
                    "quarantine: %d expired samples removed (%s)",
                    expired.total(),
                    ", ".join(f"{n} {reason}" for reason, n in expired.most_common()),
                )

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("upkeep failed and is tried again in an hour")


def expire_quarantine(store: Store, before_ms: int) -> Counter[str]:
    """Removes files of quarantine all of whose rows were refused before a time, whether they wait
    for a replay or not. Returns the number of samples removed, by reason.

    Nothing is removed while a batch or a replay owes quarantine a commit. Raises Conflict if a
    rival has removed one of the files.
    """
    table = Table(store, "quarantine", files=True)
    expired = [f for f in live_files(table) if f.maximum.get("rejected_at", before_ms) < before_ms]
    if not expired or is_owed(store, table):
        return Counter()
    counts = _counted(store, table.version, expired)
    removals = [Removal(f.path, f.size, rows_disappear=True) for f in expired]
    rewrite(table, [], removals, metadata={"expired": counts, "before_ms": before_ms})
    return counts


def is_owed(store: Store, quarantine: Table) -> bool:
    """Whether a commit of samples has one of quarantine to follow it that is not there yet."""
    done = quarantine.positions()
    return any(
        version > done.get(name, -1)
        for name, version in Table(store, "samples").positions().items()
        if name.startswith((positions.REJECTS, positions.REPLAY))
    )


def _counted(store: Store, version: int, files: list[LiveFile]) -> Counter[str]:
    snapshot = Snapshot(store, "quarantine", version, tuple(files))
    rows = snapshot.scan(Bounds(), ["reason", "samples"])
    sums = rows.group_by("reason").aggregate([("samples", "sum")]).to_pylist()
    return Counter({row["reason"]: row["samples_sum"] for row in sums})
