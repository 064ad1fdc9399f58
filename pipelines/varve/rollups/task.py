"""One task of a rollup: read the files of a time range, aggregate, write one file of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model.staleness import from_column
from varve.model.window import Tier, Window
from varve.rollups import algebra, kernel, order, ranges
from varve.rollups.algebra import Ints, Rows
from varve.storage.files import NewFile, write_file
from varve.storage.log import LiveFile
from varve.storage.snapshot import Bounds, Snapshot
from varve.storage.store import Store


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
    keyed = task.keys is not None and not task.whole
    ids = np.unique(task.keys[:, 0]) if task.keys is not None and keyed else None
    read = source.scan(Bounds(task.range.start_ms, task.range.end_ms, ids))
    rows = rolled_up(read, task.tier, task.series)
    table = algebra.to_table(rows, task.revision)
    if task.keys is not None:
        wanted = order.among(rows.series_id, rows.window_end, task.keys)
        wanted |= ranges.within(rows.window_end, task.whole)
        table = table.filter(pa.array(wanted))
    return table


def rolled_up(rows: pa.Table, tier: Tier, series: tuple[int, int] | None = None) -> Rows:
    """The tier's windows of rows of the table below, which may be in any order, with copies and
    old revisions; sorted by (series_id, window_end).
    """
    if series is not None:
        rows = rows.filter(_between(rows.column("series_id").to_numpy(), *series))
    if tier.source == "samples":
        columns = (
            rows.column("series_id").to_numpy(),
            rows.column("ts").to_numpy(),
            from_column(rows.column("value")),
        )
        return kernel.lift(*order.samples(*columns), tier.width_ms)
    below = algebra.from_table(rows)
    chosen = order.newest(below.series_id, below.window_end, rows.column("revision").to_numpy())
    return kernel.merge(below, chosen, tier.width_ms)


def touched(source: Snapshot, files: Sequence[LiveFile], tier: Tier, until_ms: int) -> Ints:
    """Keys (series_id, window_end) of the tier's windows up to until_ms that rows of the files
    fall in; shape (n, 2), sorted, unique.
    """
    late = [f for f in files if f.minimum[source.time_column] <= until_ms]
    if not late:
        return NO_KEYS
    rows = source.scan(Bounds(end_ms=until_ms), ["series_id", source.time_column], late)
    ids = rows.column("series_id").to_numpy()
    ends = -(-rows.column(source.time_column).to_numpy() // tier.width_ms) * tier.width_ms
    # Most repeat their neighbour: files are sorted.
    first = np.ones(len(ids), dtype=bool)
    first[1:] = (ids[1:] != ids[:-1]) | (ends[1:] != ends[:-1])
    return order.unique_keys(np.stack([ids[first], ends[first]], axis=1))


NO_KEYS: Ints = np.empty((0, 2), dtype=np.int64)


def _between(ids: Ints, low: int, high: int) -> pa.Array:
    inside: npt.NDArray[np.bool_] = (ids >= low) & (ids <= high)
    return pa.array(inside)
