"""Loops over the bits of chunks of native histograms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.tsdb.kernel_bits import (
    CUT,
    take,
    varbit,
    varbit_int,
    without_start,
    xored,
)
from varve.model.compiled import kernel
from varve.model.staleness import STALE_BITS

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@kernel("UniTuple(uint64, 2)(const uint8[::1], int64, int64, int64)")
def take_bits(data: U8, at: int, width: int, end: int) -> tuple[int, int]:
    found, at = take(data, at, width, end)
    return found, np.uint64(at)


@kernel("UniTuple(uint64, 2)(const uint8[::1], int64, int64, boolean)")
def take_varbit(data: U8, at: int, end: int, is_signed: bool) -> tuple[int, int]:  # noqa: FBT001 - of a kernel
    if is_signed:
        number, at = varbit_int(data, at, end)
        return np.uint64(number), np.uint64(at)
    found, _, at = varbit(data, at, end)
    return found, np.uint64(at)


@kernel("int64(const uint8[::1], int64, int64, int64, int64[::1], uint64[:, ::1])")
def decode_integers(data: U8, at: int, end: int, start_header: int, ts: I64, numbers: U64) -> int:
    """Fills in times, and count, count of zeros, bits of the sum and buckets of each sample."""
    buckets = numbers.shape[1] - 3
    deltas = np.zeros(3 + buckets, np.int64)
    t = t_delta = np.int64(0)
    leading = trailing = np.int64(0)
    total = np.uint64(0)
    for i in range(len(ts)):
        change, at = varbit_int(data, at, end)
        if i == 0:
            t = change
        else:
            t_delta += change
            t += t_delta
        for k in range(2):
            if i == 0:
                numbers[i, k], _, at = varbit(data, at, end)
            else:
                change, at = varbit_int(data, at, end)
                deltas[k] += change
                numbers[i, k] = numbers[i - 1, k] + np.uint64(deltas[k])
        if i == 0:
            total, at = take(data, at, 64, end)
        else:
            total, leading, trailing, at = xored(data, at, total, leading, trailing, end)
        numbers[i, 2] = total
        if i == 0 or total != np.uint64(STALE_BITS):
            for k in range(3, 3 + buckets):
                change, at = varbit_int(data, at, end)
                if i == 0:
                    numbers[i, k] = np.uint64(change)
                else:
                    deltas[k] += change
                    numbers[i, k] = numbers[i - 1, k] + np.uint64(deltas[k])
        at = without_start(data, at, i, start_header, end)
        if at == CUT:
            return np.int64(CUT)
        ts[i] = t
    return np.int64(len(ts))


@kernel("int64(const uint8[::1], int64, int64, int64, int64[::1], uint64[:, ::1])")
def decode_floats(data: U8, at: int, end: int, start_header: int, ts: I64, numbers: U64) -> int:
    """As `decode_integers`, with the bits of floats."""
    width = numbers.shape[1]
    leading, trailing = np.zeros(width, np.int64), np.zeros(width, np.int64)
    t = t_delta = np.int64(0)
    for i in range(len(ts)):
        change, at = varbit_int(data, at, end)
        if i == 0:
            t = change
        else:
            t_delta += change
            t += t_delta
        for k in range(width):
            if i == 0:
                numbers[i, k], at = take(data, at, 64, end)
            elif k < 3 or numbers[i, 2] != np.uint64(STALE_BITS):
                numbers[i, k], leading[k], trailing[k], at = xored(
                    data, at, numbers[i - 1, k], leading[k], trailing[k], end
                )
        at = without_start(data, at, i, start_header, end)
        if at == CUT:
            return np.int64(CUT)
        ts[i] = t
    return np.int64(len(ts))
