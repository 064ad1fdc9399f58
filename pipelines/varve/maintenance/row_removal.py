"""Takes rows out of a table for good: files lose some of their rows, or go as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from varve.model.window import Window
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.layout import ARRIVAL, COMPACT
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables
from varve.storage.zone_map import Ints, Mask

Gone = Callable[[Ints, Ints], Mask]
"""Tells by series_id and time which rows go."""


@dataclass(frozen=True, slots=True)
class CutFile:
    """A file, some or all of whose rows go."""

    root: Store
    """The root that it is in, alone."""
    file: LiveFile
    """With its path there."""
    rows_gone: int
    rest: NewFile | None
    """The file of the others, in no commit yet; None if there are none."""

    @property
    def removal(self) -> Removal:
        return Removal(self.file.path, self.file.size, rows_disappear=True)


def cut_file(snapshot: Snapshot, file: LiveFile, gone: Gone) -> CutFile | None:
    """Writes the rows of a file that stay as a new one beside it, in their order; None if all do.

    Raises OSError if the storage fails.
    """
    mask = rows_gone(snapshot, file, gone)
    if not mask.any():
        return None
    root, path = snapshot.store.place(file.path)
    rest = None
    if not mask.all():
        rows = snapshot.scan(Bounds(), files=[file])
        layout = COMPACT if COMPACT.wrote(path) else ARRIVAL
        rest = write_file(root, snapshot.table, rows.filter(pa.array(~mask)), layout)
    return CutFile(root, replace(file, path=path), int(mask.sum()), rest)


def rewrite_colder(
    snapshot: Snapshot, cuts: Iterable[CutFile], metadata: Mapping[str, Any]
) -> list[CutFile]:
    """Commits what was cut in colder roots, and gives back the cuts of the root itself. They are
    different tables, so it is no one commit; to repeat it does no harm.

    Raises Conflict if a file was rewritten meanwhile, OSError if a root is out of reach.
    """
    own, by_root = [], dict[str, list[CutFile]]()
    for cut in cuts:
        if cut.root.root == snapshot.store.root:
            own.append(cut)
        else:
            by_root.setdefault(cut.root.root, []).append(cut)
    upgrade_colder(snapshot, [cut.root for there in by_root.values() for cut in there])
    for there in by_root.values():
        table = Table(there[0].root, snapshot.table, files=True)
        adds = [cut.rest for cut in there if cut.rest is not None]
        rewrite(table, adds, [cut.removal for cut in there], metadata=metadata)
    return own


def upgrade_colder(snapshot: Snapshot, roots: Iterable[Store]) -> None:
    """Adds the columns that this release's tables have gained to the table in those roots that are
    not the snapshot's own, to which whoever starts ingest does so.

    Raises OSError if a root is out of reach.
    """
    for root in {root.root: root for root in roots}.values():
        if root.root != snapshot.store.root:
            create_tables(root, (snapshot.table,))


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
