"""The state of a table at a version: its positions and live files, from checkpoint and log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from varve.model.errors import NeedsOperator
from varve.storage import checkpoint
from varve.storage.checkpoint import Growth
from varve.storage.checkpoint_file import Unreadable, read
from varve.storage.log import (
    LiveFile,
    LogEntry,
    LogExpired,
    entries,
    file_name,
    list_versions,
    newer,
)
from varve.storage.protocol import require_readable
from varve.storage.store import Store

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class State:
    """A table at a version. Only `apply` changes it. where: the table, for a person."""

    where: str
    version: int = -1
    positions: dict[str, int] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    table_metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, LiveFile] | None = None
    """Live files by path, in the order they came; None if not asked for."""
    growth: Growth = field(default_factory=Growth)

    def apply(self, entry: LogEntry) -> None:
        """Moves to the version of `entry`. Raises NeedsOperator, and changes nothing, if another
        program has made the table one that Varve cannot read.
        """
        if entry.protocol is not None:
            require_readable(self.where, entry.protocol)
            self.protocol = entry.protocol
        self.version = entry.version
        self.positions |= entry.positions
        if entry.table_metadata is not None:
            self.table_metadata = entry.table_metadata
        if self.files is not None:
            for path in entry.removes:
                self.files.pop(path, None)
            for file in (*entry.adds, *entry.replacements):
                # Newest last, even if it was there: followers rely on the order.
                self.files.pop(file.path, None)
                self.files[file.path] = file
        self.growth.add(entry)


def load(
    store: Store, table: str, *, version: int | None = None, files: bool = True
) -> State | None:
    """The newest state, or that of a version. None if the table does not exist.

    A checkpoint that cannot be read is passed over, which is logged: the one before it or the log
    gives the same. Raises NeedsOperator if neither does, if the version is not there (yet, or any
    more), or if another program has changed the table into something this one cannot read.
    """
    unreadable: list[Unreadable] = []
    state = State(store.uri(table), files={} if files else None)
    base = _newest_checkpoint(store, table, version, unreadable, files=files)
    if base is not None:
        state.apply(base)
    elif not _has_beginning(store, table, version, unreadable):
        return None
    state.growth = Growth(0 if base is None else base.size, is_damaged=bool(unreadable))
    if version is None:
        following = newer(store, table, state.version)
    else:
        following = entries(store, table, state.version, version)
    try:
        for entry in following:
            state.apply(entry)
    except LogExpired as err:
        if unreadable:
            raise _lost(unreadable) from err
        raise
    if any(state.version < damaged.version for damaged in unreadable if not damaged.is_gone):
        raise _lost(unreadable)  # the log went on to there, so a part of it has gone
    return state


def _newest_checkpoint(
    store: Store, table: str, until: int | None, unreadable: list[Unreadable], *, files: bool
) -> LogEntry | None:
    """The newest that can be read; None if there is none. Notes those that cannot be."""
    for version in checkpoint.versions_by_age(store, table, until):
        try:
            return read(store, table, version, files=files)
        except Unreadable as err:
            unreadable.append(err)
            _warn(str(err))
    return None


def _has_beginning(
    store: Store, table: str, until: int | None, unreadable: Sequence[Unreadable]
) -> bool:
    """Whether the log begins with version 0; False if there is no log. Raises NeedsOperator if its
    beginning has expired.
    """
    if store.exists(table, file_name(0)):
        return True
    if unreadable:
        raise _lost(unreadable)
    kept = list_versions(store, table)
    if not kept or kept[0] == 0:
        return bool(kept)  # a rival may have created it just now
    if until is not None:
        raise NeedsOperator(f"{store.uri(table)}: version {until} has expired; ask for a newer one")
    raise NeedsOperator(
        f"{store.uri(table)}: the log begins with version {kept[0]} and there is no checkpoint of"
        " what came before: restore the folder _delta_log from a backup"
    )


def _lost(unreadable: Sequence[Unreadable]) -> NeedsOperator:
    return NeedsOperator(
        f"{unreadable[0]}, and the log no longer reaches back to an older checkpoint: restore that"
        " file from a backup, or the folder _delta_log it is in"
    )


@cache
def _warn(unreadable: str) -> None:
    """Once in the life of a process."""
    _log.warning("%s; an older checkpoint or the log stands in for it", unreadable)
