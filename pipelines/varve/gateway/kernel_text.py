"""Lines of text expositions that are known, read by kernels: a series or a comment that was here
before, and a number behind the series.
"""

from __future__ import annotations

import numpy as np

from varve.gateway.kernel_bytes import hash128, load8, load64
from varve.gateway.kernel_hashes import UNKNOWN, number_of
from varve.gateway.kernel_numbers import decimal, trailing_zeros
from varve.model.compiled import inline, kernel

# What a known line is.
COMMENT, TYPE, SAMPLE, CREATED = range(4)

# Bits of a line of OpenMetrics: whether it may have a start that a line behind it says.
MAY_START = 1

_NEWLINE, _SPACE, _SHARP = 0x0A, 0x20, 0x23
_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)
_ONES = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)


@inline
def _newline(data, at):
    """The next newline, of which there is one at least."""
    last = len(data) - 8
    while at <= last:
        word = load64(data, at) ^ _NEWLINES
        hits = (word - _ONES) & ~word & _HIGH_BITS
        if hits != np.uint64(0):
            return at + np.int64(trailing_zeros(hits) >> np.uint64(3))
        at += 8
    while load8(data, at) != _NEWLINE:
        at += 1
    return at


@kernel(
    "int64(const uint8[::1], int64, const uint64[:], uint64[::1], const uint64[:,::1],"
    " const uint8[::1], int32[::1], float64[::1], int64[::1])"
)
def read_lines(
    data: np.ndarray,
    at: int,
    seeds: np.ndarray,
    under: np.ndarray,
    slots: np.ndarray,
    kinds: np.ndarray,
    lines: np.ndarray,
    values: np.ndarray,
    state: np.ndarray,
) -> int:
    """Reads known lines from `at` on, up to one that is not known or whose number cannot be told;
    returns where that begins, or the end of the data, which must end with a newline.

    under: seeds of series, which depend on the TYPE line before them. kinds: of each known line.
    state: how many lines have been read, each in `lines` and `values`; the last TYPE line.
    """
    count = state[0]
    last_type = state[1]
    end = np.int64(len(data))
    seed0, seed1 = under[0], under[1]
    while at < end:
        stop = _newline(data, at)
        value = 0.0
        if load8(data, at) == _SHARP:
            hash0, hash1 = hash128(data, at, stop - at, seeds[0], seeds[1])
            line = number_of(slots, hash0, hash1)
            if line == UNKNOWN:
                break
            if kinds[line] == TYPE:
                last_type = line
                seed0, seed1 = hash0, hash1
        else:
            space = stop - 1
            while space >= at and load8(data, space) != _SPACE:
                space -= 1
            if space <= at:
                break
            hash0, hash1 = hash128(data, at, space - at, seed0, seed1)
            line = number_of(slots, hash0, hash1)
            if line == UNKNOWN:
                break
            value, is_told = decimal(data, space + 1, stop)
            if not is_told:
                break
        lines[count] = line
        values[count] = value
        count += 1
        at = stop + 1
    under[0], under[1] = seed0, seed1
    state[0] = count
    state[1] = last_type
    return at


@kernel(
    "void(const int32[::1], const float64[::1], const uint8[::1], const uint8[::1],"
    " const int32[::1], int64[::1])"
)
def find_starts(
    lines: np.ndarray,
    values: np.ndarray,
    kinds: np.ndarray,
    marks: np.ndarray,
    identities: np.ndarray,
    starts: np.ndarray,
) -> None:
    """Fills `starts`, ms, 0 for none: a line that says when something was created is for those
    before it of the same family that have its labels.
    """
    identity = np.int64(-1)
    start = np.int64(0)
    for n in range(len(lines) - 1, -1, -1):
        line = lines[n]
        starts[n] = 0
        if not marks[line] & MAY_START:
            identity = np.int64(-1)
        if kinds[line] == CREATED:
            identity = np.int64(identities[line])
            start = _created_ms(values[n])
        elif kinds[line] == SAMPLE and identity >= 0 and identities[line] == identity:
            starts[n] = start


@inline
def _created_ms(value):
    """0 for what is no time."""
    ms = value * 1000.0
    return np.int64(ms) if abs(ms) < 9.2e18 else np.int64(0)
