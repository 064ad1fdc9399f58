"""Which rows, of which tiers, and which samples together cover the windows of a selector.

A window of a query is answered by the wide rows that lie in it whole; what they leave at its edges,
past their frontier and where repairs are pending is left to finer tiers, and at last to samples.
Each moment is covered once, so rows and samples join without gap or overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from varve.model.window import floor_to, window_end
from varve.promql.kernels.types import I64, Bools
from varve.query.tier_view import TierView

# No window of a query lies so far away that sums of these overflow.
_START_OF_TIME = -(1 << 62)


@dataclass(frozen=True)
class Ranges:
    """(starts[k], ends[k]], Unix ms, both ascending: what is computed is computed of each.

    is_instant: only the last sample of each counts, so that rows may reach across starts.
    """

    starts: I64
    ends: I64
    is_instant: bool

    @property
    def span(self) -> tuple[int, int]:
        return int(self.starts[0]), int(self.ends[-1])

    @property
    def edges(self) -> I64:
        """The times that no row may reach across; ascending, each once."""
        return np.unique(self.ends if self.is_instant else np.concatenate([self.starts, self.ends]))


@dataclass(frozen=True)
class Level:
    """Windows of a tier: window i is (origin_ms + i * width, origin_ms + (i + 1) * width]."""

    tier: TierView
    origin_ms: int
    used: Bools

    @property
    def windows(self) -> int:
        return int(np.count_nonzero(self.used))

    def within(self, start_ms: int, end_ms: int) -> Level:
        """The windows that overlap (start_ms, end_ms] alone."""
        width = self.tier.tier.width_ms
        begins = self.origin_ms + width * np.arange(len(self.used), dtype=np.int64)
        inside = (begins + width > start_ms) & (begins < end_ms)
        return replace(self, used=self.used & inside)

    @property
    def span(self) -> tuple[int, int]:
        """The time from the first to the last window that is used. ValueError if none is."""
        found, width = np.flatnonzero(self.used), self.tier.tier.width_ms
        if not len(found):
            raise ValueError("no window is used")
        return (
            self.origin_ms + int(found[0]) * width,
            self.origin_ms + (int(found[-1]) + 1) * width,
        )

    def uses(self, window_ends: I64) -> Bools:
        """Which of the tier's windows are used."""
        place = (window_ends - self.origin_ms) // self.tier.tier.width_ms - 1
        inside = (place >= 0) & (place < len(self.used))
        found: Bools = inside & self.used[np.where(inside, place, 0)]
        return found


@dataclass(frozen=True)
class Cover:
    """Levels from the widest to the finest, and the samples in (raw_starts[i], raw_ends[i]].

    edges: the times that no row may reach across, also those of ranges that `at` has left out.
    """

    ranges: Ranges
    levels: tuple[Level, ...]
    raw_starts: I64
    raw_ends: I64
    edges: I64

    def is_by_step(self, steps: int) -> bool:
        """Whether there is a range for each of so many steps, and all are of one length: then what
        is computed of a step depends on no other.
        """
        lengths = self.ranges.ends - self.ranges.starts
        return len(lengths) == steps and bool((lengths == lengths[0]).all())

    def at(self, steps: slice) -> Cover:
        """What covers some of the ranges, by the rows that cover them among all."""
        starts, ends = self.ranges.starts[steps], self.ranges.ends[steps]
        ranges = Ranges(starts, ends, self.ranges.is_instant)
        start, end = ranges.span
        raw_starts = np.maximum(self.raw_starts, start)
        raw_ends = np.minimum(self.raw_ends, end)
        there = raw_starts < raw_ends
        levels = tuple(level.within(start, end) for level in self.levels)
        return Cover(ranges, levels, raw_starts[there], raw_ends[there], self.edges)

    @property
    def windows(self) -> int:
        """Windows of all levels: as many rows there are at most of one series."""
        return sum(level.windows for level in self.levels)

    @property
    def raw_ms(self) -> int:
        """The time that is covered by samples."""
        return int((self.raw_ends - self.raw_starts).sum())

    @property
    def cuts(self) -> I64:
        """Where rows that are made of samples end, so that none reaches across an edge."""
        return np.union1d(self.edges, self.raw_ends)

    @property
    def tiers(self) -> tuple[str, ...]:
        """What is read, the widest first."""
        names = [level.tier.tier.name for level in self.levels if level.windows]
        return (*names, *(("raw",) if len(self.raw_ends) else ()))


