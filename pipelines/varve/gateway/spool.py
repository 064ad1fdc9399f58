"""Messages on disk while Kafka cannot take them: appended, synced, read back in order.

A spool is a folder of segments, NNNNNNNNNN.spool, each a sequence of records:

    length   uint32   bytes of what follows the checksum
    checksum uint32   CRC-32C of these bytes
    partition, samples uint32, spooled_ms int64, key 8 bytes, value

all little-endian. A record counts once it is synced. Reading ends at the first one that is damaged,
as the last may be after a crash. A segment is deleted when Kafka has acknowledged all of it, so a
crash sends at most one segment again: copies of a sample merge.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

from varve.model.clock import Clock
from varve.model.errors import StorageFull
from varve.storage.local_files import sync

_HEAD = struct.Struct("<II")
_REST = struct.Struct("<IIq8s")
_LONGEST = 64 * 2**20

log = logging.getLogger("varve.gateway.spool")


@dataclass(frozen=True, slots=True)
class SpooledMessage:
    """A message for a partition. samples: how many a sender has sent."""

    partition: int
    key: bytes
    value: bytes
    samples: int
    spooled_ms: int = 0


@dataclass(slots=True)
class Segment:
    """A file of the spool that is not written any more."""

    path: Path
    size: int
    spooled_ms: int
    """When its first record was written."""


class Spool:
    """One writer and one reader may use it, each from a thread of its own."""

    def __init__(
        self, folder: Path, *, max_bytes: int, max_age_ms: int, segment_bytes: int, clock: Clock
    ) -> None:
        """max_bytes, max_age_ms: beyond either it takes no more. segment_bytes: a segment ends at
        the first record that makes it longer than that.

        Raises OSError if the folder cannot be made or read.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_ms
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._lock = threading.Lock()
        # Held while a segment is written, so that nobody seals it meanwhile. Taken before _lock.
        self._appending = threading.RLock()
        self._writing: _OpenSegment | None = None
        self.damaged_bytes = 0
        """Bytes behind a damaged record, which were kept aside."""
        folder.mkdir(parents=True, exist_ok=True)
        self._sealed = [self._found(path) for path in sorted(folder.glob("*.spool"))]
        last = self._sealed[-1].path.stem if self._sealed else "0"
        self._next = int(last) + 1

    @property
    def size(self) -> int:
        """Bytes on disk."""
        with self._lock:
            return self._size()

    def oldest_ms(self) -> int | None:
        """When the oldest message was spooled; None if there is none."""
        with self._lock:
            if self._sealed:
                return self._sealed[0].spooled_ms
            return self._writing.spooled_ms if self._writing is not None else None

    def why_full(self, more: int = 0) -> str:
        """Why `more` bytes find no room; "" if they do."""
        size, oldest = self.size, self.oldest_ms()
        if size + more > self._max_bytes:
            return f"the spool has {size:,} of the {self._max_bytes:,} bytes it may take"
        if oldest is not None and self._clock.now_ms() - oldest > self._max_age_ms:
            return "the spool's oldest message has waited as long as it may"
        return ""

    def append(self, messages: Sequence[SpooledMessage]) -> None:
        """Writes messages and syncs them. Raises StorageFull beyond the spool's bounds, OSError if
        the disk fails; then none of them counts.
        """
        now_ms = self._clock.now_ms()
        records = b"".join(_record(message, now_ms) for message in messages)
        with self._appending:
            self._append(records, now_ms)

    def _append(self, records: bytes, now_ms: int) -> None:
        if why := self.why_full(len(records)):
            raise StorageFull(errno.ENOSPC, why)
        with self._lock:
            if self._writing is None:
                self._writing = _OpenSegment.begin(self._path(), now_ms)
                sync(self._folder)
            writing = self._writing
        try:
            writing.append(records)
        except OSError:
            self.seal()
            raise
        if writing.size >= self._segment_bytes:
            self.seal()

    def seal(self) -> None:
        """Ends the segment that is being written, so that it can be read."""
        with self._appending, self._lock:
            writing, self._writing = self._writing, None
            if writing is None:
                return
            writing.close()
            if writing.size:
                self._sealed.append(Segment(writing.path, writing.size, writing.spooled_ms))
            else:
                writing.path.unlink(missing_ok=True)

    def oldest(self) -> Segment | None:
        """The segment to be read next, which the caller discards when it is delivered."""
        with self._lock:
            if self._sealed:
                return self._sealed[0]
        self.seal()
        with self._lock:
            return self._sealed[0] if self._sealed else None

    def read(self, segment: Segment) -> Iterator[SpooledMessage]:
        """The messages of a segment up to the first damage."""
        with segment.path.open("rb") as file:
            for _, message in _records(file.read()):
                yield message

    def discard(self, segment: Segment) -> None:
        """Deletes a segment that was delivered. What is behind a damaged record is kept aside."""
        content = segment.path.read_bytes()
        whole = 0
        for whole, _ in _records(content):  # noqa: B007 - the last one counts
            pass
        if whole < len(content):
            self.damaged_bytes += len(content) - whole
            aside = segment.path.with_suffix(".damaged")
            log.warning(
                "%s is damaged at byte %d: the %d bytes from there on are kept in %s",
                segment.path, whole, len(content) - whole, aside,
            )  # fmt: skip
            aside.write_bytes(content[whole:])
        with self._lock:
            self._sealed.remove(segment)
        segment.path.unlink()

    def close(self) -> None:
        self.seal()

    def _size(self) -> int:
        writing = self._writing.size if self._writing is not None else 0
        return sum(segment.size for segment in self._sealed) + writing

    def _path(self) -> Path:
        path = self._folder / f"{self._next:010}.spool"
        self._next += 1
        return path

    def _found(self, path: Path) -> Segment:
        """A segment of a process before this one."""
        with path.open("rb") as file:
            head = file.read(_HEAD.size + _REST.size)
        status = path.stat()
        is_whole = len(head) == _HEAD.size + _REST.size
        spooled = _REST.unpack(head[_HEAD.size :])[2] if is_whole else 0
        now_ms = self._clock.now_ms()
        return Segment(path, status.st_size, spooled if 0 < spooled <= now_ms else now_ms)


