"""One task of a rollup: read the files of a time range, aggregate, write one file of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from varve.model import copies
from varve.model.staleness import from_column
from varve.model.window import Tier, Window
from varve.rollups import algebra, kernel, time_ranges, window_keys
from varve.rollups.algebra import Ints, Rows
from varve.storage.bounds import Bounds
from varve.storage.files import NewFile, write_file
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.zone_map import Mask


@dataclass(frozen=True)
class RollupTask:
    """Windows of `tier` within `range` (whole windows), from the source at version `revision`.

    keys: None for every window of the range; else series_id and window_end of those wanted,
    int64, shape (n, 2), sorted, unique, besides all windows within `whole`.
    series: least and greatest series_id, both inclusive; None for all.
    """

    store: Store
    tier: Tier
    range: Window
    revision: int
    files: tuple[LiveFile, ...]
    keys: Ints | None = None
    whole: tuple[Window, ...] = ()
    series: tuple[int, int] | None = None


def run_task(task: RollupTask) -> NewFile | None:
    """The file written, in no commit yet; None if there is nothing in the range."""
    table = compute(task)
    if not table.num_rows:
        return None
    return write_file(task.store, task.tier.table, table)


def compute(task: RollupTask) -> pa.Table:
    """The rows of the task, sorted by (series_id, window_end)."""
    source = Snapshot(task.store, task.tier.source, task.revision, task.files)
    wanted = None if task.keys is None else partial(_late, task.keys, task)
    bounds = Bounds(task.range.start_ms, task.range.end_ms, series=task.series)
    rows = source.scan(bounds, files=task.files, wanted=wanted, threads=1)
    return algebra.to_table(rolled_up(rows, task.tier, task.range, task.series), task.revision)


def rolled_up(
    rows: pa.Table, tier: Tier, window: Window, series: tuple[int, int] | None = None
) -> Rows:
    """The tier's windows within `window`, and a range of series, of rows of the table below, which
    may be in any order, with copies and old revisions; sorted by (series_id, window_end).
    """
    if tier.source == "samples":
        ids, ts = rows.column("series_id").to_numpy(), rows.column("ts").to_numpy()
        values = from_column(rows.column("value"))
        wanted = _within(ids, ts, window, series)
        if not wanted.all():
            ids, ts, values = ids[wanted], ts[wanted], values[wanted]
        return kernel.lift(*copies.merge(ids, ts, values), tier.width_ms)
    below = algebra.from_table(rows)
    ids, ends = below.series_id, below.window_end
    chosen = window_keys.newest(ids, ends, rows.column("revision").to_numpy())
    wanted = _within(ids, ends, window, series)
    if not wanted.all():
        chosen = chosen[wanted[chosen]]
    return kernel.merge(below, chosen, tier.width_ms)


def touched(source: Snapshot, files: Sequence[LiveFile], tier: Tier, until_ms: int) -> Ints:
    """Keys (series_id, window_end) of the tier's windows up to until_ms that rows of the files
    fall in; shape (n, 2), sorted, unique.
    """
    late = [f for f in files if f.minimum[source.time_column] <= until_ms]
    if not late:
        return NO_KEYS
    time = source.time_column
    rows = source.scan(Bounds(end_ms=until_ms), ["series_id", time], late, threads=1)
    ids = rows.column("series_id").to_numpy()
    ends = -(-rows.column(time).to_numpy() // tier.width_ms) * tier.width_ms
    # Most repeat their neighbour: files are sorted.
    first = np.ones(len(ids), dtype=bool)
    first[1:] = (ids[1:] != ids[:-1]) | (ends[1:] != ends[:-1])
    return window_keys.unique_keys(np.stack([ids[first], ends[first]], axis=1))


def _late(keys: Ints, task: RollupTask, ids: Ints, times: Ints) -> Mask:
    """Which rows fall in the windows that a repair wants."""
    found: Mask = window_keys.within_keys(ids, times, task.tier.width_ms, keys)
    return found | time_ranges.within(times, task.whole) if task.whole else found


NO_KEYS: Ints = np.empty((0, 2), dtype=np.int64)


def _within(ids: Ints, times: Ints, window: Window, series: tuple[int, int] | None) -> Mask:
    inside: Mask = (times > window.start_ms) & (times <= window.end_ms)
    if series is not None:
        inside &= (ids >= series[0]) & (ids <= series[1])
    return inside