def cover(ranges: Ranges, tiers: Sequence[TierView]) -> Cover:
    """Covers the ranges by the rows of some tiers, at least one, the widest first, and samples."""
    widest = tiers[0].tier.width_ms
    start, end = ranges.span
    origin = floor_to(start, widest)
    size = window_end(end, widest) - origin
    edges = ranges.edges
    covered = np.zeros(size // widest, dtype=np.bool_)
    levels = []
    before = widest
    needed = covered
    for view in tiers:
        width = view.tier.width_ms
        covered = np.repeat(covered, before // width)
        before = width
        needed = _overlapped(ranges, origin, width, len(covered))
        used = needed & ~covered & _complete(view, origin, len(covered))
        across = edges[edges % width != 0]
        across = (across - origin) // width
        used[across[(across >= 0) & (across < len(used))]] = False
        levels.append(Level(view, origin, used))
        covered |= used
    raw = np.concatenate([[False], needed & ~covered, [False]])
    changes = np.flatnonzero(raw[1:] != raw[:-1])
    starts, ends = origin + changes[::2] * before, origin + changes[1::2] * before
    return Cover(ranges, tuple(levels), np.maximum(starts, start), np.minimum(ends, end), edges)


def move_edges(
    ranges: Ranges, tiers: Sequence[TierView], raw_from_ms: int
) -> tuple[Ranges, int] | None:
    """Moves edges between windows of the finest tier that has rows there to the start of their
    window, where there are no samples any more. Returns by how much at most, in ms; and nothing if
    a range is shorter than the windows that its ends are moved in.
    """
    ends, width = _moved(ranges.ends, tiers, raw_from_ms)
    if ranges.is_instant:
        moved = Ranges(ranges.starts - (ranges.ends - ends), ends, is_instant=True)
    else:
        starts, other = _moved(ranges.starts, tiers, raw_from_ms)
        moved = Ranges(starts, ends, is_instant=False)
        if (ranges.ends - ranges.starts < np.maximum(width, other)).any():
            return None
    most = max(int((ranges.ends - ends).max()), int((ranges.starts - moved.starts).max()))
    return moved, most


def finest_at(tiers: Sequence[TierView], time_ms: int) -> TierView | None:
    """The finest of some tiers (the widest first) with a row for the window that holds a time."""
    for view in reversed(tiers):
        if _has_window(view, np.array([time_ms], dtype=np.int64))[0]:
            return view
    return None


def _moved(times: I64, tiers: Sequence[TierView], raw_from_ms: int) -> tuple[I64, I64]:
    """Where the edges go, and how wide the windows are in which they move, 0 if they do not."""
    moved, widths = times.copy(), np.zeros_like(times)
    left = np.ones(len(times), dtype=np.bool_)
    for view in reversed(tiers):
        # Where the finest row that holds an edge begins, samples up to its end must be there.
        aligned = times // view.tier.width_ms * view.tier.width_ms
        here = left & _has_window(view, times)
        left &= ~here
        here &= aligned < raw_from_ms
        moved[here] = aligned[here]
        widths[here & (aligned < times)] = view.tier.width_ms
    return moved, widths


def _has_window(view: TierView, times: I64) -> Bools:
    """Whether the window that holds each time is closed and was not too old for a row."""
    width = view.tier.width_ms
    ends = -(-times // width) * width
    last = _START_OF_TIME if view.frontier_ms is None else view.frontier_ms
    first = _START_OF_TIME if view.first_ms is None else view.first_ms
    found: Bools = (ends <= last) & (ends - width >= first)
    return found


def _complete(view: TierView, origin_ms: int, count: int) -> Bools:
    """Which of the windows have the rows that their samples give."""
    width = view.tier.width_ms
    found = np.zeros(count, dtype=np.bool_)
    if view.frontier_ms is None:
        return found
    first = 0 if view.first_ms is None else max(0, -(-(view.first_ms - origin_ms) // width))
    last = max(0, (view.frontier_ms - origin_ms) // width)
    found[first:last] = True
    for window in view.pending:
        begin = max(0, (window.start_ms - origin_ms) // width)
        found[begin : max(0, -(-(window.end_ms - origin_ms) // width))] = False
    return found


def _overlapped(ranges: Ranges, origin_ms: int, width_ms: int, count: int) -> Bools:
    """Which of the windows overlap a range."""
    low = (ranges.starts - origin_ms) // width_ms
    high = -(-(ranges.ends - origin_ms) // width_ms)
    steps: npt.NDArray[np.int64] = np.bincount(low, minlength=count + 1)
    steps = steps - np.bincount(high, minlength=count + 1)
    found: Bools = np.cumsum(steps[:count]) > 0
    return found
