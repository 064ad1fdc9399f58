"""Vacuum: deletes data files that no reader can need any more.

A file that a commit removed stays on disk for a while, for readers of earlier versions; a file of
a task that failed was never in a commit. Both go once they are older than `keep_ms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from deltalake import DeltaTable

from varve.model.schema import TABLES
from varve.model.window import HOUR_MS
from varve.storage import positions
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.table import Table


@dataclass(frozen=True, slots=True)
class Garbage:
    """Files of a table that may be deleted: paths relative to its folder, and their bytes."""

    table: str
    paths: tuple[str, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class AllGarbage:
    """The files of all tables that may be deleted."""

    tables: tuple[Garbage, ...]

    def as_json(self) -> Mapping[str, Any]:
        return {g.table: {"files": len(g.paths), "bytes": g.nbytes} for g in self.tables}

    def lines(self) -> Iterable[str]:
        for garbage in self.tables:
            yield f"{garbage.table}: {len(garbage.paths):,} files of {garbage.nbytes:,} bytes"


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """Files deleted, by table."""

    deleted: Mapping[str, int]

    def as_json(self) -> Mapping[str, Any]:
        return {"deleted": dict(self.deleted)}

    def lines(self) -> Iterable[str]:
        yield f"{sum(self.deleted.values()):,} files deleted"


class Vacuum:
    """The batch job: deletes the garbage of every table."""

    name: ClassVar[str] = "vacuum"
    tables: ClassVar[tuple[str, ...]] = TABLES

    def __init__(self, store: Store, keep_ms: int) -> None:
        """keep_ms: how long a file that no version needs stays, at least an hour."""
        self._store, self._keep_ms = store, keep_ms

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> AllGarbage:
        return AllGarbage(
            tuple(find_garbage(self._store, name, now_ms, self._keep_ms) for name in snapshots)
        )

    def run(self, work: AllGarbage) -> Vacuumed:
        return Vacuumed({g.table: delete(self._store, g) for g in work.tables})


def find_garbage(store: Store, name: str, now_ms: int, keep_ms: int) -> Garbage:
    """Finds files in no version of the last keep_ms and themselves at least as old.

    A task may write a file for as long as keep_ms before it is committed. Raises NeedsOperator
    if there is no such table, OSError or a DeltaError if the storage fails.
    """
    table = Table(store, name, files=True)
    if _owed(store, table):
        # The files of a commit that a crash left owed are in no version yet.
        return Garbage(name, (), 0)
    candidates = DeltaTable(store.uri(name), storage_options=store.delta_options).vacuum(
        retention_hours=max(1, keep_ms // HOUR_MS),
        dry_run=True,
        enforce_retention_duration=False,
        full=True,
    )
    live = table.live_files()
    found = [
        info
        for info in store.filesystem(name).get_file_info(
            [path for path in candidates if path.endswith(".parquet") and "/" not in path]
        )
        if info.is_file and info.path not in live and info.mtime_ns // 1_000_000 < now_ms - keep_ms
    ]
    return Garbage(name, tuple(info.path for info in found), sum(info.size for info in found))


def delete(store: Store, garbage: Garbage) -> int:
    """Deletes the files and returns how many there were. A file that is gone already is as good."""
    filesystem, deleted = store.filesystem(garbage.table), 0
    for path in garbage.paths:
        try:
            filesystem.delete_file(path)
        except FileNotFoundError:
            continue
        deleted += 1
    return deleted


def _owed(store: Store, table: Table) -> bool:
    """Whether a batch or a replay still owes the table a commit that its log of samples names."""
    if table.name != "quarantine":
        return False
    settled = table.positions()
    return any(
        version > settled.get(name, -1)
        for name, version in Table(store, "samples").positions().items()
        if name.startswith((positions.REJECTS, positions.REPLAY))
    )
