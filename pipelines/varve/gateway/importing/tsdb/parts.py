"""A block in parts that are sent: requests of remote write with many samples of each series."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.sources import Part
from varve.gateway.importing.tsdb.block import SeriesSamples, TsdbBlock
from varve.gateway.importing.tsdb.index import DamagedBlock
from varve.gateway.write_request import WriteRequest
from varve.model.compiled import inline, kernel
from varve.model.errors import BadRequest

SAMPLES_OF_PART: Final = 50_000
_MOST_BYTES_OF_SAMPLE: Final = 2 + 9 + 11
# A histogram is written with all its buckets: like as many samples.
_HISTOGRAM: Final = 20


def parts_of_block(block: TsdbBlock, after_ms: int | None = None) -> Iterator[Part]:
    """Parts of about SAMPLES_OF_PART, each of whole pieces of series. after_ms: floats up to then
    are left out. Raises BadRequest where the block is damaged.
    """
    number, done, pieces, weight = 0, 0, list[SeriesSamples](), 0
    total = len(block.index)
    try:
        for done, series in enumerate(block.series(), 1):
            for piece in _pieces(_after(series, after_ms)):
                pieces.append(piece)
                weight += len(piece.ts) + _HISTOGRAM * len(piece.histograms)
                if weight >= SAMPLES_OF_PART:
                    yield _part(number, pieces, done, total)
                    number, pieces, weight = number + 1, [], 0
    except DamagedBlock as damaged:
        raise BadRequest(str(damaged)) from damaged
    yield _part(number, pieces, done, total)


def _after(series: SeriesSamples, after_ms: int | None) -> SeriesSamples:
    if after_ms is None or not len(series.ts) or series.ts[0] > after_ms:
        return series
    begin = int(np.searchsorted(series.ts, after_ms, side="right"))
    return SeriesSamples(series.labels, series.ts[begin:], series.values[begin:], series.histograms)


def _pieces(series: SeriesSamples) -> Iterator[SeriesSamples]:
    for at in range(0, len(series.ts), SAMPLES_OF_PART):
        end = at + SAMPLES_OF_PART
        yield SeriesSamples(series.labels, series.ts[at:end], series.values[at:end])
    step = SAMPLES_OF_PART // _HISTOGRAM
    for at in range(0, len(series.histograms), step):
        found = series.histograms[at : at + step]
        yield SeriesSamples(series.labels, series.ts[:0], series.values[:0], found)


def _part(number: int, pieces: list[SeriesSamples], done: int, total: int) -> Part:
    return Part(number, _content(pieces), sum(map(len, pieces)), done, total)


def _content(pieces: list[SeriesSamples]) -> Callable[[], bytes]:
    def content() -> bytes:
        request = WriteRequest()
        for piece in pieces:
            labels = [(name, value) for name, value in piece.labels if value]
            if len(piece.ts):
                buffer = np.empty(len(piece.ts) * _MOST_BYTES_OF_SAMPLE, np.uint8)
                size = _write(buffer, piece.ts, piece.values.view(np.uint64))
                request.add_samples(labels, buffer[:size].tobytes(), len(piece.ts))
            for ts, histogram in piece.histograms:
                request.add(labels, histogram, ts)
        return request.message().content.tobytes()

    return content


@inline
def _put(buffer: npt.NDArray[np.uint8], at: int, value: int, size: int) -> int:
    for i in range(size):
        buffer[at + i] = np.uint8((value >> np.uint64(8 * i)) & np.uint64(0xFF))
    return at + size


@kernel("int64(uint8[::1], const int64[::1], const uint64[::1])")
def _write(
    buffer: npt.NDArray[np.uint8], ts: npt.NDArray[np.int64], values: npt.NDArray[np.uint64]
) -> int:
    """Sample fields of a series of remote write 2.0; returns their size."""
    at = 0
    for i in range(len(ts)):
        rest = np.uint64(ts[i])
        groups = 1
        while rest >> np.uint64(7 * groups) != np.uint64(0) and groups < 10:
            groups += 1
        buffer[at] = 0x12
        buffer[at + 1] = np.uint8(10 + groups)
        buffer[at + 2] = 0x09
        at = _put(buffer, at + 3, values[i], 8)
        buffer[at] = 0x10
        at += 1
        for group in range(groups):
            more = np.uint64(0x80) if group + 1 < groups else np.uint64(0)
            buffer[at] = np.uint8(rest & np.uint64(0x7F) | more)
            rest >>= np.uint64(7)
            at += 1
    return at
