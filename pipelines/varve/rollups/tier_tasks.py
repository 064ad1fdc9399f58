"""How the windows that a tier closes or repairs become the tasks of one commit.

The size of a commit is bounded: closes of all tiers, and ingest, wait for no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from varve.model.window import Tier, Window
from varve.rollups import task_ranges
from varve.rollups.late_rows import LateWindows
from varve.rollups.pending_repairs import PendingRepairs
from varve.rollups.task import RollupTask
from varve.rollups.task_ranges import Part
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot

# Tasks of one commit that closes windows, for each task that can run at once: a backlog is worked
# off in steps, each of which is kept. A commit of repairs has one for each.
WAVES_PER_STEP = 4


@dataclass(frozen=True, slots=True)
class TaskCut:
    """Tasks of one commit, from the start of a range on."""

    tasks: tuple[RollupTask, ...]
    reached_ms: int
    """End of the last window that they compute."""


def cut_close(tier: Tier, source: Snapshot, window: Window, at_once: int) -> TaskCut:
    """Tasks that compute all windows of a range, or of its first part if that is a commit's worth.

    at_once: tasks that can run side by side.
    """
    tasks: list[RollupTask] = []
    reached = window.start_ms
    parts = task_ranges.by_time(source, window, tier, task_ranges.ROWS_PER_TASK)
    # Parts of the time keep all cores busy; pieces of a part would read its files again.
    pieces = 1 if len(parts) >= at_once else at_once
    for part in parts:
        if len(tasks) >= WAVES_PER_STEP * at_once:
            break
        tasks += _all_windows(tier, source, part, pieces)
        reached = part.window.end_ms
    return TaskCut(tuple(tasks), reached)


def cut_repair(
    tier: Tier, source: Snapshot, window: Window, pending: PendingRepairs, at_once: int
) -> TaskCut:
    """Tasks that repair what is pending in a range, or in its first part, at most at_once."""
    tasks: list[RollupTask] = []
    reached = window.start_ms
    for part in _repair_parts(tier, source, window, pending):
        if len(tasks) >= at_once:
            break
        tasks += _late_windows(tier, source, pending.free_inside(part.window))
        reached = part.window.end_ms
    return TaskCut(tuple(tasks), reached)


def _repair_parts(
    tier: Tier, source: Snapshot, window: Window, pending: PendingRepairs
) -> Iterator[Part]:
    """Parts of a range to repair. They are wide where single windows are repaired, which keeps few
    of the rows that are read, and reads files that span days once.
    """
    for part in task_ranges.by_time(source, window, tier, task_ranges.ROWS_TO_LOOK_THROUGH):
        if pending.free_inside(part.window).whole_ranges:
            yield from task_ranges.by_time(source, part.window, tier, task_ranges.ROWS_PER_TASK)
        else:
            yield part


def _all_windows(tier: Tier, source: Snapshot, part: Part, pieces: int) -> list[RollupTask]:
    """Tasks for all windows of a part. pieces: how many ranges of series it is cut into if that
    pays.
    """
    files = tuple(source.select(Bounds(part.window.start_ms, part.window.end_ms)))
    if not files:
        return []
    task = RollupTask(source.store, tier, part.window, source.version, files)
    return [
        task
        if cut is None
        else replace(task, series=cut, files=task_ranges.overlapping(files, cut))
        for cut in task_ranges.by_series(source, files, part.rows, pieces)
    ]


def _late_windows(tier: Tier, source: Snapshot, late: LateWindows) -> list[RollupTask]:
    """One task for some late windows, or none if there is nothing to read."""
    if not late:
        return []
    times = late.ranges(tier.width_ms)
    window = Window(times[0].start_ms, times[-1].end_ms)
    ids = None if late.whole_ranges else np.unique(late.keys[:, 0])
    files = tuple(source.select(Bounds(window.start_ms, window.end_ms, ids)))
    if not files:
        return []
    task = RollupTask(source.store, tier, window, source.version, files)
    return [replace(task, keys=late.keys, whole_ranges=late.whole_ranges)]
