"""Footers of data files on local disk: a service that starts again need not ask an object store for
each of them before it can tell which row groups a query wants.

Files never change, so a footer stays true. Only what its checksum confirms is used; whatever fails
here costs a request to the store and nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

# Of those that are over the bound the oldest go, so large a part of all at once.
_PART: Final = 8
_LAYOUT: Final = """
CREATE TABLE IF NOT EXISTS footers (id INTEGER PRIMARY KEY, file TEXT UNIQUE, body BLOB NOT NULL)
"""
_UNREADABLE: Final = (zstandard.ZstdError, pa.ArrowException, OSError)

log = logging.getLogger(__name__)


class KeptFooters:
    """Safe to use from any thread."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """path: a file that is made where there is none, and anew where it is damaged. max_bytes:
        of footers, compressed; the file is a little larger.
        """
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _opened(path)
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)
                self._database = _opened(path)
            self._bytes = self._sum()
        except (sqlite3.Error, OSError) as err:
            self._give_up(err)

    def get(self, table: str, path: str) -> pq.FileMetaData | None:
        """The footer of a file, if it is kept."""
        with self._lock:
            if self._database is None:
                return None
            try:
                row = self._database.execute(
                    "SELECT body FROM footers WHERE file = ?", (f"{table}/{path}",)
                ).fetchone()
            except sqlite3.Error as err:
                self._give_up(err)
                return None
        if row is None:
            return None
        try:
            body = zstandard.ZstdDecompressor().decompress(row[0])
            return pq.read_metadata(pa.BufferReader(body))
        except _UNREADABLE as err:
            log.warning("the footer of %s that is kept cannot be read: %s", path, err)
            return None

    def put(self, table: str, path: str, footer: pq.FileMetaData) -> None:
        sink = pa.BufferOutputStream()
        footer.write_metadata_file(sink)
        whole = sink.getvalue().to_pybytes()
        body = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(whole)
        with self._lock:
            if self._database is None or len(body) > self._max_bytes:
                return
            try:
                self._database.execute(
                    "INSERT OR REPLACE INTO footers (file, body) VALUES (?, ?)",
                    (f"{table}/{path}", body),
                )
                self._bytes += len(body)
                while self._bytes > self._max_bytes:
                    self._drop_some()
            except sqlite3.Error as err:
                self._give_up(err)

    def close(self) -> None:
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.close()

    def _drop_some(self) -> None:
        database = self._database
        if database is not None:
            (count,) = database.execute("SELECT count(*) FROM footers").fetchone()
            database.execute(
                "DELETE FROM footers WHERE id IN (SELECT id FROM footers ORDER BY id LIMIT ?)",
                (max(1, count // _PART),),
            )
            self._bytes = self._sum()

    def _sum(self) -> int:
        if self._database is None:
            return 0
        row = self._database.execute("SELECT sum(length(body)) FROM footers").fetchone()
        return int(row[0] or 0)

    def _give_up(self, err: Exception) -> None:
        log.warning("footers are not kept on disk: %s", err)
        self._database = None


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")  # what a loss of power takes is read again
    database.execute(_LAYOUT)
    return database
