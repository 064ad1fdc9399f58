"""The loop over the series of an index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.tsdb.kernel_bits import CUT, crc32c, uvarint, varint
from varve.model.compiled import inline, kernel

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


@inline
def _behind(at):
    """The byte that begins at a place, or CUT."""
    return at // 8 if at != CUT else np.int64(CUT)


@kernel(
    "int64(const uint8[::1], int64, int64, int64, int64[::1], boolean,"
    " int64[::1], int64[::1], int64[:, ::1], int64[::1], int64[:, ::1])"
)
def walk(
    data: U8, begin: int, end: int, alignment: int, totals: I64, fills: bool,  # noqa: FBT001 - of a kernel
    refs: I64, label_ends: I64, labels: I64, chunk_ends: I64, chunks: I64,
) -> int:  # fmt: skip
    """Counts series, their labels and chunks in `totals`; then, if it fills, writes them. Returns
    the place of a series that is damaged, -1 if none is.
    """
    count = label_count = chunk_count = 0
    at = begin
    while at < end:
        at += -at % alignment
        if at < end and data[at] == 0:
            at += 1  # padding
            continue
        if at >= end:
            break
        first = at
        size, place = uvarint(data, at * 8, end * 8)
        at = _behind(place)
        if at == CUT or size > np.uint64(end - at) or np.int64(size) + 4 > end - at:
            return np.int64(first)
        stop = at + np.int64(size)
        if not fills:
            sum_ = np.int64(0)
            for k in range(4):
                sum_ = sum_ << 8 | np.int64(data[stop + k])
            if np.int64(crc32c(data, at, stop)) != sum_:
                return np.int64(first)
        limit = stop * 8
        number, place = uvarint(data, at * 8, limit)
        own = np.int64(number)
        if place == CUT or not 0 <= own <= stop - at:
            return np.int64(first)
        for _ in range(own):
            name, place = uvarint(data, place, limit)
            value, place = uvarint(data, place, limit)
            if fills:
                labels[label_count, 0] = np.int64(name)
                labels[label_count, 1] = np.int64(value)
            label_count += 1
        number, place = uvarint(data, place, limit)
        own = np.int64(number)
        if place == CUT or not 0 <= own <= stop - at:
            return np.int64(first)
        time = ref = np.int64(0)
        for k in range(own):
            if k == 0:
                time, place = varint(data, place, limit)
            else:
                step, place = uvarint(data, place, limit)
                time += np.int64(step)
            length, place = uvarint(data, place, limit)
            if k == 0:
                step, place = uvarint(data, place, limit)
                ref = np.int64(step)
            else:
                change, place = varint(data, place, limit)
                ref += change
            if fills:
                chunks[chunk_count, 0] = ref
                chunks[chunk_count, 1] = time
                chunks[chunk_count, 2] = time + np.int64(length)
            time += np.int64(length)
            chunk_count += 1
        if place == CUT:
            return np.int64(first)
        if fills:
            refs[count] = first // alignment
            label_ends[count] = label_count
            chunk_ends[count] = chunk_count
        count += 1
        at = stop + 4
    totals[0] = count
    totals[1] = label_count
    totals[2] = chunk_count
    return np.int64(-1)
