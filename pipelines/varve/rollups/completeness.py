"""How complete each tier is, read from the tables alone: for status, answers and alerts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from varve.model.window import TIERS, Tier, Window, floor_to, window_end
from varve.rollups import time_ranges
from varve.rollups.late_rows import computed_since, find_late_windows
from varve.storage import positions
from varve.storage.snapshot import Follower, Snapshot
from varve.storage.store import Store


@dataclass(frozen=True, slots=True)
class TierCompleteness:
    """How complete a tier is, as of one version of its table and a later one of each table below.

    Rows up to frontier_ms are equal to a recomputation from the samples, except those in `pending`.
    """

    tier: Tier
    version: int
    """Version of the tier's table."""
    frontier_ms: int | None
    """End of the last closed window; None if none has been closed."""
    pending: tuple[Window, ...]
    """Ranges up to the frontier where late rows wait for their repair, here or in a tier below."""
    late_windows: int
    """Windows to repair in this tier, each of one series; whole ranges are not counted."""
    repaired_to: int | None
    """Version of the table below up to which all late rows are repaired."""
    expired_until_ms: int | None
    """Windows up to here have no rows if they were closed only after their samples had expired."""

    def complete_until(self, start_ms: int, end_ms: int) -> int:
        """Greatest time t such that (start_ms, t] is complete; at least start_ms, at most end_ms.

        It is the frontier, or the start of the first pending range before it.
        """
        if self.frontier_ms is None:
            return start_ms
        starts = (w.start_ms for w in self.pending if w.end_ms > start_ms)
        return max(min(end_ms, self.frontier_ms, *starts), start_ms)


class CompletenessReader:
    """Follows all tiers. A refresh reads the log entries since the last one, and the keys of files
    with late rows. Not safe to share by threads.
    """

    def __init__(self, store: Store) -> None:
        """Raises NeedsOperator if a table is missing."""
        self._store = store
        self._samples = Follower(store, "samples")
        self._tables = {tier.name: Follower(store, tier.table) for tier in TIERS}

    @property
    def positions(self) -> Mapping[str, int]:
        """Positions of the table samples: `complete:` of each ingest query among them."""
        return self._samples.table.positions()

    def refresh(self) -> list[TierCompleteness]:
        """The tiers as of now, the finest first."""
        return self.refresh_with_snapshots()[0]

    def refresh_with_snapshots(self) -> tuple[list[TierCompleteness], dict[str, Snapshot]]:
        """Also returns the snapshots by table. Each is newer than those of the tiers above it."""
        for tier in reversed(TIERS):
            self._tables[tier.name].refresh()
        self._samples.refresh()
        tiers: list[TierCompleteness] = []
        source = self._samples
        pending_below: tuple[Window, ...] = ()
        for tier in TIERS:
            found = self._completeness(tier, source, pending_below)
            tiers.append(found)
            source, pending_below = self._tables[tier.name], found.pending
        snapshots = [self._samples.snapshot, *(f.snapshot for f in self._tables.values())]
        return tiers, {s.table: s for s in snapshots}

    def _completeness(
        self, tier: Tier, source: Follower, pending_below: tuple[Window, ...]
    ) -> TierCompleteness:
        target = self._tables[tier.name]
        frontier = target.position(positions.frontier(tier.name))
        marked = target.position(positions.source(tier.name))
        pending: list[Window] = []
        late_windows = 0
        if frontier is not None:
            after = -1 if marked is None else marked
            computed = computed_since(self._store, tier, target.table.version, after)
            late = find_late_windows(self._store, tier, source.snapshot, after, frontier, computed)
            widened = [
                Window(floor_to(w.start_ms, tier.width_ms), window_end(w.end_ms, tier.width_ms))
                for w in pending_below
            ]
            pending = time_ranges.union([*late.ranges(tier.width_ms), *widened])
            first = min((w.start_ms for w in pending), default=frontier)
            expired = source.position(positions.expired())
            if expired is not None:
                # Windows that start before it keep their row.
                first = max(first, window_end(expired, tier.width_ms))
            pending = time_ranges.clip(pending, Window(first, frontier)) if first < frontier else []
            late_windows = int(time_ranges.within(late.keys[:, 1], pending).sum())
        return TierCompleteness(
            tier,
            target.table.version,
            frontier,
            tuple(pending),
            late_windows,
            marked,
            target.position(positions.expired()),
        )
