"""Tells a file that is missing or damaged from a storage that is out of reach.

Arrow raises OSError for both. One file that cannot be read is named and gone around; a storage that
is away is tried again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from varve.model.errors import NeedsOperator
from varve.storage.log import LiveFile
from varve.storage.store import COLDER, Store

READ_ERRORS = (OSError, pa.ArrowException)
"""What reading a Parquet file may raise."""


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A live file that cannot be read, and why, for a person."""

    table: str
    file: LiveFile
    why: str

    def __str__(self) -> str:
        return f"{self.table}/{self.file.path} {self.why}"


def find_unreadable(store: Store, table: str, files: Iterable[LiveFile]) -> list[UnreadableFile]:
    """Finds the live files that cannot be read. It reads them whole: ask after a failure. Those of
    a colder root that is out of reach are among them.

    Raises OSError if the storage itself is out of reach.
    """
    found = ((file, _why(store, table, file)) for file in files)
    return [UnreadableFile(table, file, why) for file, why in found if why is not None]


def require_readable(store: Store, table: str, files: Iterable[LiveFile]) -> None:
    """Raises NeedsOperator, naming what cannot be read of the files. Missing ones are found first,
    without reading the others. Raises OSError if the storage is out of reach.
    """
    files = list(files)
    missing = [UnreadableFile(table, f, "is missing") for f in _missing(store, table, files)]
    if found := missing or find_unreadable(store, table, files):
        more = f", and {len(found) - 1} more files" if len(found) > 1 else ""
        raise NeedsOperator(
            f"{found[0]}{more}: put it back, or accept its loss (docs/operations.md, 'A file that"
            " cannot be read')"
        )


def _missing(store: Store, table: str, files: Sequence[LiveFile]) -> list[LiveFile]:
    """Those that are not there. Each root is asked for all of its files at once."""
    by_root: dict[str, list[LiveFile]] = {}
    for file in files:
        by_root.setdefault(store.place(file.path)[0].root, []).append(file)
    found: list[LiveFile] = []
    for asked in by_root.values():
        places = [store.place(file.path) for file in asked]
        kinds = places[0][0].filesystem(table).get_file_info([path for _, path in places])
        found += [
            file
            for file, info in zip(asked, kinds, strict=True)
            if info.type == pafs.FileType.NotFound
        ]
    return found


def _why(store: Store, table: str, file: LiveFile) -> str | None:
    """What is wrong with the file; None if it can be read."""
    try:
        if _missing(store, table, [file]):
            return "is missing"
        with store.open_file(table, file.path) as opened:
            content = opened.read()
    except FileNotFoundError:
        return "is missing"
    except OSError as err:
        if file.path.startswith(COLDER):  # what needs it waits, and the rest goes on
            return f"is in a root that is out of reach: {err}"
        if store.place(file.path)[0].is_local and err.errno == errno.EIO:
            return f"cannot be read: {err}"
        raise
    if len(content) != file.size:
        return f"has {len(content)} bytes instead of {file.size}"
    try:
        pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except READ_ERRORS as err:
        return f"is damaged: {str(err).splitlines()[0]}"
    return None
