"""The state of a table at a version: its positions and live files, from checkpoint and log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from varve.storage import checkpoint
from varve.storage.log import LiveFile, LogEntry, entries, file_name, newer
from varve.storage.protocol import require_readable
from varve.storage.store import Store


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


def load(
    store: Store, table: str, *, version: int | None = None, files: bool = True
) -> State | None:
    """The newest state, or that of a version. None if the table does not exist.

    Raises NeedsOperator if the version is not there (yet, or any more), or if another program
    has changed the table into something this one cannot read.
    """
    state = State(store.uri(table), files={} if files else None)
    base = checkpoint.newest_version(store, table, version)
    if base is not None:
        state.apply(checkpoint.read(store, table, base, files=files))
    elif not store.exists(table, file_name(0)):
        return None
    if version is None:
        following = newer(store, table, state.version)
    else:
        following = entries(store, table, state.version, version)
    for entry in following:
        state.apply(entry)
    return state
