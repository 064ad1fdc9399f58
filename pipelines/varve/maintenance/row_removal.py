"""Takes rows out of a table for good: files lose some of their rows, or go as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from varve.model.window import Window
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal
from varve.storage.files import NewFile, write_file
from varve.storage.layout import ARRIVAL, COMPACT
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.zone_map import Ints, Mask

Gone = Callable[[Ints, Ints], Mask]
"""Tells by series_id and time which rows go."""


@dataclass(frozen=True, slots=True)
class CutFile:
    """A file, some or all of whose rows go."""

    file: LiveFile
    rows_gone: int
    rest: NewFile | None
    """The file of the others, in no commit yet; None if there are none."""

    @property
    def removal(self) -> Removal:
        return Removal(self.file.path, self.file.size, rows_disappear=True)


def cut_file(snapshot: Snapshot, file: LiveFile, gone: Gone) -> CutFile | None:
    """Writes the rows of a file that stay as a new one, in their order; None if all do.

    Raises OSError if the storage fails.
    """
    mask = rows_gone(snapshot, file, gone)
    if not mask.any():
        return None
    rest = None
    if not mask.all():
        rows = snapshot.scan(Bounds(), files=[file])
        layout = COMPACT if COMPACT.wrote(file.path) else ARRIVAL
        rest = write_file(snapshot.store, snapshot.table, rows.filter(pa.array(~mask)), layout)
    return CutFile(file, int(mask.sum()), rest)


def rows_gone(snapshot: Snapshot, file: LiveFile, gone: Gone) -> Mask:
    """Which rows of a file go."""
    keys = snapshot.scan(Bounds(), ["series_id", snapshot.time_column], [file])
    ids, times = (keys.column(n).to_numpy() for n in range(2))
    return gone(ids, times)


def within(series: Ints, times: Ints, ids: Ints, window: Window) -> Mask:
    """Which rows are of some series, in a range of time."""
    mask: Mask = (times > window.start_ms) & (times <= window.end_ms)
    if mask.any():
        mask[mask] = np.isin(series[mask], ids)
    return mask
