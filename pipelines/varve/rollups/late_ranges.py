"""Follows, by two logs alone, where a tier's closed windows may lack rows of the table below.

What varve.rollups.late_rows finds anew each time from the logs is kept here from commit to commit:
the time of files that came below, less the ranges that the tier has computed since. Files are known
by their statistics; the keys are read of those that may hold late rows. So what is late follows
from the versions alone, whether they were followed or read at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from varve.model.window import Tier, Window
from varve.rollups import time_ranges
from varve.rollups.late_rows import (
    COMPUTED_KEY,
    VERSION_KEY,
    ComputedRanges,
    computed_since,
    first_window_start,
    log_since,
)
from varve.rollups.task import span_of, touched_windows
from varve.storage.log import LiveFile, LogEntry
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.unreadable import READ_ERRORS

# Entries from which on all of them count as one: the tier has stood still for long.
_MOST = 4_096


@dataclass(slots=True)
class _Came:
    """Ranges of windows that rows of a version of the table below fall in.

    files: those by whose statistics the ranges are known, until their keys are read.
    """

    version: int
    ranges: list[Window]
    files: tuple[LiveFile, ...] = ()


class LateRanges:
    """What one tier has not computed yet of the table below. Not safe to share between threads."""

    def __init__(self, store: Store, tier: Tier) -> None:
        self._store = store
        self._tier = tier
        self._came: list[_Came] = []

    def start(self, source: Snapshot, marked: int | None, version: int, frontier_ms: int) -> None:
        """Reads the logs: that of the table below since `marked`, the tier's `source:`, and the
        tier's own up to its `version`. source: a snapshot taken after that version was seen.
        """
        after = -1 if marked is None else marked
        unknown_to, log = log_since(self._store, self._tier.source, after, source.version)
        self._came = []
        first = first_window_start(source, self._tier)
        if first is not None and source.zones.last_ms.max() > frontier_ms:
            last = span_of_all(source, self._tier)
            self._came.append(_Came(after, [Window(frontier_ms, last)]))
        if unknown_to > after and first is not None and first < frontier_ms:
            self._came.append(_Came(unknown_to, [Window(first, frontier_ms)]))
        computed = computed_since(self._store, self._tier, version, after)
        self.advance(source, log, (), frontier_ms, computed)

    def advance(
        self,
        source: Snapshot,
        below: Iterable[LogEntry],
        own: Iterable[LogEntry],
        frontier_ms: int,
        computed: Sequence[ComputedRanges] = (),
    ) -> None:
        """Takes notice of commits to the table below, up to `source`, and then of the tier's own,
        which were seen before those. frontier_ms: as of the last of its own.
        """
        known = [*computed, *(c for entry in own if (c := _computed(entry)) is not None)]
        for entry in below:
            if entry.adds:
                spans = [span_of(f, source.time_column, self._tier.width_ms) for f in entry.adds]
                self._came.append(_Came(entry.version, time_ranges.union(spans), entry.adds))
        for came in self._came:
            for ranges in known:
                _subtract(came, ranges)
        self._came = [came for came in self._came if came.ranges]
        for came in self._came:
            if came.files and came.ranges[0].start_ms < frontier_ms:
                came.ranges = self._touched(source, came)
                came.files = ()
        self._came = [came for came in self._came if came.ranges]
        if len(self._came) > _MOST:
            everything = time_ranges.union(w for came in self._came for w in came.ranges)
            self._came = [_Came(max(came.version for came in self._came), everything)]

    def before(self, frontier_ms: int) -> list[Window]:
        """Ranges up to the frontier with windows that lack rows."""
        late = [
            Window(w.start_ms, min(w.end_ms, frontier_ms))
            for came in self._came
            for w in came.ranges
            if w.start_ms < frontier_ms
        ]
        return time_ranges.union(late)

    def _touched(self, source: Snapshot, came: _Came) -> list[Window]:
        """The ranges, less what no row of the files falls in."""
        width = self._tier.width_ms
        try:
            keys = touched_windows(source, came.files, self._tier, came.ranges[-1].end_ms)
        except READ_ERRORS:  # rewritten and deleted since, or damaged: the statistics hold
            return came.ranges
        touched = time_ranges.from_window_ends(keys[:, 1], width)
        return [piece for w in came.ranges for piece in time_ranges.clip(touched, w)]


def span_of_all(source: Snapshot, tier: Tier) -> int:
    """The end of the last window that a row of the table below falls in."""
    return -(-int(source.zones.last_ms.max()) // tier.width_ms) * tier.width_ms


def _computed(entry: LogEntry) -> ComputedRanges | None:
    """What a commit of the tier computed; None if it computed nothing."""
    if VERSION_KEY not in entry.metadata:
        return None
    ranges = tuple(Window(*pair) for pair in entry.metadata[COMPUTED_KEY])
    return ComputedRanges(entry.metadata[VERSION_KEY], ranges)


def _subtract(came: _Came, computed: ComputedRanges) -> None:
    if came.version <= computed.source_version and computed.ranges:
        came.ranges = time_ranges.subtract(came.ranges, computed.ranges)
