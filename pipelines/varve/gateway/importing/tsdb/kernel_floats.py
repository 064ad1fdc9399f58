"""Chunks of floats: XOR and XOR2.

Source: Prometheus, tsdb/docs/format/chunks.md; tsdb/chunkenc/xor2.go of version 3.14.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from varve.gateway.importing.tsdb.kernel_bits import (
    CUT,
    ones,
    signed,
    take,
    uvarint,
    varint,
    window,
    windowed,
    without_start,
    xored,
)
from varve.model.compiled import inline, kernel
from varve.model.staleness import STALE_BITS

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_STALE: Final = np.uint64(STALE_BITS)
_XOR_WIDTHS: Final = (0, 14, 17, 20, 64)
_XOR2_WIDTHS: Final = (13, 20, 64)


@kernel("int64(const uint8[::1], int64, int64, int64[::1], uint64[::1])")
def decode_xor(data: U8, begin: int, end: int, ts: I64, values: U64) -> int:
    """Times and bits of the values of a chunk, from byte `begin` to `end`. ts and values: as long
    as it has samples. Returns that, or CUT if it has not as many.
    """
    at, limit = (begin + 2) * 8, end * 8
    leading = trailing = np.int64(0)
    t = delta = np.int64(0)
    value = np.uint64(0)
    for i in range(len(ts)):
        if i == 0:
            t, at = varint(data, at, limit)
            value, at = take(data, at, 64, limit)
        else:
            if i == 1:
                first, at = uvarint(data, at, limit)
                delta = np.int64(first)
            else:
                control, at = ones(data, at, 4, limit)
                width = _XOR_WIDTHS[control]
                change, at = take(data, at, width, limit)
                delta += signed(change, width)
            t += delta
            value, leading, trailing, at = xored(data, at, value, leading, trailing, limit)
        if at == CUT:
            return np.int64(CUT)
        ts[i] = t
        values[i] = value
    return np.int64(len(ts))


@kernel("int64(const uint8[::1], int64, int64, int64[::1], uint64[::1])")
def decode_xor2(data: U8, begin: int, end: int, ts: I64, values: U64) -> int:
    """As `decode_xor`: times and values are told of together, stale markers apart from values."""
    header = np.int64(data[begin + 2])
    at, limit = (begin + 3) * 8, end * 8
    leading = trailing = np.int64(0)
    t = delta = np.int64(0)
    value = base = np.uint64(0)
    for i in range(len(ts)):
        if i == 0:
            t, at = varint(data, at, limit)
            value, at = take(data, at, 64, limit)
            if value != _STALE:
                base = value
        else:
            control = 2
            if i == 1:
                first, at = uvarint(data, at, limit)
                delta = np.int64(first)
            else:
                control, at = ones(data, at, 5, limit)
                if 2 <= control <= 4:
                    width = _XOR2_WIDTHS[control - 2]
                    change, at = take(data, at, width, limit)
                    delta += _two_complement(change, width)
            t += delta
            value = base
            if control == 5:
                value = _STALE
            elif control > 0:
                how, at = ones(data, at, 1 if control == 1 else 3, limit)
                # Beside a change of time the value may be the same, or stale.
                is_new = how == 1 if control == 1 else how == 2
                if control > 1 and how == 3:
                    value = _STALE
                elif control == 1 or how > 0:
                    if is_new:
                        leading, trailing, at = window(data, at, limit)
                    base, at = windowed(data, at, base, leading, trailing, limit)
                    value = base
        at = without_start(data, at, i, header, limit)
        if at == CUT:
            return np.int64(CUT)
        ts[i] = t
        values[i] = value
    return np.int64(len(ts))


@inline
def _two_complement(bits, width):
    if width < 64 and bits >> np.uint64(width - 1):
        return np.int64(bits) - (np.int64(1) << width)
    return np.int64(bits)
