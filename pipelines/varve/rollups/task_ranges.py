"""How the work on a range is cut into tasks of like size, by the files' statistics alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varve.model.window import Tier, Window
from varve.rollups.algebra import Ints
from varve.storage.bounds import Bounds
from varve.storage.file_set import FileSet
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.unreadable import READ_ERRORS, find_unreadable

# Source rows of one task: a second or two of work, a few hundred MB.
ROWS_PER_TASK = 2_000_000
# The same where few of the rows are kept: to look through one takes a tenth of the time.
ROWS_TO_LOOK_THROUGH = 16_000_000
# Below it a task costs more to start than to run.
LEAST_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class Part:
    """A range of whole windows with about so many source rows."""

    window: Window
    rows: float


def by_time(source: Snapshot, whole: Window, tier: Tier, rows_each: int) -> list[Part]:
    """Consecutive parts of about rows_each, or of one window where that has more.

    A file's rows are taken to be spread evenly over its time range.
    """
    windows = (whole.end_ms - whole.start_ms) // tier.width_ms
    files = source.select(Bounds(whole.start_ms, whole.end_ms))
    if not files:
        return [Part(whole, 0.0)]
    total = np.concatenate([[0.0], np.cumsum(_density(source, files, whole, tier))])
    parts, begin = [], 0
    while begin < windows:
        # At least one window, else as many as fit.
        end = int(np.searchsorted(total, total[begin] + rows_each, side="right")) - 1
        end = min(max(end, begin + 1), windows)
        window = Window(
            whole.start_ms + begin * tier.width_ms, whole.start_ms + end * tier.width_ms
        )
        parts.append(Part(window, float(total[end] - total[begin])))
        begin = end
    return parts


def by_series(
    source: Snapshot, files: Sequence[LiveFile], rows: float, at_once: int
) -> list[tuple[int, int] | None]:
    """Ranges of series_id, both ends inclusive, for so many rows of one time range; [None] where
    one task is enough. at_once: tasks that can run side by side.

    The ids of the largest files stand for them all. Files that were cut near the same place are
    cut there again, so that each is read once.
    """
    pieces = max(-(-int(rows) // ROWS_PER_TASK), min(at_once, int(rows) // LEAST_ROWS))
    if pieces < 2:
        return [None]
    largest = sorted(files, key=lambda f: f.rows)[-2 * pieces :]
    ids = np.sort(_series_ids(source, largest))
    if not len(ids):
        return [None]
    cuts = np.unique(ids[np.linspace(0, len(ids), pieces + 1)[1:-1].astype(np.int64)])
    starts_of_files = np.unique([f.minimum["series_id"] for f in files])
    near = starts_of_files[np.abs(starts_of_files[:, None] - cuts).argmin(axis=0)]
    off = np.abs(np.searchsorted(ids, near) - np.searchsorted(ids, cuts))
    cuts = np.unique(np.where(off < len(ids) // (8 * pieces), near, cuts))
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    starts = [int(lowest), *cuts.tolist()]
    ends = [*(cuts - 1).tolist(), int(highest)]
    return list(zip(starts, ends, strict=True))


def _series_ids(source: Snapshot, files: Sequence[LiveFile]) -> Ints:
    """The ids of all rows of some files, without those that cannot be read."""
    try:
        rows = source.scan(Bounds(), ["series_id"], files)
    except READ_ERRORS:
        lost = {u.file.path for u in find_unreadable(source.store, source.table, files)}
        if not lost:
            raise
        rows = source.scan(Bounds(), ["series_id"], [f for f in files if f.path not in lost])
    ids: Ints = rows.column("series_id").to_numpy()
    return ids


def overlapping(files: Sequence[LiveFile], series: tuple[int, int]) -> tuple[LiveFile, ...]:
    """Files that can hold one of a range of series."""
    return tuple(FileSet(files).select(Bounds(series=series)))


def rows_within(source: Snapshot, window: Window) -> float:
    """About how many rows a range has, copies and old revisions included."""
    files = source.select(Bounds(window.start_ms, window.end_ms))
    rows = 0.0
    for file in files:
        low, high = file.minimum[source.time_column], file.maximum[source.time_column]
        covered = min(high, window.end_ms) - max(low, window.start_ms)
        rows += file.rows * (min(covered / (high - low), 1.0) if high > low else 1.0)
    return rows


def _density(
    source: Snapshot, files: Sequence[LiveFile], whole: Window, tier: Tier
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rows of each window."""
    windows = (whole.end_ms - whole.start_ms) // tier.width_ms
    time = source.time_column
    low = np.array([f.minimum[time] for f in files], dtype=np.int64)
    high = np.array([f.maximum[time] for f in files], dtype=np.int64)
    rows = np.array([f.rows for f in files], dtype=np.float64)
    first = (low - 1 - whole.start_ms) // tier.width_ms
    last = (high - 1 - whole.start_ms) // tier.width_ms
    each = rows / (last - first + 1)
    steps = np.zeros(windows + 1)
    np.add.at(steps, np.clip(first, 0, windows), each)
    np.add.at(steps, np.clip(last + 1, 0, windows), -each)
    return np.maximum(np.cumsum(steps)[:windows], 0.0)
