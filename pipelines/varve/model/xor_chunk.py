"""Chunks of samples as Prometheus stores and sends them: deltas of times, XOR of values.

Source: Prometheus, tsdb/docs/format/chunks.md; the Gorilla paper (VLDB 2015), section 4.1.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from varve.model.compiled import inline, kernel

MOST_SAMPLES: Final = 120
"""Samples of a chunk, as Prometheus cuts them."""

MOST_BYTES: Final = 2 + MOST_SAMPLES * 19
"""The most bytes that a chunk of so many samples takes."""

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

_NONE: Final = 0xFF
"""Of leading zeros: no value has been written with its own yet."""


def encode(ts: I64, values: F64) -> list[bytes]:
    """The chunks of a series, of MOST_SAMPLES each. ts: Unix ms, ascending. values: the bits of the
    stale marker are kept.
    """
    count = -(-len(ts) // MOST_SAMPLES)
    buffer, ends = np.zeros(count * MOST_BYTES, np.uint8), np.empty(count, np.int64)
    _encode(buffer, ends, ts, values.view(np.uint64))
    return [
        buffer[i * MOST_BYTES : i * MOST_BYTES + int(end)].tobytes() for i, end in enumerate(ends)
    ]


@inline
def _write(buffer: U8, bit: int, value: Any, width: int) -> int:
    """Writes the lowest `width` bits of an unsigned value at a bit's place, the highest first."""
    left = width
    while left > 0:
        free = 8 - (bit & 7)
        take = min(free, left)
        piece = (value >> np.uint64(left - take)) & np.uint64((1 << take) - 1)
        buffer[bit >> 3] |= np.uint8(piece << np.uint64(free - take))
        bit += take
        left -= take
    return bit


@inline
def _write_varint(buffer: U8, bit: int, value: Any) -> int:
    while value >= np.uint64(0x80):
        bit = _write(buffer, bit, (value & np.uint64(0x7F)) | np.uint64(0x80), 8)
        value >>= np.uint64(7)
    return _write(buffer, bit, value, 8)


@inline
def _leading(value: Any) -> int:
    """Leading zero bits of a value that is not 0."""
    count = 0
    for width in (32, 16, 8, 4, 2, 1):
        if value >> np.uint64(64 - width) == np.uint64(0):
            count += width
            value <<= np.uint64(width)
    return count


@inline
def _trailing(value: Any) -> int:
    """Trailing zero bits of a value that is not 0."""
    count = 0
    for width in (32, 16, 8, 4, 2, 1):
        if value << np.uint64(64 - width) == np.uint64(0):
            count += width
            value >>= np.uint64(width)
    return count


@kernel("void(uint8[::1], int64[::1], const int64[::1], const uint64[::1])")
def _encode(buffer: U8, ends: I64, ts: I64, values: U64) -> None:
    for chunk in range(len(ends)):
        begin = chunk * MOST_SAMPLES
        count = min(len(ts) - begin, MOST_SAMPLES)
        bit = chunk * MOST_BYTES * 8
        bit = _write(buffer, bit, np.uint64(count), 16)
        leading, trailing, delta = _NONE, 0, 0
        for i in range(begin, begin + count):
            value = values[i]
            if i == begin:
                t = ts[i]
                bit = _write_varint(buffer, bit, np.uint64(t << 1) ^ np.uint64(t >> 63))
                bit = _write(buffer, bit, value, 64)
                continue
            before, delta = delta, ts[i] - ts[i - 1]
            if i == begin + 1:
                bit = _write_varint(buffer, bit, np.uint64(delta))
            else:
                change = delta - before
                bits = np.uint64(change)
                if change == 0:
                    bit = _write(buffer, bit, np.uint64(0), 1)
                elif -8191 <= change <= 8192:
                    bit = _write(buffer, bit, np.uint64(0b10), 2)
                    bit = _write(buffer, bit, bits, 14)
                elif -65535 <= change <= 65536:
                    bit = _write(buffer, bit, np.uint64(0b110), 3)
                    bit = _write(buffer, bit, bits, 17)
                elif -524287 <= change <= 524288:
                    bit = _write(buffer, bit, np.uint64(0b1110), 4)
                    bit = _write(buffer, bit, bits, 20)
                else:
                    bit = _write(buffer, bit, np.uint64(0b1111), 4)
                    bit = _write(buffer, bit, bits, 64)
            change_of_value = value ^ values[i - 1]
            if change_of_value == np.uint64(0):
                bit = _write(buffer, bit, np.uint64(0), 1)
                continue
            bit = _write(buffer, bit, np.uint64(1), 1)
            zeros, zeros_behind = min(_leading(change_of_value), 31), _trailing(change_of_value)
            if leading != _NONE and zeros >= leading and zeros_behind >= trailing:
                bit = _write(buffer, bit, np.uint64(0), 1)
            else:
                leading, trailing = zeros, zeros_behind
                bit = _write(buffer, bit, np.uint64(1), 1)
                bit = _write(buffer, bit, np.uint64(leading), 5)
                # 64 bits are written as 0: they do not fit, and there are never none.
                bit = _write(buffer, bit, np.uint64(64 - leading - trailing) & np.uint64(63), 6)
            width = 64 - leading - trailing
            bit = _write(buffer, bit, change_of_value >> np.uint64(trailing), width)
        ends[chunk] = (bit + 7) // 8 - chunk * MOST_BYTES
