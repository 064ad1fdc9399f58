"""The state on disk: a journal of records and, now and then, a snapshot of all of it.

A file is a head and frames: length, CRC-32C and a list of records in msgpack. snapshot-N holds all
that journals before N say; journals from N on follow it. A frame that is cut short or damaged ends
a journal: what stands before it counts, the rest is set aside in a file of its own.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import crc32c
import msgspec

from varve.model.errors import NeedsOperator
from varve.notify.records import Record, decode, encode
from varve.storage.local_files import sync

_MAGIC = b"varve notify 1\n"
_HEAD = struct.Struct("<II")
_NAME = re.compile(r"(journal|snapshot)-(\d{8})")
# A frame holds so many records at most: reading one takes little memory.
_FRAME_RECORDS = 5_000


class Journal:
    """The files of one folder, which one process at a time may have open. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder if it is not there. Raises NeedsOperator if another process has it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
        except OSError as err:
            raise NeedsOperator(f"{folder}: {err.strerror}; see --storage.path") from err
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise NeedsOperator(
                f"another process uses {folder}: give each its own --storage.path"
            ) from None
        self._folder = folder
        self._file = -1
        self._number = 0
        self._end = 0
        self.notes: list[str] = []
        """What was wrong with the files when they were read, for the log."""

    @property
    def bytes_written(self) -> int:
        """Size of the journal that is written to."""
        return self._end

    def read(self) -> Iterator[Record]:
        """Every record that counts, in order; then the journal can be written to.

        Must be read to its end.
        """
        for leftover in self._folder.glob("*.new"):
            leftover.unlink()
        snapshots, journals = self._numbered("snapshot"), self._numbered("journal")
        first = 0
        for number in sorted(snapshots, reverse=True):
            records = self._whole_snapshot(snapshots[number])
            if records is not None:
                first = number
                yield from records
                break
        numbers = sorted(number for number in journals if number >= first)
        for number in numbers:
            yield from self._frames(journals[number])
        self._open(numbers[-1] if numbers else max(first, 1))

    def append(self, records: list[Record]) -> None:
        """Writes records; `sync` makes them durable. Raises OSError with nothing appended."""
        frames = b"".join(map(_frame, _parts(records)))
        try:
            _write_all(self._file, frames)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(frames)

    def sync(self) -> None:
        os.fdatasync(self._file)

    def rotate(self) -> int:
        """Goes on in a new journal; its number, which a snapshot of what came before gets."""
        self.sync()
        number = self._number + 1
        self._open(number)
        return number

    def write_snapshot(self, number: int, records: Iterable[Record]) -> int:
        """Stores all the state that journals before `number` say, and deletes those; its bytes.

        May run in a thread of its own. Raises OSError, and then nothing is deleted.
        """
        path = self._folder / f"snapshot-{number:08}"
        new = path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(_MAGIC)
                for part in _parts(list(records)):
                    file.write(_frame(part))
                file.write(_frame([]))
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            new.rename(path)
            sync(self._folder)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        for kind in ("journal", "snapshot"):
            for old, file_path in self._numbered(kind).items():
                if old < number:
                    file_path.unlink()
        return size

    def close(self) -> None:
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1
        self._lock.close()

    def abandon(self) -> None:
        """Closes the files with nothing flushed, as a process that is killed does."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._lock.close()

    def _open(self, number: int) -> None:
        path = self._folder / f"journal-{number:08}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            end = os.fstat(file).st_size
            if end < len(_MAGIC):
                os.ftruncate(file, 0)
                _write_all(file, _MAGIC)
                os.fdatasync(file)
                sync(self._folder)
                end = len(_MAGIC)
        except OSError:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._number, self._end = file, number, end

    def _numbered(self, kind: str) -> dict[int, Path]:
        found = {}
        for path in self._folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and match[1] == kind:
                found[int(match[2])] = path
        return found

    def _whole_snapshot(self, path: Path) -> list[Record] | None:
        """The records of a snapshot; None, and a note, if it is damaged."""
        found: list[Record] = []
        data = path.read_bytes()
        at = len(_MAGIC)
        if data.startswith(_MAGIC):
            while (frame := _read_frame(data, at)) is not None:
                records, at = frame
                if not records and at == len(data):
                    return found
                found += records
        damaged = path.with_name(path.name + ".damaged")
        path.rename(damaged)
        self.notes.append(f"the snapshot {path.name} is damaged: set aside as {damaged.name}")
        return None

    def _frames(self, path: Path) -> Iterator[Record]:
        data = path.read_bytes()
        at = len(_MAGIC) if data.startswith(_MAGIC) else 0
        if at:
            while (frame := _read_frame(data, at)) is not None:
                records, at = frame
                yield from records
        if at < len(data) and not _MAGIC.startswith(data):
            rest = path.with_name(f"{path.name}.cut-at-{at}")
            rest.write_bytes(data[at:])
            os.truncate(path, at)
            self.notes.append(
                f"{path.name} is cut short or damaged from byte {at} on: what follows,"
                f" {len(data) - at} bytes, is set aside as {rest.name}"
            )


def _parts(records: list[Record]) -> Iterator[list[Record]]:
    for start in range(0, len(records), _FRAME_RECORDS):
        yield records[start : start + _FRAME_RECORDS]


def _frame(records: list[Record]) -> bytes:
    payload = encode(records)
    return _HEAD.pack(len(payload), crc32c.crc32c(payload)) + payload


def _read_frame(data: bytes, at: int) -> tuple[list[Record], int] | None:
    """The records of the frame at an offset, and where it ends; None if there is no whole one."""
    begin = at + _HEAD.size
    if begin > len(data):
        return None
    length, checksum = _HEAD.unpack_from(data, at)
    payload = data[begin : begin + length]
    if len(payload) < length or crc32c.crc32c(payload) != checksum:
        return None
    try:
        return decode(payload), begin + length
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
