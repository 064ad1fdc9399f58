"""Checkpoints: the whole state of a table at a version in one Parquet file, written every so many
versions so that opening the table need not read its log from the beginning.

Source: Delta protocol, "Checkpoints" and "Last Checkpoint File".
"""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from varve.model.errors import NeedsOperator
from varve.storage.log import LiveFile, LogEntry, file_name, folder, live_file
from varve.storage.store import Store

CHECKPOINT_INTERVAL = 100
"""Versions from one checkpoint to the next."""

_HINT = "_delta_log/_last_checkpoint"
_NAME = re.compile(r"(\d{20})\.checkpoint\.parquet")
# Checkpoints asked for by name before the log is listed; one may be missing after a crash.
_PROBES = 3
_COLUMNS = (
    "add.path",
    "add.size",
    "add.stats",
    "txn.appId",
    "txn.version",
    "metaData",
    "protocol",
)

_log = logging.getLogger(__name__)


def write_if_due(store: Store, table: str, version: int) -> None:
    """Writes a checkpoint of the version just committed, if it is its turn, in a thread of its
    own: it takes as long as many commits. The thread is no daemon: it is finished before exit.
    """
    if (version + 1) % CHECKPOINT_INTERVAL == 0:
        threading.Thread(target=_write, args=(store, table, version), name="checkpoint").start()


def read(store: Store, table: str, version: int, *, files: bool) -> LogEntry:
    """The checkpoint of a version as one entry that stands for all up to it. files: whether its
    live files are wanted.
    """
    wanted = [c for c in _COLUMNS if files or not c.startswith("add.")]
    with store.filesystem(table).open_input_file(_path(version)) as source:
        rows = pq.ParquetFile(source).read(columns=wanted)
    (protocol,) = _present(rows, "protocol").to_pylist()
    (table_metadata,) = _present(rows, "metaData").to_pylist()
    return LogEntry(
        version,
        adds=_live_files(_present(rows, "add")) if files else (),
        positions={t["appId"]: t["version"] for t in _present(rows, "txn").to_pylist()},
        table_metadata=_as_in_log(table_metadata),
        protocol=protocol,
    )


def newest_version(store: Store, table: str, until: int | None = None) -> int | None:
    """Version of the newest checkpoint up to a version, by default of all; None if there is none
    and the log begins with version 0. Raises NeedsOperator if the log up to `until` has expired.
    """
    try:
        hint = int(json.loads(store.read(table, _HINT))["version"])
    except FileNotFoundError:
        hint = None
    if hint is not None and (until is None or hint <= until):
        return hint
    if until is not None:
        last = (until + 1) // CHECKPOINT_INTERVAL * CHECKPOINT_INTERVAL - 1
        for candidate in range(
            last, max(last - _PROBES * CHECKPOINT_INTERVAL, 0), -CHECKPOINT_INTERVAL
        ):
            if store.exists(table, _path(candidate)):
                return candidate
    if store.exists(table, file_name(0)):
        return None
    there = [c for c in list_versions(store, table) if until is None or c <= until]
    if not there and hint is not None:
        raise NeedsOperator(f"{store.uri(table)}: version {until} has expired; ask for a newer one")
    return there[-1] if there else None


def list_versions(store: Store, table: str) -> list[int]:
    """Versions that have a checkpoint in one file, ascending."""
    names = (_NAME.fullmatch(name) for name in folder(store, table))
    return sorted(int(name[1]) for name in names if name)


def _write(store: Store, table: str, version: int) -> None:
    try:
        DeltaTable(
            store.uri(table), version=version, storage_options=store.delta_options
        ).create_checkpoint()
    except (DeltaError, OSError):
        # The commit stands without it, and another one is due soon: opening is slower until then.
        _log.exception("%s: no checkpoint at version %d", store.uri(table), version)


def _path(version: int) -> str:
    return f"_delta_log/{version:020d}.checkpoint.parquet"


def _present(rows: pa.Table, action: str) -> pa.StructArray:
    column = rows.column(action).combine_chunks()
    return column.filter(column.is_valid())


def _live_files(adds: pa.StructArray) -> tuple[LiveFile, ...]:
    paths, sizes, texts = (adds.field(n).to_pylist() for n in ("path", "size", "stats"))
    stats = json.loads(f"[{','.join(t or '{}' for t in texts)}]")
    return tuple(map(live_file, paths, sizes, stats))


def _as_in_log(table_metadata: dict[str, Any]) -> dict[str, Any]:
    """The metaData action, whose maps come from Parquet as lists of pairs."""
    kind = table_metadata["format"]
    return table_metadata | {
        "configuration": dict(table_metadata["configuration"]),
        "format": kind | {"options": dict(kind["options"])},
    }
