"""Reading chunks in kernels: bits, the variable-width integers of Prometheus, XORed values.

A place is a bit's offset in the data, and CUT once more was wanted than there is: it stays CUT, so
kernels look at it once a sample. Source: Prometheus, tsdb/docs/format/chunks.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from varve.model.compiled import inline, kernel

CUT: Final = -1
"""A place behind the end of a chunk that was cut, or of one that contradicts itself."""

_VARBIT_WIDTHS: Final = (0, 3, 6, 9, 12, 18, 25, 56, 64)


@inline
def take(data, at, width, end):
    """`width` bits from a place on, at most 64, and the place behind them."""
    if at < 0 or width < 0 or at + width > end:
        return np.uint64(0), np.int64(CUT)
    found = np.uint64(0)
    left = width
    while left > 0:
        free = 8 - (at & 7)
        size = min(free, left)
        piece = (np.int64(data[at >> 3]) >> (free - size)) & ((1 << size) - 1)
        found = (found << np.uint64(size)) | np.uint64(piece)
        at += size
        left -= size
    return found, at


@inline
def ones(data, at, most, end):
    """How many bits of 1 come, up to `most`, and the place behind the 0 that ends fewer."""
    count = 0
    while count < most:
        bit, at = take(data, at, 1, end)
        if at == CUT or bit == np.uint64(0):
            break
        count += 1
    return count, at


@inline
def signed(bits, width):
    """A number that was cut to `width` bits, of which the greatest positive one is 2**(width-1)."""
    if 0 < width < 64 and bits > np.uint64(1) << np.uint64(width - 1):
        return np.int64(bits) - (np.int64(1) << width)
    return np.int64(bits)


@inline
def varbit(data, at, end):
    """The bits of an integer of variable width, how many there were, and the place behind them."""
    size, at = ones(data, at, 8, end)
    width = _VARBIT_WIDTHS[size]
    bits, at = take(data, at, width, end)
    return bits, width, at


@inline
def varbit_int(data, at, end):
    bits, width, at = varbit(data, at, end)
    return signed(bits, width), at


@inline
def uvarint(data, at, end):
    """An integer in groups of seven bits, the lowest first."""
    found = np.uint64(0)
    for group in range(10):
        byte, at = take(data, at, 8, end)
        found |= (byte & np.uint64(0x7F)) << np.uint64(7 * group)
        if at == CUT or byte < np.uint64(0x80):
            return found, at
    return found, np.int64(CUT)


@inline
def varint(data, at, end):
    found, at = uvarint(data, at, end)
    return np.int64(found >> np.uint64(1)) ^ -np.int64(found & np.uint64(1)), at


@inline
def window(data, at, end):
    """Leading and trailing zero bits of the values that come, and the place behind them."""
    leading, at = take(data, at, 5, end)
    width, at = take(data, at, 6, end)
    if width == np.uint64(0):
        width = np.uint64(64)
    trailing = 64 - np.int64(leading) - np.int64(width)
    if trailing < 0:
        return np.int64(leading), np.int64(0), np.int64(CUT)
    return np.int64(leading), trailing, at


@inline
def windowed(data, at, value, leading, trailing, end):
    """The value that differs from `value` within the window, and the place behind it."""
    change, at = take(data, at, 64 - leading - trailing, end)
    return value ^ (change << np.uint64(trailing)), at


@inline
def xored(data, at, value, leading, trailing, end):
    """The value behind `value`, the window it was written with, and the place behind it."""
    control, at = ones(data, at, 2, end)
    if control == 2:
        leading, trailing, at = window(data, at, end)
    if control > 0:
        value, at = windowed(data, at, value, leading, trailing, end)
    return value, leading, trailing, at


@inline
def without_start(data, at, sample, header, end):
    """The place behind the start time of a sample, of a chunk that may have them. sample: its
    number, from 0. header: whether the first has one, and from which sample on they change.
    """
    if sample == 0:
        if header & 0x80:
            _, at = uvarint(data, at, end)
    elif 0 < header & 0x7F <= sample:
        _, _, at = varbit(data, at, end)
    return at


_CRC_TABLE = np.zeros(256, np.uint32)
for _byte in range(256):
    _rest = _byte
    for _ in range(8):
        _rest = (_rest >> 1) ^ (0x82F63B78 if _rest & 1 else 0)
    _CRC_TABLE[_byte] = _rest


@kernel("uint32(const uint8[::1], int64, int64)")
def crc32c(data: npt.NDArray[np.uint8], begin: int, end: int) -> int:
    """The checksum of a range of bytes, by the polynomial of Castagnoli."""
    rest = np.uint32(0xFFFFFFFF)
    for at in range(begin, end):
        rest = _CRC_TABLE[(rest ^ np.uint32(data[at])) & np.uint32(0xFF)] ^ (rest >> np.uint32(8))
    return rest ^ np.uint32(0xFFFFFFFF)
