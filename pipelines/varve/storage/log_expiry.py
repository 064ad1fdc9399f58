"""Deletes the part of a table's log that nobody needs any more. A commit never does."""

from __future__ import annotations

from varve.storage import checkpoint
from varve.storage.checkpoint_file import Unreadable, path_of, read
from varve.storage.log import file_name, list_versions
from varve.storage.store import Store
from varve.storage.table import Table

# Checkpoints that must be sound, so that one may be lost after the log before them has gone.
_SOUND = 2


def expire_log(table: Table, keep_from_version: int) -> int:
    """Deletes log files of versions below `keep_from_version`; returns how many.

    keep_from_version: the least version that a registered reader still reads, by its position.
    Whatever it says, the log from the oldest checkpoint on stays, as opening from any checkpoint
    needs it; and nothing is deleted unless two of them can be read. Checkpoints that a crash has
    left behind go, too. Costs a listing of the log. OSError if the storage fails; what has been
    deleted is always the beginning of the log.
    """
    store, name = table.store, table.name
    kept = checkpoint.list_versions(store, name)[-checkpoint.KEPT :]
    sound = [version for version in kept if _is_sound(store, name, version)]
    if len(sound) < _SOUND:
        return 0
    end = min(keep_from_version, sound[0])
    expired = [version for version in list_versions(store, name) if version < end]
    store.delete(name, [file_name(version) for version in expired])
    strays = [v for v in checkpoint.list_versions(store, name) if v < kept[0]]
    store.delete(name, [path_of(version) for version in strays])
    return len(expired)


def _is_sound(store: Store, table: str, version: int) -> bool:
    try:
        read(store, table, version, files=True)
    except Unreadable:
        return False
    return True
