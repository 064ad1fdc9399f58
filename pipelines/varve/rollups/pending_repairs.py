"""The late windows a worker has gathered, and the sweep that repairs them from old to new.

A sweep goes through time once, a piece a commit; what turns up behind it waits for the next one.
When it is through, everything that was known at its start is repaired, and `source:` moves there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from varve.model.window import HOUR_MS, Tier, Window, floor_to
from varve.rollups import time_ranges
from varve.rollups.late_rows import Late
from varve.rollups.task import NO_KEYS
from varve.rollups.window_keys import unique_keys

# Late windows of one hour from which it is worth asking whether they are most of it.
DENSE = 20_000
_START_OF_TIME, _END_OF_TIME = -(1 << 62), 1 << 62


class Pending:
    """seen: version of the table below whose rows, and all before, are gathered or settled."""

    def __init__(self, tier: Tier, seen: int) -> None:
        self.seen = seen
        self.since_ms: int | None = None
        """When the oldest was gathered; None if there is none."""
        self.target: int | None = None
        """While a sweep is on: the version it brings all windows to."""
        self._behind: int | None = None
        self._width = tier.width_ms
        self._bucket = max(HOUR_MS, tier.width_ms)
        self._keys = NO_KEYS
        self._whole: list[Window] = []

    def __len__(self) -> int:
        """Windows of a series each; a range in which all are late counts as one."""
        return len(self._keys) + len(self._whole)

    def gather(
        self,
        late: Late,
        seen: int,
        frontier_ms: int,
        now_ms: int,
        rows_in: Callable[[Window], float],
    ) -> None:
        """Adds what came up to version `seen`. rows_in: about how many rows a range has: when most
        of an hour is late, all of it is repaired, which costs the same and is less to remember.
        """
        self.seen = seen
        if late:
            self._whole = time_ranges.union([*self._whole, *late.whole])
            keys = unique_keys(np.concatenate([self._keys, late.keys]))
            self._keys = keys[~time_ranges.within(keys[:, 1], late.whole)]
            self._condense(frontier_ms, rows_in)
        if not len(self):
            self.since_ms = None
        elif self.since_ms is None or self.since_ms > now_ms:  # the clock was set back
            self.since_ms = now_ms

    def before(self, start_ms: int) -> Window | None:
        """The time of those windows that start before start_ms; None if none does."""
        last = floor_to(start_ms + self._width - 1, self._width)
        found = time_ranges.clip(self._ranges(), Window(_START_OF_TIME, last))
        return Window(found[0].start_ms, found[-1].end_ms) if found else None

    def ahead(self) -> Window | None:
        """The time that the sweep under way, or a new one, still has to go through."""
        found = self._ranges()
        if self._behind is not None:
            found = time_ranges.clip(found, Window(self._behind, _END_OF_TIME))
        return Window(found[0].start_ms, found[-1].end_ms) if found else None

    def inside(self, window: Window) -> Late:
        """Those within a range."""
        keys = self._keys[time_ranges.within(self._keys[:, 1], [window])]
        return Late(keys, tuple(time_ranges.clip(self._whole, window)))

    def all_inside(self, windows: Sequence[Window]) -> bool:
        """Whether there are none besides those within these ranges."""
        return not time_ranges.subtract(self._ranges(), windows)

    def begin_sweep(self) -> None:
        """Unless one is under way."""
        if self.target is None:
            self.target = self.seen
            self._behind = None

    def settle(self, window: Window, *, sweep: bool) -> None:
        """Forgets what is within a range. sweep: the sweep has come to its end."""
        self._keys = self._keys[~time_ranges.within(self._keys[:, 1], [window])]
        self._whole = time_ranges.subtract(self._whole, [window])
        if sweep:
            self._behind = window.end_ms
        if not len(self):
            self.since_ms = None

    def end_sweep(self, now_ms: int) -> None:
        self.target = self._behind = None
        self.since_ms = now_ms if len(self) else None

    def _ranges(self) -> list[Window]:
        return Late(self._keys, tuple(self._whole)).ranges(self._width)

    def _condense(self, frontier_ms: int, rows_in: Callable[[Window], float]) -> None:
        if len(self._keys) < DENSE:
            return
        buckets = -(-self._keys[:, 1] // self._bucket) * self._bucket
        ends, counts = np.unique(buckets, return_counts=True)
        dense: Sequence[int] = ends[counts >= DENSE].tolist()
        late = dict(zip(ends.tolist(), counts.tolist(), strict=True))
        spans = [
            Window(end - self._bucket, min(end, frontier_ms))
            for end in dense
            if 2 * late[end] >= rows_in(Window(end - self._bucket, end))
        ]
        if spans:
            self._whole = time_ranges.union([*self._whole, *spans])
            self._keys = self._keys[~time_ranges.within(self._keys[:, 1], spans)]
