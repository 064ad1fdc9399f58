"""What of quarantine goes: files that are older than it is kept for, and the oldest of those that
are more bytes than it may have.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.log import LiveFile, entries, list_versions
from varve.storage.snapshot import Snapshot, live_files
from varve.storage.store import Store
from varve.storage.table import Table, existing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Expired:
    """Samples removed from quarantine, by reason."""

    by_age: Counter[str] = field(default_factory=Counter)
    by_size: Counter[str] = field(default_factory=Counter)
    """Those that had to make room for others, though they were not old."""

    def total(self) -> int:
        return self.by_age.total() + self.by_size.total()


def expire_quarantine(store: Store, before_ms: int | None, keep_bytes: int) -> Expired:
    """Removes files of quarantine all of whose rows were refused before before_ms (None: whenever),
    whether they wait for a replay or not, then the oldest others until keep_bytes are left.

    The file that a replay has stored from, and still has to take out, stays: its rows would count
    twice. Rejects that a batch owes are in no file of the table yet. Raises Conflict if a rival has
    removed one of the files.
    """
    table = Table(store, "quarantine", files=True)
    files = sorted(live_files(table), key=_refused_ms)
    excess = sum(file.size for file in files) - keep_bytes
    is_old = {file.path: before_ms is not None and _refused_ms(file) < before_ms for file in files}
    if excess <= 0 and not any(is_old.values()):
        return Expired()
    taken = _taken_by_replays(store, table)
    if taken is None:
        log.warning("quarantine: nothing expires, as a replay that was cut off cannot be finished")
        return Expired()
    aged: list[LiveFile] = []
    crowded: list[LiveFile] = []
    for file in files:
        if not is_old[file.path] and excess <= 0:
            break
        if file.path not in taken:
            (aged if is_old[file.path] else crowded).append(file)
            excess -= file.size
    if not aged and not crowded:
        return Expired()
    expired = Expired(_counted(store, table, aged), _counted(store, table, crowded))
    removals = [Removal(file.path, file.size, rows_disappear=True) for file in aged + crowded]
    metadata = {
        "expired": expired.by_age + expired.by_size,
        "before_ms": before_ms,
        "keep_bytes": keep_bytes,
    }
    rewrite(table, [], removals, metadata=metadata)
    return expired


def bytes_since(store: Store, since_ms: int) -> int:
    """Bytes of the files of quarantine with rows that were refused after since_ms."""
    files = live_files(Table(store, "quarantine", files=True))
    return sum(file.size for file in files if _refused_ms(file) > since_ms)


def is_owed(store: Store, quarantine: Table) -> bool:
    """Whether a commit of what was stored has one of quarantine to follow it that is not there
    yet.
    """
    return any(True for _ in _owed(store, quarantine, (positions.REJECTS, positions.REPLAY)))


def _owed(
    store: Store, quarantine: Table, prefixes: tuple[str, ...]
) -> Iterable[tuple[str, str, int]]:
    """Tables, names and versions of the positions that quarantine is behind in."""
    done = quarantine.positions()
    for table in existing(store, (SAMPLES, *RECORD_TABLES)):
        for name, version in table.positions().items():
            if name.startswith(prefixes) and version > done.get(name, -1):
                yield table.name, name, version


def _taken_by_replays(store: Store, quarantine: Table) -> Collection[str] | None:
    """Files whose rows a replay has stored and not taken out yet; None if that is not known, as
    the log does not reach back to it. The next replay says so.
    """
    taken = set()
    for table, name, number in _owed(store, quarantine, (positions.REPLAY,)):
        for version in reversed(list_versions(store, table)):
            (entry,) = entries(store, table, version - 1, version)
            if entry.positions.get(name) == number:
                taken.add(entry.metadata["taken"]["path"])
                break
        else:
            return None
    return taken


def _refused_ms(file: LiveFile) -> int:
    """When the newest of its rows was refused."""
    return file.maximum.get("rejected_at", 0)


def _counted(store: Store, table: Table, files: list[LiveFile]) -> Counter[str]:
    """Samples of the files, by reason."""
    if not files:
        return Counter()
    snapshot = Snapshot(store, "quarantine", table.version, tuple(files))
    rows = snapshot.scan(Bounds(), ["reason", "samples"])
    sums = rows.group_by("reason").aggregate([("samples", "sum")]).to_pylist()
    return Counter({row["reason"]: row["samples_sum"] for row in sums})
