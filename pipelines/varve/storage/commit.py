"""The one way to change a table: an atomic, exactly-once commit of files and positions.

A transaction id names a piece of work ("bulk:<topic id>:3", "frontier:1m"), its stored version how far
that work is. A commit says from which version its work was computed; if another is stored, a
rival was here and nothing is written. delta-rs alone would accept a repeated or lower version
from a fresh handle, and refuses a rival only if both commits set one same id; this check and the
conflict check of the log together let exactly one of two rivals through.
Source: Delta protocol, "Transaction identifiers" and "Change data"; docs/adr/0006.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction, Transaction

from varve.model.errors import Conflict
from varve.storage.files import NewFile, check
from varve.storage.table import Table

METADATA_KEY = "varve"
# Attempts to place one commit while others, about other work, win the next version.
ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class Step:
    """From the version the work was computed from (None: never set) to the new one, inclusive."""

    expected: int | None
    new: int

    def __post_init__(self) -> None:
        if self.new < 0 or (self.expected is not None and self.new < self.expected):
            raise ValueError(f"a position moves forward: {self.expected} to {self.new}")


@dataclass(frozen=True, slots=True)
class Removal:
    """A live file to remove. rows_disappear: its rows are not in the files added with it."""

    path: str
    size: int
    rows_disappear: bool = False


def commit(
    table: Table,
    adds: Sequence[NewFile],
    *,
    transactions: Mapping[str, Step],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Appends rows and moves positions, all or nothing. Leaves the handle at the newest version.

    Raises Conflict if a stored position is not the expected one: nothing was written, plan
    again from the table. ValueError if a file is not of this table or no transaction is named.
    """
    _require(transactions, adds, table)
    actions = [_add(f, data_change=True) for f in adds]
    _check_positions(table, transactions)
    _place(table, actions, transactions, metadata)


def rewrite(
    table: Table,
    adds: Sequence[NewFile],
    removes: Sequence[Removal],
    *,
    transactions: Mapping[str, Step] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Replaces files by others with the same rows (compaction), or drops rows (expiry).

    Commits again by itself when a rival rewrite touched other files; raises Conflict when a
    file to remove is no longer live: compute the rewrite anew.
    """
    lock = f"rewrite:{table.name}"
    given = dict(transactions or {})
    _require({lock: Step(None, 0)}, adds, table)
    actions = [_add(f, data_change=False) for f in adds] + [
        RemoveAction(r.path, r.rows_disappear, int(time.time() * 1000), r.size, {}) for r in removes
    ]
    for _ in range(ATTEMPTS):
        table.refresh()
        live = set(table.live_files().column("path").to_pylist())
        gone = [r.path for r in removes if r.path not in live]
        if gone:
            raise Conflict(f"{table.name}: {gone[0]} is no longer live")
        held = table.position(lock)
        steps = given | {lock: Step(held, 0 if held is None else held + 1)}
        _check_positions(table, steps, refresh=False)
        try:
            _place(table, actions, steps, metadata)
        except Conflict:
            continue
        return
    raise Conflict(f"{table.name}: {ATTEMPTS} rewrites in a row lost the race")


def _require(steps: Mapping[str, Step], adds: Sequence[NewFile], table: Table) -> None:
    if not steps:
        raise ValueError(f"a commit to {table.name} must name its transaction")
    for new in adds:
        if new.table != table.name:
            raise ValueError(f"{new.path} is a file of {new.table}, not of {table.name}")
        check(new, table.schema)


def _check_positions(table: Table, steps: Mapping[str, Step], *, refresh: bool = True) -> None:
    if refresh:
        table.refresh()
    for name, step in steps.items():
        stored = table.position(name)
        if stored != step.expected:
            raise Conflict(f"{table.name}: {name} is at {stored}, not at {step.expected}")


def _place(
    table: Table,
    actions: Sequence[AddAction | RemoveAction],
    steps: Mapping[str, Step],
    metadata: Mapping[str, Any] | None,
) -> None:
    try:
        table.delta.create_write_transaction(
            list(actions),
            "append",
            Schema.from_json(table.schema.delta_json),
            commit_properties=CommitProperties(
                custom_metadata={METADATA_KEY: json.dumps(metadata)} if metadata else None,
                max_commit_retries=ATTEMPTS,
                app_transactions=[Transaction(name, step.new) for name, step in steps.items()],
            ),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
    except CommitFailedError as err:
        raise Conflict(f"{table.name}: {err}") from err
    table.refresh()


def _add(new: NewFile, *, data_change: bool) -> AddAction:
    return AddAction(
        path=new.path,
        size=new.size,
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=data_change,
        stats=new.statistics(),
    )
