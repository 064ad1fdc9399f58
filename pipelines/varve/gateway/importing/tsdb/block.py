"""A block of Prometheus' database: its series, and the samples of each.

Source: Prometheus, tsdb/docs/format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.tsdb.histogram_chunks import CutChunk, decode_histograms
from varve.gateway.importing.tsdb.index import DamagedBlock, Index, IndexedSeries, read_only
from varve.gateway.importing.tsdb.kernel_bits import CUT, crc32c
from varve.gateway.importing.tsdb.kernel_floats import decode_xor, decode_xor2
from varve.gateway.importing.tsdb.tombstones import read_tombstones, spared
from varve.model.window import Window
from varve.promql.histograms.native_histogram import FloatHistogram

_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_SEGMENT_MAGIC: Final = 0x85BD40DD
_SEGMENT_HEADER_BYTES: Final = 8
_FEWEST_BYTES: Final = 1 + 2 + 1
_FLOATS: Final = {1: decode_xor, 4: decode_xor2}
_HISTOGRAMS: Final = {
    2: partial(decode_histograms, is_float=False, has_starts=False),
    3: partial(decode_histograms, is_float=True, has_starts=False),
    5: partial(decode_histograms, is_float=False, has_starts=True),
    6: partial(decode_histograms, is_float=True, has_starts=True),
}
# Those with start times have two bits of flags before it.
_COUNT_MASKS: Final = {5: 0x3FFF, 6: 0x3FFF}

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
_NONE = np.zeros(0, np.int64), np.zeros(0, np.float64)


@dataclass(frozen=True, slots=True)
class SeriesSamples:
    """Samples of a series, those that were deleted left out. ts: Unix ms. values: staleness markers
    by their bits. histograms: None is a staleness marker.
    """

    labels: tuple[tuple[str, str], ...]
    ts: I64
    values: F64
    histograms: list[tuple[int, FloatHistogram | None]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ts) + len(self.histograms)


class TsdbBlock:
    """A block that is read. Raises DamagedBlock where its files are not as they should be."""

    def __init__(self, folder: Path) -> None:
        """Reads all but the samples. Raises OSError, too."""
        self.folder = folder
        meta = _meta(folder)
        self.ulid: str = meta["ulid"]
        self.begin_ms: int = meta["minTime"]
        self.end_ms: int = meta["maxTime"]
        self.index = Index(folder / "index")
        self._deleted = read_tombstones(folder / "tombstones")
        self._paths = sorted((folder / "chunks").iterdir())
        self._segments: dict[int, npt.NDArray[np.uint8]] = {}

    def series(self) -> Iterator[SeriesSamples]:
        """Every series with what is left of its samples, in order of labels."""
        for series in self.index.series():
            yield self._samples(series)

    def series_within(self, window: Window) -> Iterator[SeriesSamples]:
        """Series that have samples in a window that are floats, and these, in order of labels."""
        for series in self.index.series():
            first, last = series.chunks[:, 1], series.chunks[:, 2]
            touched = series.chunks[(first <= window.end_ms) & (last > window.start_ms)]
            if not len(touched):
                continue
            found = self._samples(replace(series, chunks=touched))
            inside = (found.ts > window.start_ms) & (found.ts <= window.end_ms)
            if inside.any():
                yield SeriesSamples(found.labels, found.ts[inside], found.values[inside])

    def _samples(self, series: IndexedSeries) -> SeriesSamples:
        floats: list[tuple[I64, F64]] = []
        histograms: list[tuple[int, FloatHistogram | None]] = []
        for ref in series.chunks[:, 0].tolist():
            data, begin, end = self._chunk(ref)
            encoding = int(data[begin])
            count = int(data[begin + 1]) << 8 | int(data[begin + 2])
            count &= _COUNT_MASKS.get(encoding, 0xFFFF)
            if encoding in _FLOATS:
                times, bits = np.empty(count, np.int64), np.empty(count, np.uint64)
                if _FLOATS[encoding](data, begin + 1, end, times, bits) == CUT:
                    raise self._damaged(ref, "it is cut")
                floats.append((times, bits.view(np.float64)))
            elif encoding in _HISTOGRAMS:
                try:
                    histograms += _HISTOGRAMS[encoding](data, begin + 1, end, count)
                except CutChunk as cut:
                    raise self._damaged(ref, str(cut)) from cut
            else:
                raise self._damaged(ref, f"its encoding {encoding} is unknown")
        ts, values = map(np.concatenate, zip(*floats, strict=True)) if floats else _NONE
        if deleted := self._deleted.get(series.ref):
            kept = spared(ts, deleted)
            ts, values = ts[kept], values[kept]
            kept = spared(np.array([t for t, _ in histograms], np.int64), deleted)
            histograms = [h for h, is_kept in zip(histograms, kept, strict=True) if is_kept]
        return SeriesSamples(series.labels, ts, values, histograms)

    def _chunk(self, ref: int) -> tuple[npt.NDArray[np.uint8], int, int]:
        """The segment of a chunk, and where in it the encoding stands and the chunk ends."""
        data = self._segment(ref >> 32)
        at = ref & 0xFFFFFFFF
        size = shift = 0
        while at < len(data) and shift < 35:
            byte = int(data[at])
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        end = at + 1 + size
        if end + 4 > len(data) or 1 + size < _FEWEST_BYTES:
            raise self._damaged(ref, "it is cut")
        if crc32c(data, at, end) != int.from_bytes(data[end : end + 4].tobytes(), "big"):
            raise self._damaged(ref, "its checksum is wrong")
        return data, at, end

    def _segment(self, number: int) -> npt.NDArray[np.uint8]:
        found = self._segments.get(number)
        if found is None:
            if number >= len(self._paths):
                raise DamagedBlock(f"{self.folder / 'chunks'} has no file of number {number + 1}")
            path = self._paths[number]
            found = self._segments[number] = read_only(path)
            magic = int.from_bytes(found[:4].tobytes(), "big")
            if len(found) < _SEGMENT_HEADER_BYTES or magic != _SEGMENT_MAGIC or found[4] != 1:
                raise DamagedBlock(f"{path} is no file of chunks")
        return found

    def _damaged(self, ref: int, why: str) -> DamagedBlock:
        return DamagedBlock(
            f"{self._paths[ref >> 32]}: the chunk at byte {ref & 0xFFFFFFFF}: {why}"
        )


def block_folders(folder: Path) -> list[Path]:
    """The folder, if it is a block; else the blocks in it, in order of time. Folders that
    Prometheus has not finished, or is about to delete, are none. Raises DamagedBlock, OSError.
    """
    if (folder / "meta.json").is_file():
        return [folder]
    found = [f for f in folder.iterdir() if _ULID.fullmatch(f.name) and (f / "meta.json").is_file()]
    return sorted(found, key=lambda block: (_meta(block)["minTime"], block.name))


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text())
        if meta["version"] != 1:
            raise DamagedBlock(f"{path} has the version {meta['version']}; 1 is known")
        return {"ulid": str(meta["ulid"])} | {n: int(meta[n]) for n in ("minTime", "maxTime")}
    except (ValueError, KeyError, TypeError) as err:
        if isinstance(err, DamagedBlock):
            raise
        raise DamagedBlock(f"{path} does not describe a block: {err!r}") from err
