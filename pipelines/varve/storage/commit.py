"""The one way to change a table: an atomic, exactly-once commit of files and positions.

A transaction id names a piece of work ("bulk:<topic id>:3", "frontier:1m"), its stored version
how far that work is. A commit says from which version its work was computed; if another is stored,
a rival was here and nothing is written. The positions are read at version v of the log, and only
version v + 1 is written, if no one else has; whoever loses reads what won and goes on only if it
has nothing in common with it. So every commit is checked against every commit before it.
Source: Delta protocol, "Transaction Identifiers"; docs/adr/0006-one-commit-protocol.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from varve.model.errors import Conflict, NeedsOperator
from varve.storage import positions
from varve.storage.files import NewFile, require_valid
from varve.storage.log import LogEntry
from varve.storage.table import Table

# Attempts to write one commit while others, about other work, take the next version each time.
ATTEMPTS = 100

RESET_KEY = "reset"
"""Metadata of a commit of `reset_positions`: by position, where it stood and where it was put."""


@dataclass(frozen=True, slots=True)
class Step:
    """How a commit moves one position; `new` may equal `expected`."""

    expected: int | None
    """Where it was when the work was computed; None if it had never been set."""
    new: int

    def __post_init__(self) -> None:
        if self.new < 0 or (self.expected is not None and self.new < self.expected):
            raise ValueError(f"a position moves forward: {self.expected} to {self.new}")


@dataclass(frozen=True, slots=True)
class Reset:
    """From the version that a position has to an earlier one."""

    expected: int
    new: int

    def __post_init__(self) -> None:
        if not 0 <= self.new < self.expected:
            raise ValueError(f"a reset moves a position back: {self.expected} to {self.new}")


@dataclass(frozen=True, slots=True)
class Removal:
    """A live file that a rewrite removes."""

    path: str
    size: int
    """Bytes."""
    rows_disappear: bool = False
    """Whether its rows leave the table; else they are in the files added with it."""


def commit(
    table: Table,
    adds: Sequence[NewFile],
    *,
    transactions: Mapping[str, Step],
    metadata: Mapping[str, Any] | None = None,
    unmoved: Mapping[str, int | None] | None = None,
) -> int:
    """Appends rows and moves positions, all or nothing. Returns the version that the commit became,
    which the handle has then reached. unmoved: positions that the work only relies on, with where
    they were; any number of commits may rely on one at the same time.

    Raises Conflict if a stored position is not the expected one, or a rival moved it, to whatever
    version, since it was read: nothing was written, plan again from the table. ValueError if a
    file is not of this table or no transaction is named. OSError if the storage fails so that the
    outcome is unknown: plan again from the table, too.
    """
    if not transactions:
        raise ValueError(f"a commit to {table.name} must name its transaction")
    _require_files_of(table, adds)
    return _write_next_free(table, adds, None, transactions, metadata, unmoved or {})


def rewrite(
    table: Table,
    adds: Sequence[NewFile],
    removes: Sequence[Removal],
    *,
    transactions: Mapping[str, Step] | None = None,
    metadata: Mapping[str, Any] | None = None,
    unmoved: Mapping[str, int | None] | None = None,
) -> int:
    """Replaces files by others with the same rows (compaction), or drops rows (expiry). Returns
    the version it became. unmoved: as `commit` has it.

    Commits again by itself when a rival rewrite touched other files; raises Conflict when a
    file to remove is no longer live: compute the rewrite anew. Other errors as in `commit`.
    """
    _require_files_of(table, adds)
    return _write_next_free(table, adds, removes, transactions or {}, metadata, unmoved)


def reset_positions(
    table: Table,
    resets: Mapping[str, Reset],
    *,
    transactions: Mapping[str, Step],
    reason: str,
) -> int:
    """Moves positions back, which work itself never does: an operator's repair of positions that
    cannot be right. Returns the version it became.

    The commit says in its metadata from where, to where and why. transactions: positions that move
    forward with it, so that running work notices. Raises as `commit` does.
    """
    moved = {name: [reset.expected, reset.new] for name, reset in resets.items()}
    metadata = {RESET_KEY: moved, "reason": reason}
    return _write_next_free(table, [], None, {**transactions, **resets}, metadata)


def _require_files_of(table: Table, adds: Sequence[NewFile]) -> None:
    for new in adds:
        if new.table != table.name:
            raise ValueError(f"{new.path} is a file of {new.table}, not of {table.name}")
        require_valid(new, table.schema)
    paths = [new.path for new in adds]
    if len(set(paths)) < len(paths):
        raise ValueError(f"a commit to {table.name} adds one file twice")


def _write_next_free(
    table: Table,
    adds: Sequence[NewFile],
    removes: Sequence[Removal] | None,
    steps: Mapping[str, Step | Reset],
    metadata: Mapping[str, Any] | None,
    unmoved: Mapping[str, int | None] | None = None,
) -> int:
    """Writes the commit as the first version that no rival takes, as long as the rivals that came
    before it have nothing in common with it. removes: None for an append, whose rows are new.
    """
    table.refresh()
    _check_columns(table)
    wanted = {name: step.expected for name, step in steps.items()} | dict(unmoved or {})
    _check_positions(table, wanted)
    _check_live(table, removes or ())
    rewrites = positions.rewrite(table.name)
    if adds:
        # Tasks have made their content safe; once for all of them, their names.
        table.store.sync(table.name)
    for _ in range(ATTEMPTS):
        moves = {name: step.new for name, step in steps.items()}
        if removes is not None:
            number = table.position(rewrites)
            moves[rewrites] = 0 if number is None else number + 1
        actions = _actions(adds, removes or (), moves, data_change=removes is None)
        if table.write_next("WRITE", actions, metadata):
            return table.version
        rivals = table.refresh()
        if rivals is None:
            raise Conflict(f"{table.name}: the log has moved on beyond what it keeps")
        for rival in rivals:
            _check_rival(table.name, rival, wanted, removes or ())
    raise Conflict(f"{table.name}: {ATTEMPTS} others in a row were faster")


def _check_columns(table: Table) -> None:
    missing = [c.name for c in table.schema.stored_columns if c.name not in table.columns]
    if missing:
        raise NeedsOperator(
            f"{table.store.uri(table.name)} has no column {missing[0]} yet: start `varve up` or an"
            " ingest job of this release once, which adds it"
        )


def _check_positions(table: Table, wanted: Mapping[str, int | None]) -> None:
    for name, expected in wanted.items():
        stored = table.position(name)
        if stored != expected:
            raise Conflict(f"{table.name}: {name} is at {stored}, not at {expected}")


def _check_live(table: Table, removes: Sequence[Removal]) -> None:
    if not removes:
        return
    live = table.live_files()
    for removal in removes:
        if removal.path not in live:
            raise Conflict(f"{table.name}: {removal.path} is no longer live")


def _check_rival(
    table: str, rival: LogEntry, wanted: Mapping[str, int | None], removes: Sequence[Removal]
) -> None:
    where = f"{table}: version {rival.version}, by a rival,"
    if rival.table_metadata is not None or rival.protocol is not None:
        raise Conflict(f"{where} changed the table's columns or protocol")
    if common := wanted.keys() & rival.positions.keys():
        raise Conflict(f"{where} moved {min(common)}")
    if common := {r.path for r in removes} & set(rival.removes):
        raise Conflict(f"{where} removed {min(common)}")


def _actions(
    adds: Sequence[NewFile],
    removes: Sequence[Removal],
    moves: Mapping[str, int],
    *,
    data_change: bool,
) -> Iterable[Mapping[str, Any]]:
    now_ms = int(time.time() * 1000)
    for name, version in moves.items():
        yield {"txn": {"appId": name, "version": version, "lastUpdated": now_ms}}
    for gone in removes:
        yield {
            "remove": {
                "path": quote(gone.path),
                "deletionTimestamp": now_ms,
                "dataChange": gone.rows_disappear,
                "extendedFileMetadata": True,
                "partitionValues": {},
                "size": gone.size,
            }
        }
    for new in adds:
        yield {
            "add": {
                "path": quote(new.path),
                "partitionValues": {},
                "size": new.size,
                "modificationTime": now_ms,
                # The rows of a rewrite were there before: whoever follows the table skips them.
                "dataChange": data_change,
                "stats": new.statistics(),
            }
        }
