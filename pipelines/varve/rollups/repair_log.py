"""The table repairs: what late rows did to closed windows, each noted once, after any crash.

The commit of a tier carries the rows to note, and its position `repairs:` says that they are owed.
The commit to the table repairs follows it; a start makes up for one that a crash has kept back.
Notes are a diary of bounded length: files are merged when they are many, and the oldest rows go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from varve.model.errors import Conflict, NeedsOperator
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS, Tier
from varve.rollups import time_ranges
from varve.rollups.late_rows import LateWindows
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import write_file
from varve.storage.log import entries
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.table import Table

REPAIRS_KEY = "repairs"
"""Metadata of a tier's commit: the rows to note."""


# Rows that one commit of a tier carries at most: beyond, stretches further apart are one row.
MOST_RANGES = 32
# Files from which all of them are merged into one, and the rows that are kept then.
MOST_FILES, MOST_ROWS = 64, 100_000


def rows_of(
    tier: Tier, late: LateWindows, status: str, revision: int, now_ms: int
) -> list[dict[str, Any]]:
    """A row for each stretch of late windows no more than an hour apart, or further if they were
    more than MOST_RANGES.

    status: repaired or refused. revision: the version of the table below. The column windows is 0
    where it is not known which windows of a range lacked rows.
    """
    ends = late.keys[:, 1]
    spans = time_ranges.union(
        [*time_ranges.from_window_ends(ends, tier.width_ms, HOUR_MS), *late.whole_ranges],
        gap_ms=HOUR_MS,
    )
    gap_ms = HOUR_MS
    while len(spans) > MOST_RANGES:
        gap_ms *= 2
        spans = time_ranges.union(spans, gap_ms=gap_ms)
    return [
        {
            "tier": tier.name,
            "start_ms": span.start_ms,
            "end_ms": span.end_ms,
            "status": status,
            "windows": int(time_ranges.within(ends, [span]).sum()),
            "revision": revision,
            "noted_at": now_ms,
        }
        for span in spans
    ]


class RepairNotes:
    """Writes the notes of one tier. Not safe to share by threads."""

    def __init__(self, store: Store, tier: Tier) -> None:
        self._store = store
        self._tier = tier
        self._id = positions.repairs(tier.name)
        self._table = Table(store, "repairs", files=True)

    def write(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Notes the rows of the tier's commit of that number.

        Raises Conflict if somebody else has just done so.
        """
        self._table.refresh()
        noted = self._table.position(self._id)
        # The tier may have been put back to an earlier state than this table.
        step = Step(noted, number if noted is None else max(noted, number))
        table = pa.Table.from_pylist(list(rows), schema=table_schema("repairs").arrow)
        file = write_file(self._store, "repairs", table)
        commit(self._table, [file], transactions={self._id: step})
        if len(self._table.live_files()) > MOST_FILES:
            # Another writer may be at it as well: then it is its work, or the next one's.
            with contextlib.suppress(Conflict):
                self._merge_files()

    def _merge_files(self) -> None:
        """Replaces all files by one of their newest rows."""
        files = list(self._table.live_files().values())
        whole = Snapshot(self._store, "repairs", self._table.version, tuple(files))
        rows = whole.scan(Bounds()).sort_by("noted_at")
        kept = rows.slice(max(rows.num_rows - MOST_ROWS, 0))
        removals = [Removal(f.path, f.size, rows_disappear=len(kept) < len(rows)) for f in files]
        rewrite(self._table, [write_file(self._store, "repairs", kept)], removals)

    def finish(self, target: Table) -> None:
        """Notes what a driver that died has left undone. target: the tier's table.

        Raises NeedsOperator if the commit that owes the notes is no longer in the log.
        """
        self._table.refresh()
        owed, noted = target.position(self._id), self._table.position(self._id)
        if owed is None or (noted is not None and noted >= owed):
            return
        for version in range(target.version, -1, -1):
            (entry,) = entries(self._store, target.name, version - 1, version)
            if entry.positions.get(self._id) == owed:
                self.write(owed, entry.metadata[REPAIRS_KEY])
                return
        raise NeedsOperator(
            f"{target.name}: the repairs of its commit {owed} are not noted and it is not in the"
            f" log: accept their loss by committing the transaction {self._id} = {owed} to repairs"
        )
