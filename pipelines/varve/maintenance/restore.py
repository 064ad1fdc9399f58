"""Restore of a backup into roots that have no tables yet.

Data files come first, then the logs that speak of them. While it is under way a mark in the hot
root keeps writers from making tables of their own there; a restore that was cut off is taken up by
the next one of the same backup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from varve.maintenance.backup import (
    Backup,
    Progress,
    SavedTable,
    copy_all,
    copy_file,
    list_backups,
    sizes,
)
from varve.model.errors import BadRequest, NeedsOperator
from varve.model.schema import TABLES
from varve.storage import checkpoint
from varve.storage.checkpoint_file import path_of
from varve.storage.log import LiveFile, file_name, list_versions
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import UNFINISHED


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. nbytes: of the data files that were copied this time."""

    backup: Backup
    copied_files: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Table:
    saved: SavedTable
    source: Store
    target: Store
    files: Sequence[LiveFile]


def choose(source: Store, backup_id: str | None) -> Backup:
    """A backup of those in a source, by default the newest. Raises BadRequest if there is none."""
    there = list_backups(source)
    if not there:
        raise BadRequest(f"no backups under {source.root}")
    for backup in reversed(there):
        if backup_id in (None, backup.backup_id):
            return backup
    known = ", ".join(backup.backup_id for backup in there[-5:])
    raise BadRequest(f"no backup {backup_id} under {source.root}; there are {known}")


def restore_backup(
    source: Store,
    store: Store,
    backup: Backup,
    progress: Progress = lambda _done, _all, _bytes: None,
) -> Restored:
    """Makes the tables of a store those of a backup. Nothing may write to the store meanwhile.

    Raises NeedsOperator if there are tables already, a root is missing, or the backup is not whole;
    OSError or TemporaryError if storage fails: called again, it goes on where it was.
    """
    roots = store.roots()
    if (lacking := max(saved.root for saved in backup.tables)) >= len(roots):
        raise NeedsOperator(
            f"the backup has files of {lacking} colder roots: set storage.cold_root (and, for two,"
            " storage.warm_root) to where they are to go"
        )
    _begin(roots, backup)
    tables = [_opened(source, roots, saved) for saved in backup.tables]
    missing = [(one, file) for one in tables for file in _missing(one)]

    def copy(piece: tuple[_Table, LiveFile]) -> int:
        one, file = piece
        return copy_file(one.source, one.target, one.saved.table, file.path, file.size)

    copied = copy_all(copy, missing, progress)
    for one in tables:
        _restore_log(one)
    for one in tables:
        _require_equal(one)
    roots[0].delete(UNFINISHED.folder, [UNFINISHED.name])
    return Restored(backup, len(missing), copied)


def _begin(roots: Sequence[Store], backup: Backup) -> None:
    hot = roots[0]
    mark = json.dumps({"backup_id": backup.backup_id}).encode()
    held = next(hot.read_many(UNFINISHED.folder, [UNFINISHED.name]))
    if held is not None and held != mark:
        begun = json.loads(held)["backup_id"]
        raise NeedsOperator(
            f"{hot.root}: the restore of backup {begun} was cut off: finish it with --backup"
            f" {begun}, or empty the folder"
        )
    if held is not None:
        return
    for root in roots:
        there = [name for name in TABLES if list_versions(root, name)]
        if there:
            raise NeedsOperator(
                f"{root.root} has tables already ({there[0]}, ...): restore into an empty home,"
                " another --home or another storage.root"
            )
    hot.prepare(UNFINISHED.folder, "")
    hot.put(UNFINISHED.folder, UNFINISHED.name, mark)


def _opened(source: Store, roots: Sequence[Store], saved: SavedTable) -> _Table:
    """The table as it is in the backup. Raises NeedsOperator if its log is not whole."""
    where = saved.store(source)
    state = load(where, saved.table, version=saved.version)
    if state is None or state.files is None:
        raise NeedsOperator(f"{where.uri(saved.table)} is gone: choose another backup")
    return _Table(saved, where, roots[saved.root], tuple(state.files.values()))


def _missing(one: _Table) -> list[LiveFile]:
    one.target.prepare(one.saved.table)
    there = sizes(one.target, one.saved.table)
    return [file for file in one.files if there.get(file.path) != file.size]


def _restore_log(one: _Table) -> None:
    """Puts the checkpoint there, then the versions, the newest last."""
    name, version = one.saved.table, one.saved.version
    paths = [
        path_of(number)
        for number in checkpoint.list_versions(one.source, name)[::-1]
        if number <= version
    ][:1]
    paths += [
        file_name(number)
        for number in list_versions(one.source, name)
        if one.saved.log_from <= number <= version
    ]
    for path, body in zip(paths, one.source.read_many(name, paths), strict=True):
        if body is None:
            raise NeedsOperator(f"{one.source.uri(name)}/{path} is gone: choose another backup")
        one.target.put(name, path, body)


def _require_equal(one: _Table) -> None:
    state = load(one.target, one.saved.table)
    there = sizes(one.target, one.saved.table)
    whole = (
        state is not None
        and state.version == one.saved.version
        and list((state.files or {}).values()) == list(one.files)
        and all(there.get(file.path) == file.size for file in one.files)
    )
    if not whole:
        raise NeedsOperator(
            f"{one.target.uri(one.saved.table)} is not as in the backup: something else writes"
            " there; empty it and restore again"
        )
