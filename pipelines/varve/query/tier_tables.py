"""Follows the rollup tables, and what of them still lacks late samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from varve.model.errors import NeedsOperator
from varve.model.window import TIERS, Tier, Window, floor_to, window_end
from varve.query.changes import Changes
from varve.query.file_table import FileTable
from varve.query.series_groups import marks_of
from varve.query.tier_view import TierView
from varve.rollups import time_ranges
from varve.rollups.late_ranges import LateRanges
from varve.storage import positions
from varve.storage.log import LogEntry
from varve.storage.snapshot import Follower, Snapshot
from varve.storage.store import Store


class TierTables:
    """The tables of all tiers, followed by one thread.

    A look goes from the widest tier down, and samples are read after it: what a tier's rows were
    computed from is in the table below it by then.
    """

    def __init__(self, store: Store) -> None:
        """Raises OSError if the storage cannot be reached. A table that is missing is looked for
        again at each look.
        """
        self._store = store
        self._followed: dict[str, _Followed] = {}
        self.views: tuple[TierView, ...] = ()
        """Of the tiers that have a closed window, the finest first; as of the last `apply`."""
        self.look()

    @property
    def versions(self) -> Mapping[str, int]:
        """By table, the version that `views` were made from."""
        return {name: version for view in self.views for name, version in view.versions.items()}

    def look(self) -> None:
        """Reads what was committed to the tables since the last look."""
        for tier in reversed(TIERS):
            followed = self._followed.get(tier.name)
            if followed is not None:
                followed.look()
                continue
            try:
                self._followed[tier.name] = _Followed(self._store, tier)
            except NeedsOperator:  # a home of a release without rollups: samples answer
                continue

    def apply(
        self, samples: Snapshot, entries: Sequence[LogEntry] | None, expired_ms: int | None
    ) -> bool:
        """Moves the views to what the last look saw, and to a version of samples.

        entries: what was committed to samples since the last call, None if that is not known.
        expired_ms: samples up to there may have been deleted. Returns whether a view has changed.
        """
        before = self.views
        source, below = samples, entries
        pending: Sequence[Window] = ()
        views = []
        for tier in TIERS:
            followed = self._followed.get(tier.name)
            if followed is None:
                break
            view = followed.view(source, below, pending, expired_ms)
            if view is None:
                break
            views.append(view)
            source, below, pending = followed.snapshot, followed.taken, view.pending
            expired_ms = followed.expired_ms
        self.views = tuple(views)
        return len(views) != len(before) or any(
            new is not old for new, old in zip(views, before, strict=True)
        )


class _Followed:
    """One tier's table."""

    def __init__(self, store: Store, tier: Tier) -> None:
        self._store = store
        self._tier = tier
        self._follower = Follower(store, tier.table)
        self._late: LateRanges | None = None
        self._own: list[LogEntry] | None = None
        """Commits since the last view; None if they are not known."""
        self.taken: list[LogEntry] | None = None
        """Commits that the last view took notice of, for the tier above."""
        self._view: TierView | None = None
        self._changes = Changes(self.snapshot.version)
        self._of: Snapshot | None = None
        """What the view was made of."""

    @property
    def snapshot(self) -> Snapshot:
        return self._follower.snapshot

    @property
    def expired_ms(self) -> int | None:
        return self._follower.position(positions.expired())

    def look(self) -> None:
        fresh = self._follower.follow()
        if fresh is None:
            self._own = self._late = None
            self._changes = Changes(self.snapshot.version)
            return
        if self._own is not None:
            self._own += fresh
        # What of time lost rows were about is not looked up: that is rare.
        commits = [(entry, None if entry.loses_rows else ()) for entry in fresh]
        self._changes = self._changes.extended(commits, "window_end", self._tier.width_ms)

    def view(
        self,
        source: Snapshot,
        below: Sequence[LogEntry] | None,
        pending_below: Sequence[Window],
        expired_ms: int | None,
    ) -> TierView | None:
        """The tier as of the last look and a version of the table below; None before its first
        window is closed. The same object if nothing of it has changed.
        """
        name = self._tier.name
        frontier = self._follower.position(positions.frontier(name))
        self.taken, own = self._own, self._own
        self._own = []
        if frontier is None:
            return None
        if self._late is None or own is None or below is None:
            self._late = LateRanges(self._store, self._tier)
            marked = self._follower.position(positions.source(name))
            self._late.start(source, marked, self.snapshot.version, frontier)
        elif own or below:
            self._late.advance(source, below, own, frontier)
        made = tier_view(
            self._tier,
            self.snapshot,
            frontier,
            self._late,
            pending_below,
            expired_ms,
            self._follower.table.positions(),
        )
        known = self._view
        # Files may come and go in colder roots while the version stays.
        if known is None or self._of is not self.snapshot or known.pending != made.pending:
            self._view, self._of = replace(made, changes=self._changes), self.snapshot
        return self._view


def tier_view(
    tier: Tier,
    snapshot: Snapshot,
    frontier_ms: int,
    late: LateRanges,
    pending_below: Sequence[Window],
    expired_ms: int | None,
    held: Mapping[str, int],
) -> TierView:
    """A tier as of one version of its table, and of the one below that `late` was moved to.

    expired_ms: rows of the table below up to there may have been deleted or never made. held: the
    positions of the tier's own table, which say the same of it: coarser tiers answer before that.
    """
    refused_until_ms = held.get(positions.expired())
    width = tier.width_ms
    wide = [Window(floor_to(w.start_ms, width), window_end(w.end_ms, width)) for w in pending_below]
    pending = time_ranges.union([*late.before(frontier_ms), *wide])
    # Windows that begin before the samples that are left keep their row.
    first = min((w.start_ms for w in pending), default=frontier_ms)
    if expired_ms is not None:
        first = max(first, window_end(expired_ms, width))
    inside = Window(first, frontier_ms) if first < frontier_ms else None
    pending = [] if inside is None else time_ranges.clip(pending, inside)
    files = FileTable(snapshot.files, "window_end")
    return TierView(
        tier,
        snapshot.versions,
        files,
        frontier_ms,
        refused_until_ms,
        tuple(pending),
        refused_until_ms,
        marks_of(held),
    )
