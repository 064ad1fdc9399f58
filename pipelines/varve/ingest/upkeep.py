"""What an ingest query does once an hour besides its batches: counts series, expires quarantine."""

from __future__ import annotations

import logging
from collections import Counter

from varve.ingest.active_series import Census, census
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
    """Of one query; several at once do no harm, one does the work."""

    def __init__(self, store: Store, active_ms: int, quarantine_ms: int, clock: Clock) -> None:
        """active_ms: as of varve.ingest.active_series. quarantine_ms: how long rejects are kept."""
        self._store, self._clock = store, clock
        self._active_ms, self._quarantine_ms = active_ms, quarantine_ms

    def count(self) -> Census:
        """Which series are active."""
        return census(self._store, self._active_ms)

    def expire(self) -> None:
        """Removes what is to be kept no longer, unless a rival is at it."""
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


def expire_quarantine(store: Store, before_ms: int) -> Counter[str]:
    """Removes files of quarantine all of whose rows were refused before a time; whether they wait
    for a replay or not. Returns the samples removed, by reason.

    Nothing is removed while a batch or a replay owes quarantine a commit. Raises Conflict if a
    rival has removed one of the files.
    """
    table = Table(store, "quarantine", files=True)
    expired = [f for f in live_files(table) if f.maximum.get("rejected_at", before_ms) < before_ms]
    if not expired or _owed(store, table):
        return Counter()
    counts = _counted(store, table.version, expired)
    removals = [Removal(f.path, f.size, rows_disappear=True) for f in expired]
    rewrite(table, [], removals, metadata={"expired": counts, "before_ms": before_ms})
    return counts


def _owed(store: Store, quarantine: Table) -> bool:
    settled = quarantine.positions()
    return any(
        version > settled.get(name, -1)
        for name, version in Table(store, "samples").positions().items()
        if name.startswith((positions.REJECTS, positions.REPLAY))
    )


def _counted(store: Store, version: int, files: list[LiveFile]) -> Counter[str]:
    snapshot = Snapshot(store, "quarantine", version, tuple(files))
    rows = snapshot.scan(Bounds(), ["reason", "samples"])
    sums = rows.group_by("reason").aggregate([("samples", "sum")]).to_pylist()
    return Counter({row["reason"]: row["samples_sum"] for row in sums})
