"""The log of a table: what each version added and removed, and by what work.

A version is a file of JSON actions, _delta_log/<20 digits>.json; the next one is created only if
absent. Source: Delta protocol, "Delta Log Entries" and "Actions".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from varve.model.errors import NeedsOperator
from varve.storage.store import Store

FOLDER = "_delta_log"
"""Where a table's log lies, relative to the table's folder."""
# Keys of commitInfo. Under the first is a commit's metadata, as JSON; under the second its
# identity, which makes its file unlike all others: a writer that does not know whether its commit
# arrived compares.
_METADATA_KEY = "varve"
_IDENTITY_KEY = "varveCommit"
_ENGINE = "varve"
# Versions asked for at once, at most.
_AHEAD = 64
_VERSION = re.compile(r"\d{20}\.json")


class LogExpired(NeedsOperator):
    """A version of the log is no longer there, or not yet."""


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file of a table. minimum, maximum: bounds of its rows by column, both inclusive."""

    path: str
    size: int
    rows: int
    minimum: dict[str, int]
    maximum: dict[str, int]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What one version of a table changed."""

    version: int
    adds: tuple[LiveFile, ...] = ()
    """Files with new rows."""
    replacements: tuple[LiveFile, ...] = ()
    """Files that take the place of others: their rows were in the table before."""
    removes: tuple[str, ...] = ()
    """Paths of files that are live no more."""
    loses_rows: bool = False
    """Whether rows of the removed files are in the table no more."""
    positions: dict[str, int] = field(default_factory=dict)
    """Versions by transaction id, of those that the commit moved."""
    timestamp_ms: int | None = None
    """When it was written, Unix ms UTC; None if it does not say."""
    size: int = 0
    """Bytes of its file."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What the writer said of its commit; empty if another program wrote it."""
    table_metadata: dict[str, Any] | None = None
    """Delta's metaData action, if the version sets it."""
    protocol: dict[str, Any] | None = None
    """Delta's protocol action, if the version sets it."""


def file_name(version: int) -> str:
    """Path of a version's file, relative to the table's folder."""
    return f"{FOLDER}/{version:020d}.json"


def entries(store: Store, table: str, after: int, until: int) -> Iterator[LogEntry]:
    """Versions in (after, until], ascending.

    Raises LogExpired if one of them is not there: the reader must start over from a snapshot.
    """
    for version, body in enumerate(bodies(store, table, after, until), after + 1):
        yield _read(table, version, body)


def bodies(store: Store, table: str, after: int, until: int) -> Iterator[bytes]:
    """The files of the versions in (after, until], as `entries` gives them."""
    for start in range(after + 1, until + 1, _AHEAD):
        versions = range(start, min(start + _AHEAD, until + 1))
        found = store.read_many(table, [file_name(v) for v in versions])
        for version, body in zip(versions, found, strict=True):
            if body is None:
                raise _expired(store, table, version)
            yield body


def newer(store: Store, table: str, after: int) -> Iterator[LogEntry]:
    """Versions above `after`, ascending, up to the newest there is.

    Asks for files by name: listing a log is slow, as it holds a file for every commit of the last
    hours. Asks for one more at a time and, while all are there, for twice as many: two requests to
    an object store for one new version, and as many if there is none. Raises LogExpired like
    `entries`.
    """
    version, ahead = after + 1, 1
    while True:
        names = [file_name(v) for v in range(version, version + ahead)]
        for body in store.read_many(table, names):
            if body is None:
                # The newest version is never expired, so if the one before is gone, so is this.
                # One that was read just now is not gone.
                if (
                    version == after + 1
                    and after >= 0
                    and not store.exists(table, file_name(after))
                ):
                    raise _expired(store, table, version)
                return
            yield _read(table, version, body)
            version += 1
        ahead = min(2 * ahead, _AHEAD) if version > after + 2 else 1


def list_versions(store: Store, table: str) -> list[int]:
    """Versions whose log file still exists, ascending."""
    names = store.list(table, FOLDER)
    return [int(name[:20]) for name in names if _VERSION.fullmatch(name)]


def _read(table: str, version: int, body: bytes) -> LogEntry:
    """Raises NeedsOperator if it is damaged: entries are written whole, and never change."""
    try:
        return parse(version, body)
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise NeedsOperator(
            f"{table}/{file_name(version)} is damaged: restore it, or all tables as of one moment,"
            " from a backup (docs/operations.md, 'Backup and restore')"
        ) from err


def parse(version: int, body: bytes) -> LogEntry:
    """Raises ValueError if it is not a version of a log."""
    adds: list[LiveFile] = []
    replacements: list[LiveFile] = []
    removes: list[str] = []
    positions: dict[str, int] = {}
    info: dict[str, Any] = {}
    table_metadata = protocol = None
    loses_rows = False
    for line in body.splitlines():
        action = json.loads(line)
        if add := action.get("add"):
            (adds if add["dataChange"] else replacements).append(
                live_file(add["path"], add["size"], json.loads(add.get("stats") or "{}"))
            )
        elif remove := action.get("remove"):
            removes.append(unquote(remove["path"]))
            loses_rows |= remove.get("dataChange", True)
        elif txn := action.get("txn"):
            positions[txn["appId"]] = txn["version"]
        else:
            info = action.get("commitInfo") or info
            table_metadata = action.get("metaData") or table_metadata
            protocol = action.get("protocol") or protocol
    return LogEntry(
        version,
        tuple(adds),
        tuple(replacements),
        tuple(removes),
        loses_rows,
        positions,
        timestamp_ms=info.get("timestamp"),
        size=len(body),
        metadata=json.loads(info[_METADATA_KEY]) if _METADATA_KEY in info else {},
        table_metadata=table_metadata,
        protocol=protocol,
    )


def encode(
    identity: str,
    operation: str,
    actions: Iterable[Mapping[str, Any]],
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """The file of a version: commitInfo, then the actions. identity: of this commit alone."""
    info = {
        "timestamp": int(time.time() * 1000),
        "operation": operation,
        "operationParameters": {},
        "engineInfo": _ENGINE,
        _IDENTITY_KEY: identity,
    }
    if metadata:
        info[_METADATA_KEY] = json.dumps(metadata)
    lines: Sequence[Mapping[str, Any]] = [{"commitInfo": info}, *actions]
    return "".join(json.dumps(a, separators=(",", ":")) + "\n" for a in lines).encode()


def live_file(path: str, size: int, stats: Mapping[str, Any]) -> LiveFile:
    """A file as an add action describes it: the path is escaped, `stats` is decoded."""
    return LiveFile(
        unquote(path),
        size,
        stats.get("numRecords", 0),
        stats.get("minValues") or {},
        stats.get("maxValues") or {},
    )


def _expired(store: Store, table: str, version: int) -> LogExpired:
    return LogExpired(
        f"{store.uri(table)}: version {version} of the log has expired before it was read;"
        " rebuild by range"
    )
