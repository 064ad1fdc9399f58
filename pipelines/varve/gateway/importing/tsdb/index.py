"""The index of a block: which series it has, and where their chunks are.

All formats that Prometheus reads (1 to 3). Source: Prometheus, tsdb/docs/format/index.md.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.tsdb.kernel_bits import crc32c
from varve.gateway.importing.tsdb.kernel_index import walk

_MAGIC: Final = 0xBAAAD700
_TOC: Final = struct.Struct(">6QI")
_HEADER_BYTES, _CRC_BYTES = 5, 4
_ALIGNED: Final = 16
_FORMATS: Final = (1, 2, 3)

I64 = npt.NDArray[np.int64]


class DamagedBlock(ValueError):
    """Files of a block contradict themselves; the text says which and where."""


@dataclass(frozen=True, slots=True)
class IndexedSeries:
    """A series of a block. ref: its number, which tombstones name it by. labels: sorted by name.
    chunks: a row for each, in order of time: where it is, time of its first and last sample.
    """

    ref: int
    labels: tuple[tuple[str, str], ...]
    chunks: I64


class Index:
    """An index file, read into memory but for its labels."""

    def __init__(self, path: Path) -> None:
        """Raises DamagedBlock, OSError."""
        self._path = path
        self._data = read_only(path)
        size = len(self._data)
        if size < _HEADER_BYTES + _TOC.size or self._be32(0) != _MAGIC:
            raise DamagedBlock(f"{path} is no index of Prometheus")
        self._format = int(self._data[4])
        if self._format not in _FORMATS:
            raise DamagedBlock(f"{path} has the format {self._format}; 1 to 3 are known")
        toc_at = size - _TOC.size
        self._check(toc_at, toc_at + 48, "table of contents")
        *sections, _ = _TOC.unpack(self._data[toc_at:].tobytes())
        symbols_at, series_at = sections[:2]
        behind = [at for at in (*sections[2:], toc_at) if at > series_at]
        self._series_end = min(behind, default=series_at)
        if not _HEADER_BYTES <= symbols_at < toc_at or not series_at < self._series_end <= toc_at:
            raise DamagedBlock(f"{path}: its sections are not where it says")
        self._symbols = self._read_symbols(symbols_at)
        self._series = self._read_series(series_at)

    def __len__(self) -> int:
        return len(self._series[0])

    def series(self) -> Iterator[IndexedSeries]:
        """All series, in order of their labels."""
        refs, label_ends, labels, chunk_ends, chunks = self._series
        label_at = chunk_at = 0
        rows = zip(refs.tolist(), label_ends.tolist(), chunk_ends.tolist(), strict=True)
        for ref, label_end, chunk_end in rows:
            pairs = labels[label_at:label_end].tolist()
            try:
                named = tuple((self._symbols[name], self._symbols[value]) for name, value in pairs)
            except KeyError as err:
                raise DamagedBlock(f"{self._path}: series {ref} has symbol {err}") from None
            yield IndexedSeries(ref, named, chunks[chunk_at:chunk_end])
            label_at, chunk_at = label_end, chunk_end

    def _read_symbols(self, at: int) -> dict[int, str]:
        """Texts by what refers to them: their place in the file (format 1) or in the table."""
        begin = at + 4
        end = begin + self._be32(at)
        self._check(begin, end, "symbol table")
        content = self._data[begin:end].tobytes()
        count, at = int.from_bytes(content[:4], "big"), 4
        found: dict[int, str] = {}
        for number in range(count):
            ref = begin + at if self._format == 1 else number
            size = shift = 0
            while True:
                if at >= len(content) or shift > 56:
                    raise DamagedBlock(f"{self._path}: symbol {number} is cut")
                byte = content[at]
                at += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            if size > len(content) - at:
                raise DamagedBlock(f"{self._path}: symbol {number} is cut")
            found[ref] = content[at : at + size].decode("utf-8", "replace")
            at += size
        return found

    def _read_series(self, begin: int) -> tuple[I64, I64, I64, I64, I64]:
        """References, then labels and chunks of all series, and where those of each end."""
        alignment = 1 if self._format == 1 else _ALIGNED
        totals = np.zeros(3, np.int64)
        none = np.zeros(0, np.int64)
        no_rows = np.zeros((0, 3), np.int64)
        refs, label_ends, labels, chunk_ends, chunks = none, none, no_rows, none, no_rows
        for fills in (False, True):
            wrong_at = walk(
                self._data, begin, self._series_end, alignment, totals, fills,
                refs, label_ends, labels, chunk_ends, chunks,
            )  # fmt: skip
            if wrong_at >= 0:
                raise DamagedBlock(f"{self._path}: the series at byte {wrong_at} is damaged")
            if not fills:
                count, label_count, chunk_count = totals.tolist()
                refs, label_ends, chunk_ends = (np.zeros(count, np.int64) for _ in range(3))
                labels = np.zeros((label_count, 2), np.int64)
                chunks = np.zeros((chunk_count, 3), np.int64)
        return refs, label_ends, labels, chunk_ends, chunks

    def _be32(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + 4].tobytes(), "big")

    def _check(self, begin: int, end: int, what: str) -> None:
        is_whole = end + _CRC_BYTES <= len(self._data)
        if not is_whole or crc32c(self._data, begin, end) != self._be32(end):
            raise DamagedBlock(f"{self._path}: the checksum of its {what} is wrong")


def read_only(path: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file, mapped. Raises OSError."""
    with path.open("rb") as opened:
        if not path.stat().st_size:
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
