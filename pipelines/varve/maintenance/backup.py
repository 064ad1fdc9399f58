"""Backup: a consistent copy of all tables, taken while everything goes on, incremental by file.

A backup is a version of every table of every root. The versions are of one moment where there is
one between two commits, and else in the order of TABLE_ORDER, in which no table speaks of what
another lacks. Data files never change and stay for 12 hours after they have been replaced, so they
are copied in peace afterwards; those that an earlier backup has copied are not copied again.

    <target>/<id of the table>/<table>/     files and log, shared by all backups
    <target>/_backups/<time>.json           one for each backup, written last: what it consists of

So a backup that was cut off is none, and the next goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow.fs as pafs

from varve import __version__
from varve.model.clock import Clock, utc_text
from varve.model.errors import NeedsOperator, TemporaryError
from varve.model.schema import TABLES
from varve.storage import positions
from varve.storage.log import FOLDER
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table

FORMAT: Final = 1

BACKUPS: Final = "_backups"
"""The folder of a target that says what backups there are."""

TABLE_ORDER: Final = (
    "alerts",
    "capacity",
    "forecast_fits",
    "forecasts",
    "quality",
    "episode_labels",
    "anomalies",
    "episodes",
    "baselines",
    "day_features",
    "features",
    "rollup_1d",
    "rollup_1h",
    "rollup_5m",
    "rollup_1m",
    "repairs",
    "samples",
    "histograms",
    "exemplars",
    "quarantine",
    "series",
    "metric_metadata",
)
"""What is computed from another table comes before it, and samples come before what they need."""

# Looks for a moment at which no table gets a commit.
_LOOKS = 50
# Files on their way at once.
_AT_ONCE = 8

Progress = Callable[[int, int, int], None]
"""Is told files done, all files, and bytes done, of those that have to be copied."""


@dataclass(frozen=True, slots=True)
class SavedTable:
    """A version of a table in a backup. root: 0 for the hot one, 1 for the next colder one."""

    root: int
    table: str
    table_id: str
    version: int
    log_from: int
    """The least version whose log entry is there."""
    files: int
    nbytes: int

    def store(self, target: Store) -> Store:
        """Where the table lies in the target."""
        return Store(f"{target.root.rstrip('/')}/{self.table_id}", target.options)


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup consists of."""

    backup_id: str
    begun_ms: int
    ended_ms: int
    is_one_moment: bool
    """Whether all tables are as of one moment; else each is as of its own, in TABLE_ORDER."""
    tables: tuple[SavedTable, ...]
    made_by: str = __version__
    format: int = FORMAT

    @property
    def files(self) -> int:
        return sum(saved.files for saved in self.tables)

    @property
    def nbytes(self) -> int:
        return sum(saved.nbytes for saved in self.tables)

    @classmethod
    def parse(cls, body: bytes, where: str) -> Backup:
        """Raises NeedsOperator if a later release wrote it, or something else."""
        try:
            read = json.loads(body)
            if read["format"] != FORMAT:
                raise NeedsOperator(f"{where} was written by Varve {read['made_by']}: use that one")
            tables = tuple(SavedTable(**saved) for saved in read.pop("tables"))
            return cls(**read, tables=tables)
        except (ValueError, KeyError, TypeError) as err:
            raise NeedsOperator(f"{where} is damaged: choose another backup") from err


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was taken, and what of it had to be copied. pruned: files of older backups
    that have gone.
    """

    backup: Backup
    copied_files: int
    copied_bytes: int
    pruned: int = 0


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A table as of the version that the backup is to have."""

    root: int
    source: Store
    table: Table


def list_backups(target: Store) -> list[Backup]:
    """The backups in a target, the newest last. Raises OSError if it cannot be reached."""
    names = [name for name in target.list(BACKUPS, "") if name.endswith(".json")]
    found = zip(names, target.read_many(BACKUPS, names), strict=True) if names else ()
    return [
        Backup.parse(body, f"{target.uri(BACKUPS)}/{name}")
        for name, body in found
        if body is not None
    ]


