"""The late windows that a worker has gathered, and the sweep that repairs them from old to new.

A sweep goes through time once, a piece in each commit; what turns up behind it waits for the next
sweep. When it is through, everything gathered before it began is repaired, so `source:` may move
to the version the worker had gathered up to then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from varve.model.window import HOUR_MS, Tier, Window, floor_to
from varve.rollups import time_ranges
from varve.rollups.late_rows import LateWindows
from varve.rollups.task import NO_KEYS
from varve.rollups.window_keys import unique_keys

# From so many late windows in one hour it is worth asking whether they are most of it.
DENSE = 20_000
# How long a range that cannot be computed rests before it is tried again: twice as long each time.
FIRST_RETRY_MS, LAST_RETRY_MS = 30_000, 600_000
_START_OF_TIME, _END_OF_TIME = -(1 << 62), 1 << 62


class PendingRepairs:
    """Late windows of one tier that no commit has repaired yet.

    Invariants, as of the tier's commit number `turn`:

    - Every closed window that lacks rows of a version of the table below up to `gathered_to` is
      here, as a key or within a whole range.
    - Keys are sorted and unique, whole ranges are sorted and disjoint, no key lies in one.
    - `oldest_ms` is None exactly when nothing is pending that is not blocked, `sweep_version`
      exactly when no sweep is under way.
    - Blocked ranges are pending ones that could not be computed, since a file cannot be read. No
      sweep goes through them before `_retry_at_ms`, and while there are any, `source:` stays.

    All of it is derived from the tables, so it may be thrown away at any time.
    """

    def __init__(self, tier: Tier, gathered_to: int, turn: int | None) -> None:
        self.gathered_to = gathered_to
        """Version of the table below: its rows, and all before, are gathered or computed."""
        self.turn = turn
        """Number of the tier's commit after which this holds; None before its first commit."""
        self.oldest_ms: int | None = None
        """When the oldest pending window was gathered, Unix ms by the worker's clock."""
        self.sweep_version: int | None = None
        """Version of the table below that the sweep under way brings all windows to."""
        self._swept_to_ms: int | None = None
        """End of the time that the sweep has gone through; None before its first piece."""
        self._width_ms = tier.width_ms
        self._bucket_ms = max(HOUR_MS, tier.width_ms)
        self._keys = NO_KEYS
        self._whole_ranges: list[Window] = []
        self._blocked: list[Window] = []
        self._retry_at_ms = 0
        self._retry_ms = FIRST_RETRY_MS

    @property
    def blocked(self) -> Sequence[Window]:
        """Pending ranges that could not be computed and rest before they are tried again."""
        return self._blocked

    def __len__(self) -> int:
        """Windows, each of one series; a whole range counts as one."""
        return len(self._keys) + len(self._whole_ranges)

    def gather(
        self,
        late: LateWindows,
        gathered_to: int,
        frontier_ms: int,
        now_ms: int,
        rows_in: Callable[[Window], float],
    ) -> None:
        """Adds the late windows of the versions up to gathered_to.

        rows_in: tells about how many rows the tier has in a range. Where most of an hour is late,
        all of it is repaired, which costs the same and is less to remember.
        """
        self.gathered_to = gathered_to
        if late:
            self._whole_ranges = time_ranges.union([*self._whole_ranges, *late.whole_ranges])
            keys = unique_keys(np.concatenate([self._keys, late.keys]))
            self._keys = keys[~time_ranges.within(keys[:, 1], late.whole_ranges)]
            self._condense(frontier_ms, rows_in)
        if self._blocked and not 0 < self._retry_at_ms - now_ms <= LAST_RETRY_MS:
            self._blocked = []
        if not self._has_free():
            self.oldest_ms = None
        elif self.oldest_ms is None or self.oldest_ms > now_ms:  # the clock was set back
            self.oldest_ms = now_ms

    def starting_before(self, start_ms: int) -> Window | None:
        """The range of those windows that start before start_ms; None if none does."""
        last = floor_to(start_ms + self._width_ms - 1, self._width_ms)
        found = time_ranges.clip(self._ranges(), Window(_START_OF_TIME, last))
        return Window(found[0].start_ms, found[-1].end_ms) if found else None

    def left_to_sweep(self) -> Window | None:
        """The range that the sweep under way, or a new one, still has to go through."""
        found = self._free_ranges()
        if self._swept_to_ms is not None:
            found = time_ranges.clip(found, Window(self._swept_to_ms, _END_OF_TIME))
        return Window(found[0].start_ms, found[-1].end_ms) if found else None

    def inside(self, window: Window) -> LateWindows:
        """Selects the windows within a range of whole windows."""
        keys = self._keys[time_ranges.within(self._keys[:, 1], [window])]
        return LateWindows(keys, tuple(time_ranges.clip(self._whole_ranges, window)))

    def free_inside(self, window: Window) -> LateWindows:
        """Selects the windows within a range of whole windows that are not blocked."""
        return self.inside(window).outside(self._blocked)

    def all_inside(self, windows: Sequence[Window]) -> bool:
        """Whether there are none besides those within these ranges."""
        return not time_ranges.subtract(self._ranges(), windows)

    def begin_sweep(self) -> None:
        """Begins a sweep unless one is under way."""
        if self.sweep_version is None:
            self.sweep_version = self.gathered_to
            self._swept_to_ms = None

    def remove(self, ranges: Sequence[Window]) -> None:
        """Forgets the windows of ranges that a commit has computed or refused."""
        self._keys = self._keys[~time_ranges.within(self._keys[:, 1], ranges)]
        self._whole_ranges = time_ranges.subtract(self._whole_ranges, ranges)
        self._blocked = time_ranges.subtract(self._blocked, ranges)
        if not self._has_free():
            self.oldest_ms = None

    def sweep_to(self, end_ms: int) -> None:
        """Notes that the sweep under way has come so far."""
        self._swept_to_ms = end_ms

    def end_sweep(self, now_ms: int) -> None:
        """Ends the sweep. What is left turned up behind it and counts as gathered now."""
        self.sweep_version = self._swept_to_ms = None
        self.oldest_ms = now_ms if self._has_free() else None
        if not self._blocked:
            self._retry_ms = FIRST_RETRY_MS

    def block(self, ranges: Sequence[Window], now_ms: int) -> None:
        """Keeps ranges pending that could not be computed, to be tried again after a rest."""
        self._whole_ranges = time_ranges.union([*self._whole_ranges, *ranges])
        self._keys = self._keys[~time_ranges.within(self._keys[:, 1], ranges)]
        if not self._blocked:
            self._retry_at_ms = now_ms + self._retry_ms
            self._retry_ms = min(2 * self._retry_ms, LAST_RETRY_MS)
        self._blocked = time_ranges.union([*self._blocked, *ranges])
        if not self._has_free():
            self.oldest_ms = None

    def _has_free(self) -> bool:
        return bool(self._free_ranges()) if self._blocked else len(self) > 0

    def _free_ranges(self) -> list[Window]:
        return time_ranges.subtract(self._ranges(), self._blocked)

    def _ranges(self) -> list[Window]:
        return LateWindows(self._keys, tuple(self._whole_ranges)).ranges(self._width_ms)

    def _condense(self, frontier_ms: int, rows_in: Callable[[Window], float]) -> None:
        """Replaces the keys of hours that are mostly late by whole ranges."""
        if len(self._keys) < DENSE:
            return
        buckets = -(-self._keys[:, 1] // self._bucket_ms) * self._bucket_ms
        ends, counts = np.unique(buckets, return_counts=True)
        dense: Sequence[int] = ends[counts >= DENSE].tolist()
        late = dict(zip(ends.tolist(), counts.tolist(), strict=True))
        spans = [
            Window(end - self._bucket_ms, min(end, frontier_ms))
            for end in dense
            if 2 * late[end] >= rows_in(Window(end - self._bucket_ms, end))
        ]
        if spans:
            self._whole_ranges = time_ranges.union([*self._whole_ranges, *spans])
            self._keys = self._keys[~time_ranges.within(self._keys[:, 1], spans)]
