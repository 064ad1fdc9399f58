"""The state of a table at a version: its positions and live files, from checkpoint and log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from varve.model.errors import NeedsOperator
from varve.storage.log import (
    LiveFile,
    LogEntry,
    entries,
    file_name,
    list_checkpoints,
    live_file,
    newer,
)
from varve.storage.store import Store

# Versions from one checkpoint to the next.
CHECKPOINT_INTERVAL = 100
_HINT = "_delta_log/_last_checkpoint"
# Checkpoints asked for by name before the log is listed; one may be missing after a crash.
_PROBES = 3
_COLUMNS = (
    "add.path",
    "add.size",
    "add.stats",
    "txn.appId",
    "txn.version",
    "metaData",
    "protocol.minReaderVersion",
    "protocol.readerFeatures",
)


@dataclass(slots=True)
class State:
    """Of one version. Changed by `apply` only. files: by path, None if not asked for."""

    version: int
    positions: dict[str, int] = field(default_factory=dict)
    table_metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, LiveFile] | None = None

    def apply(self, entry: LogEntry) -> None:
        """Moves to the next version. Raises NeedsOperator if it is not of our kind of table."""
        self.version = entry.version
        self.positions |= entry.positions
        if entry.protocol is not None:
            _require_plain(entry.protocol)
        if entry.table_metadata is not None:
            self.table_metadata = entry.table_metadata
        if self.files is not None:
            for path in entry.removes:
                self.files.pop(path, None)
            for file in (*entry.adds, *entry.rewritten):
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
    checkpoint = _newest_checkpoint(store, table, version)
    if checkpoint is None:
        if not store.exists(table, file_name(0)):
            return None
        state = State(-1, files={} if files else None)
    else:
        state = _read_checkpoint(store, table, checkpoint, files=files)
    if version is None:
        following = newer(store, table, state.version)
    else:
        following = entries(store, table, state.version, version)
    for entry in following:
        state.apply(entry)
    return state


def _newest_checkpoint(store: Store, table: str, version: int | None) -> int | None:
    try:
        hint = int(json.loads(store.read(table, _HINT))["version"])
    except FileNotFoundError:
        hint = None
    if hint is not None and (version is None or hint <= version):
        return hint
    if version is not None:
        last = (version + 1) // CHECKPOINT_INTERVAL * CHECKPOINT_INTERVAL - 1
        for candidate in range(
            last, max(last - _PROBES * CHECKPOINT_INTERVAL, 0), -CHECKPOINT_INTERVAL
        ):
            if store.exists(table, _checkpoint_name(candidate)):
                return candidate
    if store.exists(table, file_name(0)):
        return None
    there = [c for c in list_checkpoints(store, table) if version is None or c <= version]
    if not there and hint is not None:
        raise NeedsOperator(
            f"{store.uri(table)}: version {version} has expired; ask for a newer one"
        )
    return there[-1] if there else None


def _read_checkpoint(store: Store, table: str, version: int, *, files: bool) -> State:
    wanted = [c for c in _COLUMNS if files or not c.startswith("add.")]
    with store.filesystem(table).open_input_file(_checkpoint_name(version)) as source:
        rows = pq.ParquetFile(source).read(columns=wanted)
    state = State(version)
    for action in _present(rows, "txn").to_pylist():
        state.positions[action["appId"]] = action["version"]
    for action in _present(rows, "protocol").to_pylist():
        _require_plain(action)
    for action in _present(rows, "metaData").to_pylist():
        # Maps come as lists of pairs.
        action["configuration"] = dict(action["configuration"])
        action["format"] = action["format"] | {"options": dict(action["format"]["options"])}
        state.table_metadata = action
    if files:
        adds = _present(rows, "add")
        paths, sizes, texts = (adds.field(n).to_pylist() for n in ("path", "size", "stats"))
        stats = json.loads(f"[{','.join(t or '{}' for t in texts)}]")
        state.files = {
            path: live_file(path, size, s)
            for path, size, s in zip(paths, sizes, stats, strict=True)
        }
    return state


def _present(rows: pa.Table, action: str) -> pa.StructArray:
    column = rows.column(action).combine_chunks()
    return column.filter(column.is_valid())


def _require_plain(protocol: dict[str, Any]) -> None:
    if protocol["minReaderVersion"] > 1 or protocol.get("readerFeatures"):
        raise NeedsOperator(
            "another program has switched on a feature of Delta that Varve does not read"
            f" ({protocol}): restore the table to a version before that"
        )


def _checkpoint_name(version: int) -> str:
    return f"_delta_log/{version:020d}.checkpoint.parquet"