def take_backup(
    store: Store,
    target: Store,
    clock: Clock,
    progress: Progress = lambda _done, _all, _bytes: None,
) -> Taken:
    """Takes a backup of all roots of a store into a target, which other backups may be in.

    Raises TemporaryError if a file has gone meanwhile or storage fails: begun anew, it goes on
    where it was. NeedsOperator if there are no tables, or the target has backups of others.
    """
    before = list_backups(target)
    # By their names they are in the order they were taken, also by a clock that was put back.
    begun_ms = max([clock.now_ms(), *(backup.begun_ms + 1_000 for backup in before)])
    chosen, is_one_moment = _versions(store)
    _require_same_home(target, before, chosen)
    saved = [_save_log(target, one) for one in chosen]
    missing = [
        (one, kept, path, size)
        for one, kept in zip(chosen, saved, strict=True)
        for path, size in _missing(one, kept.store(target))
    ]
    copied = _copy_files(target, missing, progress)
    for one, kept in zip(chosen, saved, strict=True):
        _require_whole(one, kept.store(target))
    backup = Backup(
        utc_text(begun_ms // 1000 * 1000).replace(":", "").replace("-", ""),
        *(begun_ms, clock.now_ms(), is_one_moment, tuple(saved)),
    )
    body = json.dumps(asdict(backup), indent=1).encode()
    target.prepare(BACKUPS, "")
    if not target.put_if_absent(BACKUPS, f"{backup.backup_id}.json", body):
        raise TemporaryError(f"another backup was begun in the same second: {backup.backup_id}")
    return Taken(backup, len(missing), copied)


def _versions(store: Store) -> tuple[list[_Chosen], bool]:
    """Every table of every root, and whether they are of one moment."""
    rest = [name for name in TABLES if name not in TABLE_ORDER]
    chosen = []
    for name in (*rest, *TABLE_ORDER):
        # A file is below before it goes above, so that root is read first: none is missed.
        for number, root in enumerate(store.roots()):
            if load(root, name, files=False) is not None:
                chosen.append(_Chosen(number, root, Table(root, name, files=True)))
    if not chosen:
        raise NeedsOperator(f"no tables under {store.root}: there is nothing to back up")
    for _ in range(_LOOKS):
        before = _trimmed(chosen)
        if not any([one.table.refresh() != [] for one in chosen]):  # noqa: C419 - each is to look
            return chosen, True
    if _trimmed(chosen) != before:
        # Series come last: one may have lost its definition and its rows while these were read.
        raise TemporaryError("series were trimmed while the tables were looked at: begin again")
    return chosen, False


def _trimmed(chosen: Sequence[_Chosen]) -> list[int | None]:
    """The last trimming of series that each table tells of."""
    return [one.table.position(positions.trimmed()) for one in chosen]


def _require_same_home(target: Store, before: Sequence[Backup], chosen: Sequence[_Chosen]) -> None:
    """Raises NeedsOperator if the last backup in the target is of tables that are all others."""
    if not before:
        return
    known = {saved.table_id for saved in before[-1].tables}
    if known.isdisjoint(one.table.id for one in chosen):
        raise NeedsOperator(
            f"{target.root} has backups of other tables: choose another place for these"
        )


def _save_log(target: Store, one: _Chosen) -> SavedTable:
    """Copies what is there of a table's log up to its version, and a checkpoint."""
    table, version = one.table, one.table.version
    files = table.live_files()
    saved = SavedTable(
        *(one.root, table.name, table.id, version, 0),
        *(len(files), sum(file.size for file in files.values())),
    )
    into = saved.store(target)
    into.prepare(table.name)
    there = set(into.list(table.name, FOLDER))
    names = [name for name in one.source.list(table.name, FOLDER) if _version(name) <= version]
    checkpoints = [name for name in names if name.endswith(".checkpoint.parquet")]
    logged = [name for name in names if name.endswith(".json")]
    kept: list[str] = []
    for name, body in _bodies(one.source, table.name, [*checkpoints[-1:], *logged], there):
        if body is None:
            kept.clear()  # it has just expired, and those before it
            continue
        if name not in there:
            into.put(table.name, f"{FOLDER}/{name}", body)
        if name.endswith(".json"):
            kept.append(name)
    log_from = _version(kept[0]) if kept else version + 1
    return SavedTable(
        *(saved.root, saved.table, saved.table_id, version, log_from, saved.files, saved.nbytes)
    )


def _bodies(
    source: Store, table: str, names: Sequence[str], there: set[str]
) -> Iterator[tuple[str, bytes | None]]:
    """Contents by name; empty, and not read, for those that are there already."""
    new = [name for name in names if name not in there]
    read = iter(source.read_many(table, [f"{FOLDER}/{name}" for name in new]))
    for name in names:
        yield name, b"" if name in there else next(read)


def _version(name: str) -> int:
    """The version that a file of a log is of; one above all for any other file."""
    digits = name[:20]
    return int(digits) if digits.isdigit() else 1 << 63


def _missing(one: _Chosen, into: Store) -> Iterator[tuple[str, int]]:
    """Path and size of the live files that the target has not, or not in full."""
    there = sizes(into, one.table.name)
    for file in one.table.live_files().values():
        if there.get(file.path) != file.size:
            yield file.path, file.size


def sizes(store: Store, table: str) -> dict[str, int]:
    """Bytes of the data files in a table's folder, by path."""
    selector = pafs.FileSelector("", recursive=False, allow_not_found=True)
    found = store.filesystem(table).get_file_info(selector)
    return {info.base_name: info.size for info in found if info.is_file}


def _copy_files(
    target: Store, missing: Sequence[tuple[_Chosen, SavedTable, str, int]], progress: Progress
) -> int:
    def copy(piece: tuple[_Chosen, SavedTable, str, int]) -> int:
        one, saved, path, size = piece
        return copy_file(one.source, saved.store(target), saved.table, path, size)

    return copy_all(copy, missing, progress)


def copy_all(copy: Callable[[Any], int], pieces: Sequence[Any], progress: Progress) -> int:
    """Copies pieces, several at a time; returns the bytes."""
    done = nbytes = 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for size in pool.map(copy, pieces):
                done, nbytes = done + 1, nbytes + size
                progress(done, len(pieces), nbytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return nbytes


def copy_file(source: Store, target: Store, table: str, path: str, size: int) -> int:
    """Copies a data file, whole or not at all; its bytes. Raises TemporaryError if it has gone or
    is of another size.
    """
    try:
        body = source.read(table, path)
    except FileNotFoundError as err:
        raise TemporaryError(
            f"{source.uri(table)}/{path} has gone while it was to be copied: begin again"
        ) from err
    if len(body) != size:
        raise NeedsOperator(
            f"{source.uri(table)}/{path} has {len(body):,} bytes and not {size:,}: it is damaged"
            " (docs/operations.md, 'A file that cannot be read')"
        )
    target.put(table, path, body)
    return size


def _require_whole(one: _Chosen, into: Store) -> None:
    """Raises TemporaryError unless the copy, opened as any table, has the version and its files."""
    name, version = one.table.name, one.table.version
    state = load(into, name, version=version)
    if state is None or state.files is None or state.files.keys() != one.table.live_files().keys():
        raise TemporaryError(f"{name}: its log has expired while it was copied: begin again")
    there = sizes(into, name)
    lost = [file.path for file in state.files.values() if there.get(file.path) != file.size]
    if lost:
        raise TemporaryError(f"{into.uri(name)}/{lost[0]} is not there, or not whole: begin again")


def as_json(backups: Iterable[Backup]) -> list[Mapping[str, Any]]:
    """The backups without their tables, for programs."""
    return [
        {
            "id": backup.backup_id,
            "begun_ms": backup.begun_ms,
            "ended_ms": backup.ended_ms,
            "is_one_moment": backup.is_one_moment,
            "files": backup.files,
            "bytes": backup.nbytes,
        }
        for backup in backups
    ]
