"""Pruning: backups but the newest go, and then the files that no backup that is left needs."""

from __future__ import annotations

from collections import defaultdict

import pyarrow.fs as pafs

from varve.maintenance.backup import BACKUPS, SavedTable, list_backups
from varve.model.window import HOUR_MS
from varve.storage import checkpoint
from varve.storage.checkpoint_file import path_of
from varve.storage.log import FOLDER, file_name
from varve.storage.state import load
from varve.storage.store import Store

SPARED_MS = 24 * HOUR_MS
"""How old a file is before it may go: a backup that is under way has said of none yet that it needs
it."""


def prune(target: Store, keep: int, now_ms: int) -> int:
    """Deletes all backups but the newest `keep`, at least one; returns how many files have gone.

    What it says of a backup goes first, so one that is half deleted is none. Raises OSError if the
    storage fails: the next call goes on.
    """
    there = list_backups(target)
    kept, gone = there[-keep:], there[:-keep]
    target.delete(BACKUPS, [f"{backup.backup_id}.json" for backup in gone])
    by_table: dict[str, list[SavedTable]] = defaultdict(list)
    for backup in there:
        for saved in backup.tables:
            by_table[saved.table_id]  # one that is in no backup any more loses everything
    for backup in kept:
        for saved in backup.tables:
            by_table[saved.table_id].append(saved)
    tables = {saved.table_id: saved for backup in there for saved in backup.tables}
    return sum(
        _prune_table(tables[table_id].store(target), tables[table_id].table, needed, now_ms)
        for table_id, needed in by_table.items()
    )


def _prune_table(store: Store, table: str, needed: list[SavedTable], now_ms: int) -> int:
    wanted: set[str] = set()
    log_from = min((saved.log_from for saved in needed), default=1 << 62)
    checkpoints: set[str] = set()
    for saved in needed:
        state = load(store, table, version=saved.version)
        if state is None or state.files is None:
            return 0  # it is damaged: nothing of it is deleted
        wanted |= state.files.keys()
        checkpoints |= {path_of(v) for v in _base(store, table, saved.version)}
    files = pafs.FileSelector("", recursive=False, allow_not_found=True)
    gone = [
        info.base_name
        for info in store.filesystem(table).get_file_info(files)
        if info.is_file
        and info.base_name not in wanted
        and info.mtime_ns // 1_000_000 < now_ms - SPARED_MS
    ]
    least = file_name(log_from).removeprefix(f"{FOLDER}/")
    for name in store.list(table, FOLDER):
        is_checkpoint = name.endswith(".checkpoint.parquet")
        is_needed = f"{FOLDER}/{name}" in checkpoints if is_checkpoint else name >= least
        if not is_needed and name[:20] < least[:20]:
            gone.append(f"{FOLDER}/{name}")
    store.delete(table, gone)
    return len(gone)


def _base(store: Store, table: str, version: int) -> list[int]:
    """The version of the checkpoint that a table of a version is opened from."""
    there = [v for v in checkpoint.list_versions(store, table) if v <= version]
    return there[-1:]
