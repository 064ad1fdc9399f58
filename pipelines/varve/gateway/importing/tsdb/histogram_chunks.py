"""Chunks of native histograms, of whole and of float counts, with and without start times.

Source: Prometheus, tsdb/docs/format/chunks.md; tsdb/chunkenc/histogram_st.go of version 3.14.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.tsdb.kernel_bits import CUT
from varve.gateway.importing.tsdb.kernel_histograms import (
    decode_floats,
    decode_integers,
    take_bits,
    take_varbit,
)
from varve.model.staleness import STALE_BITS
from varve.promql.histograms.native_histogram import CUSTOM_BUCKETS, FloatHistogram, ResetHint

_HEADER: Final = 3
_MOST_BUCKETS: Final = 1 << 20
_MOST_NUMBERS: Final = 1 << 26
_GAUGE: Final = 0b11
_LITERAL_THRESHOLD: Final = 255
_CUT_PLACE: Final = CUT % (1 << 64)

Bytes = npt.NDArray[np.uint8]


class CutChunk(ValueError):
    """A chunk ends before its samples do, or contradicts itself."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the histograms of a chunk have in common. begin: the place of the first."""

    schema: int
    zero_threshold: float
    positive: list[int]
    """Index of each bucket."""
    negative: list[int]
    custom_values: tuple[float, ...]
    begin: int


def decode_histograms(
    data: Bytes, begin: int, end: int, count: int, *, is_float: bool, has_starts: bool
) -> Iterator[tuple[int, FloatHistogram | None]]:
    """Time and histogram of each of the `count` samples of a chunk, from byte `begin` to `end`;
    None is a staleness marker. Raises CutChunk.
    """
    layout = _Reader(data, (begin + _HEADER) * 8, end * 8).layout()
    buckets = len(layout.positive) + len(layout.negative)
    if count * (3 + buckets) > _MOST_NUMBERS:
        raise CutChunk(f"a chunk has {count:,} histograms of {buckets:,} buckets")
    ts = np.zeros(count, np.int64)
    numbers = np.zeros((count, 3 + buckets), np.uint64)
    start_header = int(data[begin + 2]) if has_starts else 0
    kernel_of = decode_floats if is_float else decode_integers
    if kernel_of(data, layout.begin, end * 8, start_header, ts, numbers) == CUT:
        raise CutChunk("a chunk of histograms is cut")
    header = int(data[begin if has_starts else begin + 2]) >> 6
    return _histograms(layout, header, ts, numbers, is_float=is_float)


def _histograms(
    layout: _Layout, header: int, ts: npt.NDArray[np.int64], numbers: npt.NDArray[np.uint64],
    *, is_float: bool,
) -> Iterator[tuple[int, FloatHistogram | None]]:  # fmt: skip
    sums = numbers[:, 2].view(np.float64).tolist()
    split = 3 + len(layout.positive)
    if is_float:
        heads, positive, negative = (
            part.view(np.float64)
            for part in (numbers[:, :2], numbers[:, 3:split], numbers[:, split:])
        )
    else:
        heads = numbers[:, :2].astype(np.float64)
        positive, negative = (
            np.cumsum(part.view(np.int64), axis=1).astype(np.float64)
            for part in (numbers[:, 3:split], numbers[:, split:])
        )
    for i, t in enumerate(ts.tolist()):
        if numbers[i, 2] == STALE_BITS:
            yield t, None
            continue
        yield (
            t,
            FloatHistogram(
                layout.schema,
                float(heads[i, 0]),
                sums[i],
                layout.zero_threshold,
                float(heads[i, 1]),
                _counted(layout.positive, positive[i]),
                _counted(layout.negative, negative[i]),
                layout.custom_values,
                _hint(header, i),
            ),
        )


def _counted(indexes: list[int], counts: npt.NDArray[np.float64]) -> dict[int, float]:
    pairs = zip(indexes, counts.tolist(), strict=True)
    return {index: count for index, count in pairs if count != 0}


def _hint(header: int, sample: int) -> ResetHint:
    """What is known of a reset before a sample. Within a chunk of counters there is none; before
    its first nothing is known, since the chunk in front may have come later.
    """
    if header == _GAUGE:
        return "gauge"
    return "not_reset" if sample else "unknown"


class _Reader:
    """Reads what a chunk has once."""

    def __init__(self, data: Bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end

    def layout(self) -> _Layout:
        zero_threshold = self._zero_threshold()
        schema = self._int()
        positive, negative = self._indexes(), self._indexes()
        bounds: tuple[float, ...] = ()
        if schema == CUSTOM_BUCKETS:
            bounds = tuple(self._bound() for _ in range(self._size()))
        return _Layout(schema, zero_threshold, positive, negative, bounds, self._at)

    def _zero_threshold(self) -> float:
        code = self._bits(8)
        if code == _LITERAL_THRESHOLD:
            return self._double()
        return math.ldexp(0.5, code - 243) if code else 0.0

    def _indexes(self) -> list[int]:
        found: list[int] = []
        index = 0
        for _ in range(self._size()):
            length, offset = self._size(), self._int()
            index += offset
            found += range(index, index + length)
            index += length
            if len(found) > _MOST_BUCKETS:
                raise CutChunk(f"a chunk has histograms of over {_MOST_BUCKETS:,} buckets")
        return found

    def _bound(self) -> float:
        number = self._uint()
        return (number - 1) / 1000 if number else self._double()

    def _size(self) -> int:
        found = self._uint()
        if found > _MOST_BUCKETS:
            raise CutChunk(f"a chunk has histograms of {found:,} buckets")
        return found

    def _double(self) -> float:
        found: float = struct.unpack("<d", struct.pack("<Q", self._bits(64)))[0]
        return found

    def _uint(self) -> int:
        return self._moved(*take_varbit(self._data, self._at, self._end, False))

    def _int(self) -> int:
        found = self._moved(*take_varbit(self._data, self._at, self._end, True))
        return found - (1 << 64) if found >> 63 else found

    def _bits(self, width: int) -> int:
        return self._moved(*take_bits(self._data, self._at, width, self._end))

    def _moved(self, found: int, at: int) -> int:
        self._at = int(at)
        if self._at == _CUT_PLACE:
            raise CutChunk("a chunk of histograms is cut")
        return int(found)
