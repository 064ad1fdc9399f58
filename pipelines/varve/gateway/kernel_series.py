"""The table of known series in kernels: open addressing, one cache line a series.

A row of `slots` (uint64[rows, 8], rows a power of two) holds

    0, 1  128-bit hash of the series' labels as they came; both 0: the row is free
    2     series_id, as the bits of an int64
    3     check in the lower 32 bits, target in the upper: which message its samples go to
    4     second at which its definition was last sent; 0: it must be sent
    5     time of its newest sample, ms
    6     number of the replica that sends it; 0: it is no replica's
    7     unused
"""

from __future__ import annotations

import numpy as np

from varve.model.compiled import inline, kernel

FREE = -1


class COLUMNS:
    """The words of a row."""

    HASH0, HASH1, SERIES_ID, CHECK_AND_TARGET, DEFINED, NEWEST, REPLICA = range(7)


@inline
def find(slots, hash0, hash1):
    """The row of a series; FREE if it is not known."""
    mask = len(slots) - 1
    row = np.int64(hash0) & mask
    while True:
        h0 = slots[row, 0]
        h1 = slots[row, 1]
        if h0 == hash0 and h1 == hash1:
            return row
        if h0 == 0 and h1 == 0:
            return np.int64(FREE)
        row = (row + 1) & mask


@kernel("int64(uint64[:,::1], const int64[:,::1], uint64)")
def put(slots: np.ndarray, rows: np.ndarray, now_s: np.uint64) -> int:
    """Notes series whose definitions are being sent: rows of hash (two words), series_id, check,
    target, replica. There must be as many free rows. Returns how many were not known.
    """
    mask = len(slots) - 1
    added = 0
    for n in range(len(rows)):
        hash0 = np.uint64(rows[n, 0])
        hash1 = np.uint64(rows[n, 1])
        row = np.int64(hash0) & mask
        while slots[row, 0] != 0 or slots[row, 1] != 0:
            if slots[row, 0] == hash0 and slots[row, 1] == hash1:
                break
            row = (row + 1) & mask
        if slots[row, 0] != hash0 or slots[row, 1] != hash1:
            slots[row, 0] = hash0
            slots[row, 1] = hash1
            added += 1
        slots[row, 2] = np.uint64(rows[n, 2])
        check = np.uint64(rows[n, 3]) & np.uint64(0xFFFFFFFF)
        slots[row, 3] = check | np.uint64(rows[n, 4]) << np.uint64(32)
        slots[row, 4] = now_s
        slots[row, 6] = np.uint64(rows[n, 5])
    return added


@kernel("int64(uint64[:,::1], const int64[:,::1])")
def undefine(slots: np.ndarray, keys: np.ndarray) -> int:
    """Makes series count as not defined, by the two words of their hash. Returns how many there
    were.
    """
    found = 0
    for n in range(len(keys)):
        row = find(slots, np.uint64(keys[n, 0]), np.uint64(keys[n, 1]))
        if row >= 0:
            slots[row, 4] = 0
            slots[row, 5] = 0
            found += 1
    return found


@kernel("int64(uint64[:,::1], uint64)")
def undefine_since(slots: np.ndarray, second: np.uint64) -> int:
    """Makes series that were defined from that second on count as not defined; how many."""
    found = 0
    for row in range(len(slots)):
        if slots[row, 4] >= second:
            slots[row, 4] = 0
            found += 1
    return found


@kernel("int64(uint64[:,::1], uint64[:,::1], uint64)")
def move_living(old: np.ndarray, new: np.ndarray, defined_since: np.uint64) -> int:
    """Moves the series that were defined since that second into an empty table; their number."""
    mask = len(new) - 1
    moved = 0
    for row in range(len(old)):
        if (old[row, 0] != 0 or old[row, 1] != 0) and old[row, 4] >= defined_since:
            place = np.int64(old[row, 0]) & mask
            while new[place, 0] != 0 or new[place, 1] != 0:
                place = (place + 1) & mask
            new[place] = old[row]
            moved += 1
    return moved
