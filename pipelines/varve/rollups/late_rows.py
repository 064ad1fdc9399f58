"""Late rows: which closed windows of a tier lack rows that the table below has got since.

Two logs tell. That of the table below says which version brought which files. The tier's own log
says, commit by commit, which ranges of windows were computed (closed or repaired) from which
version of the table below. Workers and readers therefore find the same windows, after any crash.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varve.model.errors import NeedsOperator
from varve.model.window import Tier, Window, floor_to
from varve.rollups import time_ranges
from varve.rollups.algebra import Ints
from varve.rollups.task import NO_KEYS, span_of, touched_windows
from varve.rollups.window_keys import unique_keys
from varve.storage.log import LiveFile, LogEntry, entries, list_versions
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.unreadable import READ_ERRORS, find_unreadable
from varve.storage.zone_map import Mask

COMPUTED_KEY = "settled"
"""Metadata of a tier's commit: the ranges [start_ms, end_ms] it computed. The key's text is older
than the word, and stays, since logs hold it."""

VERSION_KEY = "version"
"""Metadata of a tier's commit: the version of the table below that its ranges were computed
from."""


@dataclass(frozen=True, slots=True)
class ComputedRanges:
    """Ranges whose windows include every row that `source_version` of the table below has."""

    source_version: int
    ranges: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class LateWindows:
    """Closed windows whose row lacks late rows of the table below."""

    keys: Ints
    """series_id and window_end of windows that lack rows, int64 of shape (n, 2), sorted, unique."""
    whole_ranges: tuple[Window, ...] = ()
    """Ranges in which any window of any series may lack rows. No key lies in one of them."""

    def __bool__(self) -> bool:
        return bool(len(self.keys) or self.whole_ranges)

    def outside(self, ranges: Sequence[Window]) -> LateWindows:
        """Selects the windows that lie in none of some ranges of whole windows."""
        if not ranges:
            return self
        keys = self.keys[~time_ranges.within(self.keys[:, 1], ranges)]
        return LateWindows(keys, tuple(time_ranges.subtract(self.whole_ranges, ranges)))

    def split(self, chosen: Mask) -> tuple[LateWindows, LateWindows]:
        """The windows but the chosen keys, and these. chosen: bool, a value for each key."""
        return LateWindows(self.keys[~chosen], self.whole_ranges), LateWindows(self.keys[chosen])

    def ranges(self, width_ms: int) -> list[Window]:
        """The time that all these windows cover. width_ms: that of the tier."""
        return time_ranges.union(
            [*time_ranges.from_window_ends(self.keys[:, 1], width_ms), *self.whole_ranges]
        )


NO_LATE_WINDOWS = LateWindows(NO_KEYS)


def find_late_windows(
    store: Store,
    tier: Tier,
    source: Snapshot,
    after: int,
    frontier_ms: int,
    computed: Sequence[ComputedRanges] = (),
) -> LateWindows:
    """Windows up to the frontier that rows of versions (after, source.version] fall in and that
    were not computed since.

    Where the log of the table below has expired, every window up to the frontier is suspect.
    """
    unknown_to, log = log_since(store, tier.source, after, source.version)
    history = sorted(computed, key=lambda c: c.source_version)
    versions = [c.source_version for c in history]
    whole: list[Window] = []
    start = first_window_start(source, tier)
    if unknown_to > after and start is not None and start < frontier_ms:
        covered = _union(history[bisect_left(versions, unknown_to) :])
        whole += time_ranges.subtract([Window(start, frontier_ms)], covered)
    found = [NO_KEYS]
    for place, files in _by_first_inclusion(log, versions):
        covered = _union(history[place:])
        keys, suspect = _touched(source, files, tier, frontier_ms)
        whole += time_ranges.subtract(suspect, covered)
        found.append(keys[~time_ranges.within(keys[:, 1], covered)])
    keys = unique_keys(np.concatenate(found)) if len(found) > 1 else NO_KEYS
    whole = time_ranges.union(whole)
    return LateWindows(keys[~time_ranges.within(keys[:, 1], whole)], tuple(whole))


def computed_since(
    store: Store, tier: Tier, until: int, source_version: int
) -> list[ComputedRanges]:
    """What the tier's commits up to its version `until` computed from versions of the table below
    greater than source_version.
    """
    found: list[ComputedRanges] = []
    for at in range(until, -1, -1):
        try:
            (entry,) = entries(store, tier.table, at - 1, at)
        except NeedsOperator:
            return found  # expired: what it computed is taken to be late, and repaired again
        if VERSION_KEY not in entry.metadata:
            continue  # compaction, or a new column
        if entry.metadata[VERSION_KEY] <= source_version:
            return found
        ranges = tuple(Window(*w) for w in entry.metadata[COMPUTED_KEY])
        found.append(ComputedRanges(entry.metadata[VERSION_KEY], ranges))
    return found


def first_window_start(source: Snapshot, tier: Tier) -> int | None:
    """Start of the first window that holds a row; None for an empty source."""
    if not source.files:
        return None
    return floor_to(int(source.zones.first_ms.min()) - 1, tier.width_ms)


def log_since(store: Store, table: str, after: int, until: int) -> tuple[int, list[LogEntry]]:
    """Entries of the versions up to `until`, and the version after which they start."""
    try:
        return after, list(entries(store, table, after, until))
    except NeedsOperator:
        kept = [v for v in list_versions(store, table) if after < v <= until]
        gaps = np.flatnonzero(np.diff(kept) > 1)
        start = (kept[gaps[-1] + 1 if len(gaps) else 0] if kept else until + 1) - 1
        return start, list(entries(store, table, start, until))


def _by_first_inclusion(
    log: Sequence[LogEntry], versions: Sequence[int]
) -> list[tuple[int, list[LiveFile]]]:
    """Files added, by the index of the first of `versions` (ascending) that includes them."""
    groups: dict[int, list[LiveFile]] = {}
    for entry in log:
        if entry.adds:
            groups.setdefault(bisect_left(versions, entry.version), []).extend(entry.adds)
    return list(groups.items())


def _touched(
    source: Snapshot, files: Sequence[LiveFile], tier: Tier, frontier_ms: int
) -> tuple[Ints, list[Window]]:
    """The windows up to the frontier that rows of files fall in, as keys, and as ranges where a
    file cannot be read: it was rewritten or expired since and deleted, or it is damaged.
    """
    try:
        return touched_windows(source, files, tier, frontier_ms), []
    except READ_ERRORS:
        unreadable = find_unreadable(source.store, source.table, files)
        if not unreadable:
            raise
    lost = {u.file.path for u in unreadable}
    spans = [span_of(u.file, source.time_column, tier.width_ms) for u in unreadable]
    closed = Window(min(*(s.start_ms for s in spans), frontier_ms) - 1, frontier_ms)
    left = [file for file in files if file.path not in lost]
    return touched_windows(source, left, tier, frontier_ms), time_ranges.clip(spans, closed)


def _union(history: Sequence[ComputedRanges]) -> list[Window]:
    return time_ranges.union(w for c in history for w in c.ranges)
