"""A table from bytes to numbers in kernels: what was here before, by a keyed hash of 128 bits.

A row of `slots` (uint64[rows, 3], rows a power of two) holds the hash and the number; a hash of two
zeros is a free row.
"""

from __future__ import annotations

import numpy as np

from varve.gateway.kernel_bytes import hash128
from varve.model.compiled import inline, kernel

UNKNOWN = -1


@inline
def number_of(slots, hash0, hash1):
    """The number of a hash; UNKNOWN if it has none."""
    mask = len(slots) - 1
    row = np.int64(hash0) & mask
    while True:
        found0, found1 = slots[row, 0], slots[row, 1]
        if found0 == hash0 and found1 == hash1:
            return np.int64(slots[row, 2])
        if found0 == 0 and found1 == 0:
            return np.int64(UNKNOWN)
        row = (row + 1) & mask


@kernel("void(const uint8[::1], uint64, uint64, uint64[::1])")
def hash_bytes(data: np.ndarray, seed0: np.uint64, seed1: np.uint64, found: np.ndarray) -> None:
    """Fills `found` with the two words of a hash."""
    found[0], found[1] = hash128(data, 0, len(data), seed0, seed1)


@kernel("int64(const uint64[:,::1], uint64, uint64)")
def get(slots: np.ndarray, hash0: np.uint64, hash1: np.uint64) -> int:
    """The number of a hash; UNKNOWN if it has none."""
    return number_of(slots, hash0, hash1)


@kernel("void(uint64[:,::1], uint64, uint64, int64)")
def put(slots: np.ndarray, hash0: np.uint64, hash1: np.uint64, number: int) -> None:
    """Gives a hash its number. There must be a free row."""
    mask = len(slots) - 1
    row = np.int64(hash0) & mask
    while (slots[row, 0] != 0 or slots[row, 1] != 0) and (
        slots[row, 0] != hash0 or slots[row, 1] != hash1
    ):
        row = (row + 1) & mask
    slots[row, 0] = hash0
    slots[row, 1] = hash1
    slots[row, 2] = np.uint64(number)


@kernel("void(const uint64[:,::1], uint64[:,::1])")
def move(slots: np.ndarray, moved: np.ndarray) -> None:
    """Puts all that is in one table into another, which must have room for it."""
    mask = len(moved) - 1
    for n in range(len(slots)):
        if slots[n, 0] != 0 or slots[n, 1] != 0:
            row = np.int64(slots[n, 0]) & mask
            while moved[row, 0] != 0 or moved[row, 1] != 0:
                row = (row + 1) & mask
            moved[row, 0] = slots[n, 0]
            moved[row, 1] = slots[n, 1]
            moved[row, 2] = slots[n, 2]