def adopt(source: Path, target: Path) -> int:
    """Moves the segments of one spool behind those of another, in their order; nobody may use
    either meanwhile. Returns how many. What a crash leaves is moved by the next call.
    """
    left = sorted(source.glob("*.spool"))
    if not left:
        return 0
    target.mkdir(parents=True, exist_ok=True)
    last = max((int(path.stem) for path in target.glob("*.spool")), default=0)
    for number, path in enumerate(left, last + 1):
        path.rename(target / f"{number:010}.spool")
    sync(target)
    sync(source)
    return len(left)


class _OpenSegment:
    """The segment that is being written."""

    def __init__(self, path: Path, fd: int, spooled_ms: int) -> None:
        self.path = path
        self.size = 0
        self.spooled_ms = spooled_ms
        self._fd = fd

    @classmethod
    def begin(cls, path: Path, now_ms: int) -> _OpenSegment:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return cls(path, fd, now_ms)

    def append(self, records: bytes) -> None:
        """Writes and syncs. On failure the file ends where it did before, as far as that can be
        had: a cut record is no harm, as nothing is written behind it.
        """
        try:
            left = memoryview(records)
            while left:
                left = left[os.write(self._fd, left) :]
            os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        self.size += len(records)

    def close(self) -> None:
        os.close(self._fd)


def _record(message: SpooledMessage, now_ms: int) -> bytes:
    rest = _REST.pack(message.partition, message.samples, now_ms, message.key) + message.value
    return _HEAD.pack(len(rest), crc32c(rest)) + rest


def _records(content: bytes) -> Iterator[tuple[int, SpooledMessage]]:
    """Each whole record, and the offset behind it."""
    at = 0
    while len(content) - at >= _HEAD.size:
        length, checksum = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        rest = content[at : at + length]
        if not _REST.size <= length <= _LONGEST or len(rest) < length or crc32c(rest) != checksum:
            return
        at += length
        partition, samples, spooled_ms, key = _REST.unpack_from(rest)
        yield at, SpooledMessage(partition, key, rest[_REST.size :], samples, spooled_ms)
