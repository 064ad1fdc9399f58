"""One task of a rollup: read the files of a time range, aggregate, write one file of rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa

from varve.model import copies
from varve.model.staleness import from_column
from varve.model.window import Tier, Window, floor_to, window_end
from varve.rollups import algebra, kernel, time_ranges, window_keys
from varve.rollups.algebra import Ints, Rows
from varve.rollups.expired_series import ExpiredSeries, refused_windows
from varve.storage.bounds import Bounds
from varve.storage.files import NewFile, write_file
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.unreadable import READ_ERRORS, find_unreadable
from varve.storage.zone_map import Mask


@dataclass(frozen=True)
class RollupTask:
    """Computes windows of `tier` within `range`, from one version of the table below."""

    store: Store
    tier: Tier
    range: Window
    """A range of whole windows."""
    revision: int
    """The version of the table below."""
    files: tuple[LiveFile, ...]
    """Files of that version which can hold rows of the range."""
    keys: Ints | None = None
    """The windows wanted: series_id and window_end, int64 of shape (n, 2), sorted, unique. None:
    every window of the range."""
    whole_ranges: tuple[Window, ...] = ()
    """Ranges whose windows are wanted besides `keys`, of all series."""
    series: tuple[int, int] | None = None
    """Least and greatest series_id, both inclusive; None for all."""
    expired: tuple[ExpiredSeries, ...] = ()
    """Series of which no window is computed that starts before their mark."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What became of a task."""

    file: NewFile | None
    """The file written, in no commit yet; None if there are no rows."""
    gaps: tuple[Window, ...] = ()
    """Ranges of windows that were not computed, as a file of theirs cannot be read."""
    unreadable: tuple[str, ...] = ()
    """The files that cannot be read, and what is wrong with each, for a person."""

    def to_json(self) -> str:
        gaps = [[gap.start_ms, gap.end_ms] for gap in self.gaps]
        file = None if self.file is None else self.file.to_json()
        return json.dumps([file, gaps, self.unreadable])

    @classmethod
    def from_json(cls, text: str) -> Self:
        file, gaps, unreadable = json.loads(text)
        return cls(
            None if file is None else NewFile.from_json(file),
            tuple(Window(*gap) for gap in gaps),
            tuple(unreadable),
        )


def attempt_task(task: RollupTask) -> TaskOutcome:
    """Runs a task; goes around files that cannot be read, and the windows they have rows of.

    Raises OSError if the storage is out of reach.
    """
    try:
        return TaskOutcome(run_task(task))
    except READ_ERRORS:
        found = find_unreadable(task.store, task.tier.source, task.files)
        if not found:
            raise
    source = Snapshot(task.store, task.tier.source, task.revision, task.files)
    lost = {unreadable.file.path for unreadable in found}
    spans = (span_of(u.file, source.time_column, task.tier.width_ms) for u in found)
    gaps = tuple(time_ranges.clip(spans, task.range))
    table = compute(replace(task, files=tuple(f for f in task.files if f.path not in lost)))
    ends = table.column("window_end").to_numpy()
    table = table.filter(pa.array(~time_ranges.within(ends, gaps)))
    file = write_file(task.store, task.tier.table, table) if table.num_rows else None
    return TaskOutcome(file, gaps, tuple(map(str, found)))


def run_task(task: RollupTask) -> NewFile | None:
    """Computes a task's rows and writes them; returns the file, which is in no commit yet, or None
    if there are no rows.
    """
    table = compute(task)
    if not table.num_rows:
        return None
    return write_file(task.store, task.tier.table, table)


def compute(task: RollupTask) -> pa.Table:
    """The rows of the task, sorted by (series_id, window_end)."""
    source = Snapshot(task.store, task.tier.source, task.revision, task.files)
    wanted = None if task.keys is None else partial(_in_late_windows, task.keys, task)
    bounds = Bounds(task.range.start_ms, task.range.end_ms, series=task.series)
    rows = source.scan(bounds, files=task.files, wanted=wanted, threads=1)
    table = algebra.to_table(roll_up(rows, task.tier, task.range, task.series), task.revision)
    if not task.expired:
        return table
    ids, ends = table.column("series_id").to_numpy(), table.column("window_end").to_numpy()
    mask = refused_windows(task.expired, ids, ends, task.tier.width_ms)
    return table.filter(pa.array(~mask)) if mask.any() else table


def roll_up(
    rows: pa.Table, tier: Tier, window: Window, series: tuple[int, int] | None = None
) -> Rows:
    """Aggregates rows of the table below into the tier's windows that lie within `window` and a
    range of series; sorted by (series_id, window_end).

    rows: in any order, with copies and old revisions.
    """
    if tier.source == "samples":
        ids, ts = rows.column("series_id").to_numpy(), rows.column("ts").to_numpy()
        values = from_column(rows.column("value"))
        wanted = _within(ids, ts, window, series)
        if not wanted.all():
            ids, ts, values = ids[wanted], ts[wanted], values[wanted]
        return kernel.aggregate(*copies.merge(ids, ts, values), tier.width_ms)
    below = algebra.from_table(rows)
    ids, ends = below.series_id, below.window_end
    chosen = window_keys.newest_revisions(ids, ends, rows.column("revision").to_numpy())
    wanted = _within(ids, ends, window, series)
    if not wanted.all():
        chosen = chosen[wanted[chosen]]
    return kernel.merge(below, chosen, tier.width_ms)


def touched_windows(source: Snapshot, files: Sequence[LiveFile], tier: Tier, until_ms: int) -> Ints:
    """Keys (series_id, window_end) of the tier's windows up to until_ms that rows of the files
    fall in; shape (n, 2), sorted, unique.
    """
    time = source.time_column
    reaching = [f for f in files if f.minimum[time] <= until_ms]
    if not reaching:
        return NO_KEYS
    rows = source.scan(Bounds(end_ms=until_ms), ["series_id", time], reaching, threads=1)
    ids = rows.column("series_id").to_numpy()
    ends = -(-rows.column(time).to_numpy() // tier.width_ms) * tier.width_ms
    # Most repeat their neighbour: files are sorted.
    first = np.ones(len(ids), dtype=bool)
    first[1:] = (ids[1:] != ids[:-1]) | (ends[1:] != ends[:-1])
    return window_keys.unique_keys(np.stack([ids[first], ends[first]], axis=1))


def span_of(file: LiveFile, time: str, width_ms: int) -> Window:
    """The range of windows that rows of a file can fall in, by its statistics."""
    return Window(
        floor_to(file.minimum[time] - 1, width_ms), window_end(file.maximum[time], width_ms)
    )


def _in_late_windows(keys: Ints, task: RollupTask, ids: Ints, times: Ints) -> Mask:
    """Which rows fall in the windows that a repair wants."""
    mask: Mask = window_keys.in_windows(ids, times, task.tier.width_ms, keys)
    return mask | time_ranges.within(times, task.whole_ranges) if task.whole_ranges else mask


NO_KEYS: Ints = np.empty((0, 2), dtype=np.int64)


def _within(ids: Ints, times: Ints, window: Window, series: tuple[int, int] | None) -> Mask:
    inside: Mask = (times > window.start_ms) & (times <= window.end_ms)
    if series is not None:
        inside &= (ids >= series[0]) & (ids <= series[1])
    return inside
