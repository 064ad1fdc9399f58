"""Series that have samples in quarantine and wait for their definition."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from varve.ingest.outcome import Outcome
from varve.ingest.plan import TaskPlan
from varve.ingest.quarantine_replay import Selection, awaited, replay
from varve.ingest.reject_reasons import Reason
from varve.ingest.replayed import Replayed
from varve.ingest.series_id_index import SeriesKey
from varve.ingest.series_registry import SeriesRegistry
from varve.storage.store import Store

log = logging.getLogger(__name__)

# Beyond so many, definitions are waited for by jobs/replay_quarantine.py alone.
_MOST = 100_000


class AwaitedSeries:
    """The awaited series of one query. Replays their samples once the definition has come."""

    def __init__(self, store: Store, query: str) -> None:
        """Reads which series the quarantine waits for."""
        self._since: dict[SeriesKey, int] = awaited(store, query)
        self._looked_at = -1

    def __len__(self) -> int:
        return len(self._since)

    def add(self, outcomes: Iterable[Outcome], refused_ms: int) -> None:
        """Notes the series without a definition of a batch. refused_ms: when it refused them."""
        if len(self._since) >= _MOST:
            return
        for outcome in outcomes:
            for key in outcome.undefined:
                # A clock may be set back.
                self._since[key] = min(self._since.get(key, refused_ms), refused_ms)

    def defined(self, registry: SeriesRegistry) -> bool:
        """Whether the definition of one of them has come since this was asked last."""
        if not self._since or registry.index.version == self._looked_at:
            return False
        self._looked_at = registry.index.version
        return len(registry.unknown_among(self._since)) < len(self._since)

    def replay(self, plan: TaskPlan, registry: SeriesRegistry) -> Replayed:
        """Stores the samples whose definition has come; returns the counts of the replay."""
        # Older rows wait for nothing that has come: a large quarantine is not read for each.
        since_ms = min(self._since.values()) - 1
        selection = Selection(frozenset({Reason.UNKNOWN_SERIES}), since_ms)
        counts = replay(selection, plan, registry)
        log.info("replay of %s", Reason.UNKNOWN_SERIES.value, extra={"fields": counts.as_json()})
        left = registry.unknown_among(self._since)
        self._since = {key: since for key, since in self._since.items() if key in left}
        return counts
