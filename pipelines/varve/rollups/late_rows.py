"""Late rows: which closed windows of a tier have got rows below that their own row lacks.

It follows from two logs. The table's below tells which files came in which version; the tier's own
tells, commit by commit, which ranges of windows include everything up to which version: those it
closed and those it repaired. So workers and readers find the same, after any crash.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varve.model.errors import NeedsOperator
from varve.model.window import Tier, Window, floor_to, window_end
from varve.rollups import time_ranges
from varve.rollups.algebra import Ints
from varve.rollups.task import NO_KEYS, touched
from varve.rollups.window_keys import unique_keys
from varve.storage.log import LiveFile, LogEntry, entries, list_versions
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store

SETTLED_KEY = "settled"
VERSION_KEY = "version"
"""Of a tier's commits: ranges [start_ms, end_ms], and the version below they are settled at."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Windows in `windows` include everything that `version` of the table below has of them."""

    version: int
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Late:
    """Windows that lack rows. keys: series_id, window_end, int64, shape (n, 2), sorted, unique.
    whole: ranges in which every window may lack some.
    """

    keys: Ints
    whole: tuple[Window, ...] = ()

    def __bool__(self) -> bool:
        return bool(len(self.keys) or self.whole)

    def ranges(self, width_ms: int) -> list[Window]:
        """The time of them all."""
        return time_ranges.union([*time_ranges.of_ends(self.keys[:, 1], width_ms), *self.whole])


NOTHING = Late(NO_KEYS)


def find(
    store: Store,
    tier: Tier,
    source: Snapshot,
    after: int,
    frontier_ms: int,
    settled: Sequence[Settled] = (),
) -> Late:
    """What rows that came in versions (after, source.version] touch and `settled` does not cover,
    up to the frontier.

    Where the log of the table below has expired, everything up to the frontier is suspect.
    """
    unknown_to, log = _log(store, tier.source, after, source.version)
    history = sorted(settled, key=lambda s: s.version)
    versions = [s.version for s in history]
    whole: list[Window] = []
    start = first_start(source, tier)
    if unknown_to > after and start is not None and start < frontier_ms:
        covered = _covered(history[bisect_left(versions, unknown_to) :])
        whole += time_ranges.subtract([Window(start, frontier_ms)], covered)
    found = [NO_KEYS]
    for place, files in _by_settlement(log, versions):
        covered = _covered(history[place:])
        try:
            keys = touched(source, files, tier, frontier_ms)
        except FileNotFoundError:
            # Rewritten or expired since, and deleted: what is left of it are its bounds.
            spans = [_span(f, source.time_column, tier.width_ms) for f in files]
            inside = time_ranges.clip(
                spans, Window(min(s.start_ms for s in spans) - 1, frontier_ms)
            )
            whole += time_ranges.subtract(inside, covered)
            continue
        found.append(keys[~time_ranges.within(keys[:, 1], covered)])
    keys = unique_keys(np.concatenate(found)) if len(found) > 1 else NO_KEYS
    whole = time_ranges.union(whole)
    return Late(keys[~time_ranges.within(keys[:, 1], whole)], tuple(whole))


def settled_since(store: Store, tier: Tier, until: int, version: int) -> list[Settled]:
    """What the tier's commits up to its version `until` settled at versions above `version`."""
    found: list[Settled] = []
    for at in range(until, -1, -1):
        try:
            (entry,) = entries(store, tier.table, at - 1, at)
        except NeedsOperator:
            return found  # expired: what it settled is taken to be late, and repaired again
        if VERSION_KEY not in entry.metadata:
            continue  # compaction, or a new column
        if entry.metadata[VERSION_KEY] <= version:
            return found
        windows = tuple(Window(*w) for w in entry.metadata[SETTLED_KEY])
        found.append(Settled(entry.metadata[VERSION_KEY], windows))
    return found


def first_start(source: Snapshot, tier: Tier) -> int | None:
    """Start of the first window that holds a row; None for an empty source."""
    if not source.files:
        return None
    return floor_to(int(source.zones.first_ms.min()) - 1, tier.width_ms)


def _log(store: Store, table: str, after: int, until: int) -> tuple[int, list[LogEntry]]:
    """Entries of the versions up to `until`, and the version after which they start."""
    try:
        return after, list(entries(store, table, after, until))
    except NeedsOperator:
        kept = [v for v in list_versions(store, table) if after < v <= until]
        gaps = np.flatnonzero(np.diff(kept) > 1)
        start = (kept[gaps[-1] + 1 if len(gaps) else 0] if kept else until + 1) - 1
        return start, list(entries(store, table, start, until))


def _by_settlement(
    log: Sequence[LogEntry], versions: Sequence[int]
) -> list[tuple[int, list[LiveFile]]]:
    """Files added, by the first of `versions` (ascending) that includes them."""
    groups: dict[int, list[LiveFile]] = {}
    for entry in log:
        if entry.adds:
            groups.setdefault(bisect_left(versions, entry.version), []).extend(entry.adds)
    return list(groups.items())


def _covered(history: Sequence[Settled]) -> list[Window]:
    return time_ranges.union(w for s in history for w in s.windows)


def _span(file: LiveFile, time: str, width_ms: int) -> Window:
    return Window(
        floor_to(file.minimum[time] - 1, width_ms), window_end(file.maximum[time], width_ms)
    )
