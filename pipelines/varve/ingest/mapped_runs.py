"""Files of registered series that all processes of a machine map: one copy in the page cache.

A run is a file of series sorted by id: those that the table series gained in a range of versions.
Runs follow one another without a gap and are merged as they grow, so there are few. Whoever
finds the last one too old writes the next, under the folder's lock; files are complete before they
have their name and never change, and those that are mapped outlive their removal.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from varve.model.errors import NeedsOperator
from varve.storage.store import Store

UNKNOWN, KNOWN, CONTESTED = 0, 1, 2

Ids = npt.NDArray[np.int64]
Checks = npt.NDArray[np.int32]

_HEADER = np.dtype([("magic", "S8"), ("count", "<i8"), ("fingerprint", "S32"), ("spare", "S16")])
_MAGIC = b"varve-k1"
_SUFFIX = ".run"
# A run is merged into the one before it once it has this part of its series. Four: each series is
# written about log4(all) times over, and 10 M series that came one by one are a dozen runs.
_MERGE_SHARE = 4
# Folders of other roots in a shared temporary folder that nothing has used for so long are removed.
_ABANDONED_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Run:
    """Series that versions first to last (inclusive) of the table added, sorted by id, each once.

    fingerprint: hash of the log file of version `last`; it differs if the table was put back to an
    earlier state or made anew.
    """

    path: Path
    first: int
    last: int
    fingerprint: bytes
    ids: Ids
    checks: Checks

    def __len__(self) -> int:
        return len(self.ids)

    def mark(self, ids: Ids, checks: Checks, status: npt.NDArray[np.int8]) -> None:
        """Sets the status of the ids that the run has. `ids` ascend."""
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        same = np.flatnonzero(self.ids[at] == ids)
        status[same] = np.where(self.checks[at[same]] == checks[same], KNOWN, CONTESTED)


def status_in(runs: Sequence[Run], ids: Ids, checks: Checks) -> npt.NDArray[np.int8]:
    """KNOWN, UNKNOWN, or CONTESTED where the id belongs to a series with another check."""
    # In order the search walks through a run once, instead of missing the cache for every id.
    order = np.argsort(ids)
    status = np.full(len(ids), UNKNOWN, np.int8)
    sorted_ids, sorted_checks = ids[order], checks[order]
    for run in runs:
        run.mark(sorted_ids, sorted_checks, status)
    result = np.empty_like(status)
    result[order] = status
    return result


class RunFolder:
    """The runs of one table on this machine. Use it within `locked` only."""

    def __init__(self, store: Store, scratch: str = "") -> None:
        """scratch: folder for those of all tables; by default `_known` beside tables on local
        disk, else varve-<user> in the machine's temporary folder.

        Raises NeedsOperator in `locked` if a folder apart from the tables belongs to another user.
        """
        self._base = _base(store, scratch)
        self._apart = bool(scratch) or not store.is_local
        self.path = self._base / _name(store)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps out all other processes of the machine."""
        self._prepare()
        with (self.path / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.utime(self.path)
            yield

    def open(self, held: Sequence[Run] = ()) -> tuple[Run, ...]:
        """Maps all runs, oldest first; those in `held` are mapped already. Removes what dead
        processes have left.
        """
        found = sorted(self._named(), key=lambda run: (run[0], -run[1]))
        mapped = {run.path: run for run in held}
        chain: list[Run] = []
        for first, last, path in found:
            if first == (chain[-1].last + 1 if chain else 0):
                run = mapped.get(path) or _map(path, first, last)
                if run is not None:
                    chain.append(run)
        wanted = {run.path.name for run in chain} | {"lock"}
        for entry in self.path.iterdir():
            if entry.name not in wanted:
                entry.unlink(missing_ok=True)
        return tuple(chain)

    def clear(self) -> None:
        for entry in self.path.iterdir():
            if entry.name != "lock":
                entry.unlink(missing_ok=True)

    def add(
        self, runs: Sequence[Run], parts: Iterable[tuple[Ids, Checks]], last: int, mark: bytes
    ) -> tuple[Run, ...]:
        """Writes a run up to version `last` and returns all runs, merged as they are due.

        parts: at least one; series that no run has, sorted by id, each id once. If two parts have
        an id, the first one decides.
        """
        first = runs[-1].last + 1 if runs else 0
        new: list[Run] = []
        for ids, checks in parts:
            fresh = status_in(new, ids, checks) == UNKNOWN
            if fresh.any():
                new.append(self._write(first, last, mark, ids[fresh], checks[fresh]))
                self._merge(new, _MERGE_SHARE)
        self._merge(new, 0)
        named = self.path / f"{first:020d}-{last:020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        new[0].path.rename(named)
        chain = [*runs, Run(named, first, last, mark, new[0].ids, new[0].checks)]
        self._merge(chain, _MERGE_SHARE)
        return tuple(chain)

    def _merge(self, runs: list[Run], share: int) -> None:
        """Merges the last two while the last has 1/share of the other's series; 0: always."""
        while len(runs) > 1 and (not share or len(runs[-1]) * share >= len(runs[-2])):
            old, new = runs[-2:]
            runs[-2:] = [self._merged(old, new)]
            for run in (old, new):
                run.path.unlink(missing_ok=True)

    def _merged(self, old: Run, new: Run) -> Run:
        ids = np.empty(len(old) + len(new), np.int64)
        checks = np.empty(len(ids), np.int32)
        at = np.searchsorted(old.ids, new.ids) + np.arange(len(new))
        others = np.ones(len(ids), np.bool_)
        others[at] = False
        ids[at], ids[others] = new.ids, old.ids
        checks[at], checks[others] = new.checks, old.checks
        suffix = "" if new.path.suffix == ".tmp" else _SUFFIX
        return self._write(old.first, new.last, new.fingerprint, ids, checks, suffix)

    def _write(
        self, first: int, last: int, mark: bytes, ids: Ids, checks: Checks, suffix: str = ""
    ) -> Run:
        temporary = self.path / f"{uuid.uuid4().hex}.tmp"
        header = np.array([(_MAGIC, len(ids), mark, b"")], _HEADER)
        with temporary.open("xb") as out:
            for part in (header, ids, checks):
                part.tofile(out)
            out.flush()
            # After a loss of power a file that has its name has its content, too.
            os.fsync(out.fileno())
        path = temporary
        if suffix:
            path = self.path / f"{first:020d}-{last:020d}-{uuid.uuid4().hex[:8]}{suffix}"
            temporary.rename(path)
        run = _map(path, first, last)
        if run is None:
            raise NeedsOperator(f"{path} is not what was just written: is the disk sound?")
        return run

    def _named(self) -> Iterator[tuple[int, int, Path]]:
        for entry in self.path.iterdir():
            parts = entry.name.removesuffix(_SUFFIX).split("-")
            if entry.suffix == _SUFFIX and len(parts) == 3:
                yield int(parts[0]), int(parts[1]), entry

    def _prepare(self) -> None:
        new = not self.path.is_dir()
        if new:
            self._base.mkdir(mode=0o700 if self._apart else 0o777, parents=True, exist_ok=True)
            self.path.mkdir(exist_ok=True)
        # Whoever may write here decides what is known. Beside the tables that is their owner.
        if self._apart and {self._base.stat().st_uid, self.path.stat().st_uid} != {os.getuid()}:
            raise NeedsOperator(
                f"{self._base} belongs to another user, who could change what is known: set"
                " ingest.scratch to a folder of this user"
            )
        if not new:
            return
        for other in self._base.iterdir():
            if other != self.path and _idle_s(other) > _ABANDONED_S:
                shutil.rmtree(other, ignore_errors=True)


def _base(store: Store, scratch: str) -> Path:
    if scratch:
        return Path(scratch) / "known"
    if store.is_local:
        return Path(store.root) / "_known"
    return Path(tempfile.gettempdir()) / f"varve-{os.getuid()}"


def _name(store: Store) -> str:
    """The folder's name, from the root and the machine: a folder may be shared over a network, and
    mapped files of another machine could vanish.
    """
    text = f"{socket.gethostname()} {store.root.rstrip('/')}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _map(path: Path, first: int, last: int) -> Run | None:
    """Maps a file; None if it is not whole or is of another release."""
    with path.open("rb") as source:
        head = source.read(_HEADER.itemsize)
        size = os.fstat(source.fileno()).st_size
        if len(head) < _HEADER.itemsize:
            return None
        (header,) = np.frombuffer(head, _HEADER)
        count = int(header["count"])
        if header["magic"] != _MAGIC or count <= 0 or size != _HEADER.itemsize + 12 * count:
            return None
        whole = np.memmap(source, np.uint8, "r")
    ids = whole[_HEADER.itemsize :][: 8 * count].view(np.int64)
    checks = whole[_HEADER.itemsize + 8 * count :].view(np.int32)
    mark = bytes(header["fingerprint"])
    return Run(path, first, last, mark, ids.view(np.ndarray), checks.view(np.ndarray))


def _idle_s(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
