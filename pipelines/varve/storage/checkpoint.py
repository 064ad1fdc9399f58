"""Checkpoints: when one is written, which are kept, how they are found.

A checkpoint is the whole state of a table at a version in one file, so that opening the table need
not read its log from the beginning. The newest KEPT are kept: if one cannot be read, the table is
opened from the one before it. Source: Delta protocol, "Checkpoints", "Last Checkpoint File".
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from varve.model.errors import VarveError
from varve.storage.checkpoint_file import RETENTION, Contents, Unreadable, path_of
from varve.storage.log import FOLDER, LogEntry, bodies
from varve.storage.store import Store

CHECKPOINT_INTERVAL = 100
"""Least number of versions from one checkpoint to the next."""
LONGEST_INTERVAL = 400
"""Most versions from one to the next: whoever opens the table reads no more files than that."""
KEPT = 3
"""Checkpoints that are kept, the newest included."""
TOMBSTONE_HOURS = 12
"""How long a removed file stays named in checkpoints, so that VACUUM spares it: longer than a
reader uses a version of the table.
"""
PROPERTIES = {
    # Log files are expired by a job that knows every reader's position, never by a commit.
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
    RETENTION: f"interval {TOMBSTONE_HOURS} hours",
}
"""What tables tell other programs about their log."""

# A version of the log costs whoever opens the table as much as so many bytes of a checkpoint.
_BYTES_PER_VERSION = 10_000
# With a version so old in the log, a checkpoint is due whatever its size.
_OLDEST_MS = 3_600_000
_HINT = f"{FOLDER}/_last_checkpoint"
# Tag of the hint that names the other checkpoints there are, so that none has to be looked for.
_OTHERS = "varve.others"
_NAME = re.compile(r"(\d{20})\.checkpoint\.parquet")

_log = logging.getLogger(__name__)
_writing: set[tuple[str, str]] = set()
_writing_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Hint:
    """What a table's log says of its last checkpoint."""

    version: int
    others: tuple[int, ...] | None
    """Versions of the other checkpoints, ascending; None if another program wrote it."""


@dataclass(slots=True)
class Growth:
    """How a log has grown since the last checkpoint that a handle knows of."""

    checkpoint_size: int = 0
    """Bytes of the checkpoint; 0 if there is none."""
    versions: int = 0
    size: int = 0
    """Bytes of the versions since."""
    oldest_ms: int | None = None
    """When the first of them was written; None if it does not say."""
    is_damaged: bool = False
    """The last checkpoint could not be read."""

    def add(self, entry: LogEntry) -> None:
        self.versions += 1
        self.size += entry.size
        if self.oldest_ms is None:
            self.oldest_ms = entry.timestamp_ms

    def is_due(self, now_ms: int) -> bool:
        """Whether the next checkpoint is due: once the log since the last one costs whoever opens
        the table as much as that one does. So all that is written to checkpoints stays in
        proportion to the log.
        """
        if self.is_damaged or self.versions >= LONGEST_INTERVAL:
            return True
        if self.versions < CHECKPOINT_INTERVAL:
            return False
        cost = self.size + self.versions * _BYTES_PER_VERSION
        is_old = self.oldest_ms is not None and now_ms - self.oldest_ms >= _OLDEST_MS
        return cost >= self.checkpoint_size or is_old


def write_if_due(store: Store, table: str, growth: Growth, version: int) -> Growth:
    """Has a checkpoint of `version`, just committed, written if it is due; returns the growth of
    the log from then on.

    It is written in a thread of its own, as it takes as long as many commits; no daemon, so that
    it is finished before exit. Its failure harms nothing: it is logged, and the next is due soon.
    """
    if not growth.is_due(int(time.time() * 1000)):
        return growth
    with _writing_lock:
        if (store.root, table) not in _writing:
            _writing.add((store.root, table))
            arguments = (store, table, version, growth.is_damaged)
            threading.Thread(target=_write_apart, args=arguments, name="checkpoint").start()
    return Growth(growth.checkpoint_size)


