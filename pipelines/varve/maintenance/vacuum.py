"""Vacuum: deletes files and log entries that no reader can need any more.

A file that a commit removed stays on disk for KEEP_MS, for readers of earlier versions; a file of a
task that failed was never in a commit. Entries of a table's log stay as long, and longer where a
tier of rollups or an owed commit still has to read them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow.fs as pafs

from varve.ingest.quarantine_expiry import is_owed
from varve.maintenance import deletion
from varve.model.errors import NeedsOperator
from varve.model.record_rows import RECORD_TABLES
from varve.model.schema import TABLES
from varve.model.window import HOUR_MS, TIERS
from varve.storage import positions
from varve.storage.checkpoint import TOMBSTONE_HOURS, lately_removed
from varve.storage.log import entries, list_versions
from varve.storage.log_expiry import expire_log
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

KEEP_MS = TOMBSTONE_HOURS * HOUR_MS
"""How long what no version needs any more stays."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What of a table may be deleted in one root."""

    root: Store
    table: str
    paths: tuple[str, ...]
    """Data files, relative to the table's folder."""
    nbytes: int
    """Bytes of those files."""
    keep_log_from: int
    """The least version whose log entry has to stay."""
    is_colder: bool = False
    """Whether it is not the hot root."""


@dataclass(frozen=True, slots=True)
class AllGarbage:
    """What of all tables may be deleted."""

    tables: tuple[Garbage, ...]

    def as_json(self) -> Mapping[str, Any]:
        return {
            _name(g): {"files": len(g.paths), "bytes": g.nbytes, "keep_log_from": g.keep_log_from}
            for g in self.tables
        }

    def lines(self) -> Iterable[str]:
        for garbage in self.tables:
            yield (
                f"{_name(garbage)}: {len(garbage.paths):,} files of {garbage.nbytes:,} bytes,"
                f" and the log before version {garbage.keep_log_from:,}"
            )


@dataclass(frozen=True, slots=True)
class Deleted:
    """Files and log entries of a table that were deleted."""

    files: int
    log_entries: int


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What was deleted, by table."""

    deleted: Mapping[str, Deleted]

    def as_json(self) -> Mapping[str, Any]:
        return {
            table: {"files": done.files, "log_entries": done.log_entries}
            for table, done in self.deleted.items()
        }

    def lines(self) -> Iterable[str]:
        files = sum(done.files for done in self.deleted.values())
        logged = sum(done.log_entries for done in self.deleted.values())
        yield f"{files:,} files and {logged:,} log entries deleted"


class Vacuum:
    """The batch job: deletes the garbage of every table."""

    name: ClassVar[str] = "vacuum"
    tables: ClassVar[tuple[str, ...]] = TABLES

    def __init__(self, store: Store) -> None:
        self._store = store

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> AllGarbage:
        found = (find_all_garbage(self._store, name, now_ms) for name in snapshots)
        return AllGarbage(tuple(garbage for in_roots in found for garbage in in_roots))

    def run(self, work: AllGarbage) -> Vacuumed:
        return Vacuumed({_name(g): delete(g) for g in work.tables})


def _name(garbage: Garbage) -> str:
    """Of the table; in a colder root with that root."""
    return garbage.root.uri(garbage.table) if garbage.is_colder else garbage.table


def find_all_garbage(store: Store, name: str, now_ms: int) -> list[Garbage]:
    """What `find_garbage` finds in each root. A colder root that is out of reach, or has no such
    table, is left out.
    """
    hot, *colder = store.roots()
    found, above = [find_garbage(hot, name, now_ms)], hot
    for root in colder:
        try:
            found.append(find_garbage(root, name, now_ms, above))
        except (OSError, NeedsOperator) as err:
            log.debug("%s is not vacuumed: %s", root.uri(name), err)
            break
        above = root
    return found


def find_garbage(store: Store, name: str, now_ms: int, above: Store | None = None) -> Garbage:
    """Finds what no version of the last KEEP_MS and no reader needs in one root. Changes nothing.
    above: the root whose files move to this one; None for the hot one.

    A task may write a file for as long as KEEP_MS before it is committed. Raises NeedsOperator
    if there is no such table, OSError if the storage fails.
    """
    table = Table(store, name, files=True)
    is_colder = above is not None
    if _is_owed(store, table) if above is None else _has_arrived(table, Table(above, name)):
        # The files of a commit that a crash left owed are in no version yet, and what tells of
        # them is in the log.
        return Garbage(store, name, (), 0, 0, is_colder)
    since_ms = now_ms - KEEP_MS
    needed = lately_removed(store, name, table.version, since_ms) | table.live_files().keys()
    there = store.filesystem(name).get_file_info(pafs.FileSelector("", recursive=False))
    found = [
        info
        for info in there
        if info.is_file
        and info.extension == "parquet"
        and info.base_name not in needed
        and info.mtime_ns // 1_000_000 < since_ms
    ]
    return Garbage(
        store,
        name,
        tuple(info.base_name for info in found),
        sum(info.size for info in found),
        min(
            _first_version_since(table, since_ms),
            table.version if is_colder else _least_read_version(store, table),
        ),
        is_colder,
    )


def delete(garbage: Garbage) -> Deleted:
    """Deletes the files and the log entries. Those that are gone already are as good."""
    garbage.root.delete(garbage.table, garbage.paths)
    expired = expire_log(Table(garbage.root, garbage.table), garbage.keep_log_from)
    return Deleted(len(garbage.paths), expired)


def _first_version_since(table: Table, since_ms: int) -> int:
    """The first version that was committed at since_ms or later; the newest if none was."""
    there = list_versions(table.store, table.name)
    low, high = 0, len(there) - 1
    while low < high:
        middle = (low + high) // 2
        version = there[middle]
        (entry,) = entries(table.store, table.name, version - 1, version)
        if (entry.timestamp_ms or 0) < since_ms:
            low = middle + 1
        else:
            high = middle
    return there[low]


def _least_read_version(store: Store, table: Table) -> int:
    """The version from which on the tier above, if there is one, reads the table's log."""
    read = [table.version]
    for tier in TIERS:
        if tier.source == table.name:
            marked = Table(store, tier.table).position(positions.source(tier.name))
            read.append(0 if marked is None else marked)
    return min(read)


def _has_arrived(table: Table, above: Table) -> bool:
    """Whether a move into the table is to be finished: its log says which files it is about."""
    arrived, moved = table.position(positions.arrived()), above.position(positions.moved())
    return arrived is not None and (moved is None or moved < arrived)


def _is_owed(store: Store, table: Table) -> bool:
    """Whether a commit in the table's log still has one of another table to follow it: of a batch
    or a replay in quarantine, of repairs in the table repairs, of a deletion in the tiers, of
    events in episodes.
    """
    for tier in TIERS:
        if tier.table == table.name:
            noted = Table(store, "repairs").position(positions.repairs(tier.name))
            owed = table.position(positions.repairs(tier.name))
            return owed is not None and owed > (-1 if noted is None else noted)
    if table.name in ("anomalies", "episodes"):
        owed, noted = (
            Table(store, name).position(positions.events()) for name in ("anomalies", "episodes")
        )
        return owed is not None and owed != noted
    if table.name == "samples" and deletion.is_owed(store):
        return True
    if table.name not in ("samples", *RECORD_TABLES, "quarantine"):
        return False
    return is_owed(store, Table(store, "quarantine"))
