"""The log of a table, commit by commit: what was added between two versions, and by what work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow.fs as pafs

from varve.model.errors import NeedsOperator
from varve.storage.commit import METADATA_KEY
from varve.storage.store import Store


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file of a version. minimum, maximum: by column, both inclusive."""

    path: str
    size: int
    rows: int
    minimum: dict[str, int]
    maximum: dict[str, int]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One version of a table. adds: files with new rows; rewritten: files whose rows were there."""

    version: int
    timestamp_ms: int
    adds: tuple[LiveFile, ...] = ()
    rewritten: tuple[LiveFile, ...] = ()
    removes: tuple[str, ...] = ()
    positions: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def entries(store: Store, table: str, after: int, until: int) -> Iterator[LogEntry]:
    """Versions in (after, until], ascending.

    Raises NeedsOperator if one of them has been expired: the reader must start over from a
    snapshot.
    """
    fs = store.filesystem(table)
    for version in range(after + 1, until + 1):
        path = f"_delta_log/{version:020d}.json"
        try:
            with fs.open_input_stream(path) as stream:
                text = stream.read()
        except FileNotFoundError as err:
            raise NeedsOperator(
                f"{store.uri(table)}: version {version} of the log has expired before it was read;"
                " rebuild by range"
            ) from err
        yield _entry(version, text.decode())


def list_versions(store: Store, table: str) -> list[int]:
    """Versions whose log file still exists, ascending."""
    selector = pafs.FileSelector("_delta_log")
    infos = store.filesystem(table).get_file_info(selector)
    return sorted(int(i.base_name[:-5]) for i in infos if i.base_name.endswith(".json"))


def _entry(version: int, text: str) -> LogEntry:
    adds, rewritten, removes, positions = [], [], [], {}
    metadata: dict[str, Any] = {}
    timestamp = 0
    for line in text.splitlines():
        action = json.loads(line)
        if add := action.get("add"):
            (adds if add["dataChange"] else rewritten).append(_live(add))
        elif remove := action.get("remove"):
            removes.append(remove["path"])
        elif txn := action.get("txn"):
            positions[txn["appId"]] = txn["version"]
        elif info := action.get("commitInfo"):
            timestamp = info.get("timestamp", 0)
            metadata = json.loads(info[METADATA_KEY]) if METADATA_KEY in info else {}
    return LogEntry(
        version, timestamp, tuple(adds), tuple(rewritten), tuple(removes), positions, metadata
    )


def _live(add: dict[str, Any]) -> LiveFile:
    stats = json.loads(add.get("stats") or "{}")
    return LiveFile(
        add["path"],
        add["size"],
        stats.get("numRecords", 0),
        stats.get("minValues", {}),
        stats.get("maxValues", {}),
    )
