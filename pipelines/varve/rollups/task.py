"""One task of a rollup: read the files of a time range, aggregate, write one file of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model import copies
from varve.model.staleness import from_column
from varve.model.window import Tier, Window
from varve.rollups import algebra, kernel
from varve.rollups.algebra import Rows
from varve.storage.files import NewFile, write_file
from varve.storage.log import LiveFile
from varve.storage.snapshot import Bounds, Snapshot
from varve.storage.store import Store


@dataclass(frozen=True)
class RollupTask:
    """Windows of `tier` within `range` (whole windows), from the source at version `revision`.

    keys: None for every window of the range; else series_id and window_end of those wanted,
    int64, shape (n, 2).
    """

    store: Store
    tier: Tier
    range: Window
    revision: int
    files: tuple[LiveFile, ...]
    keys: npt.NDArray[np.int64] | None = None


def run_task(task: RollupTask) -> NewFile | None:
    """The file written, in no commit yet; None if there is nothing in the range."""
    table = compute(task)
    if not table.num_rows:
        return None
    return write_file(task.store, task.tier.table, table)


def compute(task: RollupTask) -> pa.Table:
    """The rows of the task, sorted by (series_id, window_end)."""
    source = Snapshot(task.store, task.tier.source, task.revision, task.files)
    ids = None if task.keys is None else np.unique(task.keys[:, 0])
    bounds = Bounds(task.range.start_ms, task.range.end_ms, ids)
    aggregate = _lifted if task.tier.source == "samples" else _merged
    rows = aggregate(source, bounds, task.tier)
    table = algebra.to_table(rows, task.revision)
    if task.keys is not None:
        wanted = kernel.among(rows.series_id, rows.window_end, task.keys)
        table = table.filter(pa.array(wanted))
    return table


def touched(
    source: Snapshot, files: Sequence[LiveFile], tier: Tier, until_ms: int
) -> npt.NDArray[np.int64]:
    """Keys (series_id, window_end) of the tier's windows up to until_ms that rows of the files
    fall in; int64, shape (n, 2), sorted, unique.
    """
    late = [f for f in files if f.minimum[source.time_column] <= until_ms]
    if not late:
        return np.empty((0, 2), dtype=np.int64)
    rows = source.scan(Bounds(end_ms=until_ms), ["series_id", source.time_column], late)
    ids = rows.column("series_id").to_numpy()
    ends = -(-rows.column(source.time_column).to_numpy() // tier.width_ms) * tier.width_ms
    return unique_keys(np.stack([ids, ends], axis=1))


def unique_keys(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sorted by (series_id, window_end), each once."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return keys[first]


def _lifted(source: Snapshot, bounds: Bounds, tier: Tier) -> Rows:
    table = source.scan(bounds)
    ids, ts = table.column("series_id").to_numpy(), table.column("ts").to_numpy()
    values = from_column(table.column("value"))
    chosen = copies.order(ids, ts, values)
    return kernel.lift(ids[chosen], ts[chosen], values[chosen], tier.width_ms)


def _merged(source: Snapshot, bounds: Bounds, tier: Tier) -> Rows:
    rows = algebra.from_table(algebra.latest(source.scan(bounds)))
    return kernel.merge(rows, tier.width_ms)
