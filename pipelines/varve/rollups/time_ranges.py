"""Sets of time as windows: sorted, disjoint, not adjacent."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from varve.model.window import Window
from varve.rollups.algebra import Ints


def union(windows: Iterable[Window], gap_ms: int = 0) -> list[Window]:
    """The same time, with windows joined that touch or are no more than gap_ms apart."""
    joined: list[Window] = []
    for window in sorted(windows, key=lambda w: w.start_ms):
        if joined and window.start_ms <= joined[-1].end_ms + gap_ms:
            last = joined.pop()
            window = Window(last.start_ms, max(last.end_ms, window.end_ms))  # noqa: PLW2901
        joined.append(window)
    return joined


def subtract(windows: Iterable[Window], removed: Iterable[Window]) -> list[Window]:
    """The time that is in `windows` and not in `removed`."""
    left = union(windows)
    for hole in removed:
        cut = []
        for window in left:
            before = (window.start_ms, min(window.end_ms, hole.start_ms))
            after = (max(window.start_ms, hole.end_ms), window.end_ms)
            cut += [Window(*part) for part in (before, after) if part[0] < part[1]]
        left = cut
    return left


def clip(windows: Iterable[Window], bounds: Window) -> list[Window]:
    """The time that is in both."""
    pairs = (
        (max(w.start_ms, bounds.start_ms), min(w.end_ms, bounds.end_ms)) for w in union(windows)
    )
    return [Window(start, end) for start, end in pairs if start < end]


def within(times: Ints, windows: Iterable[Window]) -> npt.NDArray[np.bool_]:
    """Tells which of `times` lie in one of `windows`; same shape."""
    inside = np.zeros(len(times), dtype=np.bool_)
    for window in windows:
        inside |= (times > window.start_ms) & (times <= window.end_ms)
    return inside


def from_window_ends(ends: Ints, width_ms: int, gap_ms: int = 0) -> list[Window]:
    """The time that windows of width_ms with these ends cover, joined as in `union`."""
    distinct = np.unique(ends)
    if not len(distinct):
        return []
    new = np.flatnonzero(np.diff(distinct) > width_ms + gap_ms) + 1
    return [
        Window(int(part[0]) - width_ms, int(part[-1])) for part in np.split(distinct, new.tolist())
    ]