def write(store: Store, table: str, version: int) -> None:
    """Writes the checkpoint of a version, unless there is a newer one, and deletes those beyond
    KEPT.

    Costs the live files of the last checkpoint and the log since. Raises LogExpired if a part of
    the log that it needs has expired, OSError if the storage fails: then the others are as before.
    """
    hint = read_hint(store, table)
    if hint is not None and hint.version >= version:
        return
    if hint is None or hint.others is None:
        there = [v for v in list_versions(store, table) if v < version]
    else:
        there = [*hint.others, hint.version]
    contents = _newest_contents(store, table, there)
    for body in bodies(store, table, contents.version, version):
        contents.apply(body)
    rows, files = contents.table(int(time.time() * 1000))
    out = pa.BufferOutputStream()
    pq.write_table(rows, out, compression="zstd", store_schema=False, write_page_checksum=True)
    size = out.tell()
    store.put(table, path_of(version), out.getvalue())
    # Whoever has just read the hint finds what it names: that is among those kept.
    gone, kept = there[: 1 - KEPT], there[1 - KEPT :]
    store.delete(table, [path_of(v) for v in gone])
    new = {
        "version": version,
        "size": rows.num_rows,
        "sizeInBytes": size,
        "numOfAddFiles": files,
        "tags": {_OTHERS: json.dumps(kept)},
    }
    store.put(table, _HINT, json.dumps(new).encode())


def lately_removed(store: Store, table: str, version: int, since_ms: int) -> set[str]:
    """Paths of the files that commits up to `version` removed after since_ms, which is at most
    TOMBSTONE_HOURS ago: readers of older versions may still need them.

    Raises LogExpired if a part of the log that it needs has expired, OSError if the storage fails.
    """
    there = [v for v in list_versions(store, table) if v <= version]
    contents = _newest_contents(store, table, there)
    for body in bodies(store, table, contents.version, version):
        contents.apply(body)
    return set(contents.removed_paths(since_ms))


def versions_by_age(store: Store, table: str, until: int | None = None) -> Iterator[int]:
    """Versions that have a checkpoint, up to `until`, the newest first. Lists the log's folder
    only if none that the hint names was wanted.
    """
    hint = read_hint(store, table)
    named = set() if hint is None else {hint.version, *(hint.others or ())}
    tried = {v for v in named if until is None or v <= until}
    yield from sorted(tried, reverse=True)
    for version in reversed(list_versions(store, table)):
        if version not in tried and (until is None or version <= until):
            yield version


def read_hint(store: Store, table: str) -> Hint | None:
    """None if there is no checkpoint yet, or what names it cannot be read, which is logged."""
    try:
        found = json.loads(store.read(table, _HINT))
        others = (found.get("tags") or {}).get(_OTHERS)
        return Hint(
            int(found["version"]),
            None if others is None else tuple(map(int, json.loads(others))),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        _warn(f"{store.uri(table)}/{_HINT} cannot be read: {err!r}")
        return None


def list_versions(store: Store, table: str) -> list[int]:
    """Versions that have a checkpoint in one file, ascending."""
    names = (_NAME.fullmatch(name) for name in store.list(table, FOLDER))
    return [int(name[1]) for name in names if name]


@cache
def _warn(unreadable: str) -> None:
    """Once in the life of a process."""
    _log.warning("%s; the checkpoints are looked for in the log's folder", unreadable)


def _newest_contents(store: Store, table: str, versions: Sequence[int]) -> Contents:
    """The newest checkpoint that can be read, or a log before its first version."""
    for version in reversed(versions):
        try:
            return Contents.read(store, table, version)
        except Unreadable:
            continue
    return Contents()


def _write_apart(store: Store, table: str, version: int, was_damaged: bool) -> None:  # noqa: FBT001
    try:
        hint = read_hint(store, table)
        # Of several writers of a table one is enough.
        if was_damaged or hint is None or version - hint.version >= CHECKPOINT_INTERVAL:
            write(store, table, version)
    except (OSError, VarveError, pa.ArrowException):
        # The commit stands without it: opening is slower until the next.
        _log.exception("%s: no checkpoint at version %d", store.uri(table), version)
    finally:
        with _writing_lock:
            _writing.discard((store.root, table))
