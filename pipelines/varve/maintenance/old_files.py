"""Drops old files of tables that are computed from others, by the jobs that write them."""

from __future__ import annotations

from collections.abc import Iterable

from varve.model.errors import Conflict
from varve.model.window import DAY_MS
from varve.storage.commit import Removal, rewrite
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table

KEPT_MS = 400 * DAY_MS
"""How long rows of these tables are kept: as hourly rollups by default, thirteen months."""


def drop_old_files(store: Store, names: Iterable[str], until_ms: int) -> int:
    """Removes the files of some tables whose rows are all of times up to until_ms; how many.

    A file that a rival has just merged is left to the next call. Raises OSError if the storage
    fails.
    """
    dropped = 0
    for name in names:
        table = Table(store, name, files=True)
        seen = Snapshot(store, name, table.version, tuple(live_files(table)))
        old = [f for f in seen.files if f.maximum.get(seen.time_column, until_ms + 1) <= until_ms]
        if not old:
            continue
        try:
            rewrite(table, [], [Removal(f.path, f.size, rows_disappear=True) for f in old])
        except Conflict:
            continue
        dropped += len(old)
    return dropped
