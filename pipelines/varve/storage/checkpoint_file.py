"""The form of a checkpoint: a Parquet file with a row for each action of a log that is in force.

Source: Delta protocol, "Checkpoint Schema".
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varve.model.errors import VarveError
from varve.storage.log import FOLDER, LiveFile, LogEntry, live_file
from varve.storage.store import Store

RETENTION = "delta.deletedFileRetentionDuration"
"""Property of a table: how long a removed file stays named in checkpoints."""

_UNIT_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
# What a local disk says of a file that it cannot give back.
_DAMAGED = frozenset({errno.EIO, errno.EISDIR, errno.EBADMSG, errno.EUCLEAN})
# Delta's own, where a table does not say.
_DEFAULT_RETENTION_MS = _UNIT_MS["week"]

_TEXTS = pa.map_(pa.string(), pa.string())
_TYPES = {
    "protocol": pa.struct(
        [
            ("minReaderVersion", pa.int32()),
            ("minWriterVersion", pa.int32()),
            ("readerFeatures", pa.list_(pa.string())),
            ("writerFeatures", pa.list_(pa.string())),
        ]
    ),
    "metaData": pa.struct(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("description", pa.string()),
            ("format", pa.struct([("provider", pa.string()), ("options", _TEXTS)])),
            ("schemaString", pa.string()),
            ("partitionColumns", pa.list_(pa.string())),
            ("createdTime", pa.int64()),
            ("configuration", _TEXTS),
        ]
    ),
    "txn": pa.struct(
        [("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())]
    ),
    "remove": pa.struct(
        [
            ("path", pa.string()),
            ("deletionTimestamp", pa.int64()),
            ("dataChange", pa.bool_()),
            ("extendedFileMetadata", pa.bool_()),
            ("partitionValues", _TEXTS),
            ("size", pa.int64()),
        ]
    ),
    "add": pa.struct(
        [
            ("path", pa.string()),
            ("partitionValues", _TEXTS),
            ("size", pa.int64()),
            ("modificationTime", pa.int64()),
            ("dataChange", pa.bool_()),
            ("stats", pa.string()),
        ]
    ),
}
# Fields in which the actions of files differ; tables have no partitions.
_FILE_FIELDS = {
    "add": ("path", "size", "modificationTime", "stats"),
    "remove": ("path", "size", "deletionTimestamp"),
}


class Unreadable(VarveError):
    """A checkpoint is empty, cut, damaged or gone, or holds no state of a table."""

    def __init__(self, where: str, version: int, err: Exception) -> None:
        self.version = version
        self.is_gone = isinstance(err, FileNotFoundError)
        reason = "is gone" if self.is_gone else f"cannot be read: {' '.join(str(err).split())}"
        super().__init__(f"{where}/{path_of(version)} {reason}")


def path_of(version: int) -> str:
    """Path of a version's checkpoint, relative to the table's folder."""
    return f"{FOLDER}/{version:020d}.checkpoint.parquet"


def read(store: Store, table: str, version: int, *, files: bool) -> LogEntry:
    """The checkpoint of a version as one entry that stands for all up to it. files: whether its
    live files are wanted. Raises Unreadable.
    """
    wanted = ("protocol", "metaData", "txn", *(("add",) if files else ()))
    rows, size = _read(store, table, version, wanted)
    with _judged(store, table, version):
        return LogEntry(
            version,
            size=size,
            adds=_live_files(_present(rows, "add")) if files else (),
            positions={t["appId"]: t["version"] for t in _present(rows, "txn").to_pylist()},
            table_metadata=_table_metadata(rows),
            protocol=_unique(rows, "protocol"),
        )


class Contents:
    """What a checkpoint holds: the actions of a log up to a version that are in force.

    Files stay columns, as there may be very many: what the log since the last checkpoint says of
    some of them is laid over those.
    """

    def __init__(self) -> None:
        """Makes the contents of a log without a checkpoint, before its first version."""
        self.version = -1
        self._protocol: dict[str, Any] = {}
        self._table_metadata: dict[str, Any] = {}
        self._transactions: dict[str, dict[str, Any]] = {}
        self._adds = pa.array([], _TYPES["add"])
        self._removes = pa.array([], _TYPES["remove"])
        self._since: dict[str, tuple[str, dict[str, Any]]] = {}
        """By path, the last of the later actions that name it: add or remove, and its fields."""

    @classmethod
    def read(cls, store: Store, table: str, version: int) -> Contents:
        """Reads the contents of a checkpoint. Raises Unreadable."""
        rows, _ = _read(store, table, version, tuple(_TYPES))
        found = cls()
        found.version = version
        with _judged(store, table, version):
            found._protocol = _unique(rows, "protocol")
            found._table_metadata = _table_metadata(rows)
            found._transactions = {t["appId"]: t for t in _present(rows, "txn").to_pylist()}
            found._adds, found._removes = _files(rows, "add"), _files(rows, "remove")
        return found

    def apply(self, body: bytes) -> None:
        """Goes on by one version of the log, given by its file."""
        self.version += 1
        for line in body.splitlines():
            for name, action in json.loads(line).items():
                if name in _FILE_FIELDS:
                    self._since[unquote(action["path"])] = name, action
                elif name == "txn":
                    self._transactions[action["appId"]] = action
                elif name == "protocol":
                    self._protocol = action
                elif name == "metaData":
                    self._table_metadata = action

    def table(self, now_ms: int) -> tuple[pa.Table, int]:
        """The rows of the checkpoint, and how many of them are live files. Removed files are named
        for as long as the table's RETENTION says.
        """
        adds, removes = self._merged("add", self._adds), self._merged("remove", self._removes)
        removed_ms = pc.fill_null(removes.field("deletionTimestamp"), 0)
        expired_ms = now_ms - _retention_ms(self._table_metadata.get("configuration") or {})
        parts = {
            "protocol": pa.array([self._protocol], _TYPES["protocol"]),
            "metaData": pa.array([self._table_metadata], _TYPES["metaData"]),
            "txn": pa.array(list(self._transactions.values()), _TYPES["txn"]),
            "remove": removes.filter(pc.greater(removed_ms, expired_ms)),
            "add": adds,
        }
        size, before, columns = sum(map(len, parts.values())), 0, {}
        for name, part in parts.items():
            after = size - before - len(part)
            nulls = (pa.nulls(before, part.type), pa.nulls(after, part.type))
            columns[name] = pa.concat_arrays([nulls[0], part, nulls[1]])
            before += len(part)
        return pa.table(columns), len(adds)

    def removed_paths(self, since_ms: int) -> list[str]:
        """Paths of the files that were removed after since_ms and are still named."""
        removes = self._merged("remove", self._removes)
        removed_ms = pc.fill_null(removes.field("deletionTimestamp"), 0)
        found = removes.filter(pc.greater(removed_ms, since_ms))
        return [unquote(path) for path in found.field("path").to_pylist()]

    def _merged(self, action: str, old: pa.StructArray) -> pa.StructArray:
        """The add or remove actions: the old ones of files that were not named since, and the new
        ones.
        """
        new = [fields for name, fields in self._since.values() if name == action]
        columns = {
            name: pa.array([fields.get(name) for fields in new], _TYPES[action][name].type)
            for name in _FILE_FIELDS[action]
        }
        kept = _without(old, pa.array(list(self._since), pa.string()))
        return pa.concat_arrays([kept, _file_actions(action, columns, len(new))])


def _read(store: Store, table: str, version: int, actions: Sequence[str]) -> tuple[pa.Table, int]:
    """Some actions of a checkpoint, and its size in bytes."""
    try:
        body = store.read(table, path_of(version))
    except OSError as err:
        if isinstance(err, FileNotFoundError) or err.errno in _DAMAGED:
            raise Unreadable(store.uri(table), version, err) from err
        raise
    wanted = [f"{name}.{field.name}" for name in actions for field in _TYPES[name]]
    with _judged(store, table, version):
        source = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
        return source.read(columns=wanted, use_threads=False), len(body)


@contextmanager
def _judged(store: Store, table: str, version: int) -> Iterator[None]:
    """Whatever goes wrong with what was read makes the checkpoint unreadable."""
    try:
        yield
    except (ValueError, KeyError, TypeError, OSError, pa.ArrowException) as err:
        raise Unreadable(store.uri(table), version, err) from err


def _present(rows: pa.Table, action: str) -> pa.StructArray:
    """The rows of one action."""
    if action not in rows.column_names:
        return pa.array([], _TYPES[action])
    column = rows.column(action).combine_chunks()
    return column.filter(column.is_valid())


def _unique(rows: pa.Table, action: str) -> dict[str, Any]:
    """The one row of an action. ValueError if there are none or several."""
    found = _present(rows, action).to_pylist()
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} {action} actions")
    return dict(found[0])


def _table_metadata(rows: pa.Table) -> dict[str, Any]:
    """The metaData action as a log has it: its maps come from Parquet as lists of pairs."""
    found = _unique(rows, "metaData")
    kind = found["format"]
    return found | {
        "configuration": dict(found["configuration"] or ()),
        "format": kind | {"options": dict(kind["options"] or ())},
    }


def _live_files(adds: pa.StructArray) -> tuple[LiveFile, ...]:
    paths, sizes, texts = (adds.field(n).to_pylist() for n in ("path", "size", "stats"))
    stats = json.loads(f"[{','.join(t or '{}' for t in texts)}]")
    return tuple(map(live_file, paths, sizes, stats))


def _files(rows: pa.Table, action: str) -> pa.StructArray:
    """The add or remove actions that were read, whoever wrote them, as they are written here."""
    found = _present(rows, action)
    there = {field.name for field in found.type}
    columns = {
        name: found.field(name) if name in there else pa.nulls(len(found), pa.int64())
        for name in _FILE_FIELDS[action]
    }
    return _file_actions(action, columns, len(found))


def _file_actions(action: str, columns: Mapping[str, pa.Array], size: int) -> pa.StructArray:
    """Add or remove actions with these fields; in all others they are alike."""
    no_texts = pa.array([], pa.string())
    starts = pa.array([0] * (size + 1), pa.int32())
    alike = {
        "partitionValues": pa.MapArray.from_arrays(starts, no_texts, no_texts),
        # A checkpoint changes nothing.
        "dataChange": pa.array([False] * size, pa.bool_()),
        "extendedFileMetadata": columns["size"].is_valid(),
    }
    fields = list(_TYPES[action])
    arrays = [{**alike, **columns}[field.name].cast(field.type) for field in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _without(files: pa.StructArray, paths: pa.Array) -> pa.StructArray:
    """The actions whose file is not among `paths`, which are not escaped."""
    names = files.field("path")
    if pc.any(pc.match_substring(names, "%")).as_py():
        names = pa.array([unquote(name) for name in names.to_pylist()], pa.string())
    return files.filter(pc.invert(pc.is_in(names, value_set=paths)))


def _retention_ms(configuration: Mapping[str, str]) -> int:
    """How long a removed file stays named, by a property such as `interval 12 hours`."""
    found = re.fullmatch(r"(?:interval )?(\d+) (\w+?)s?", configuration.get(RETENTION, ""))
    if found is None or found[2] not in _UNIT_MS:
        return _DEFAULT_RETENTION_MS
    return int(found[1]) * _UNIT_MS[found[2]]
