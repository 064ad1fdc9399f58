"""Writes Prometheus' JSON of series into one byte buffer."""

from __future__ import annotations

import numpy as np

from varve.model.compiled import inline, kernel
from varve.promql.kernels.decimals import write_float, write_seconds
from varve.promql.kernels.types import F64, I64, U8, Bools

POINT_BYTES = 56
"""The most bytes that a point takes: brackets, time, quotes, value and comma."""

SERIES_BYTES = 32
"""The most bytes that a series takes besides its labels and points."""

_METRIC = np.frombuffer(b'{"metric":', np.uint8)
_VALUES = np.frombuffer(b',"values":[', np.uint8)
_VALUE = np.frombuffer(b',"value":', np.uint8)


@inline
def _copy(buffer: U8, at: int, source: U8, begin: int, end: int) -> int:
    for i in range(begin, end):
        buffer[at] = source[i]
        at += 1
    return at


@inline
def _open(buffer: U8, at: int, labels: U8, begin: int, end: int, tail: U8) -> int:
    at = _copy(buffer, at, _METRIC, 0, len(_METRIC))
    at = _copy(buffer, at, labels, begin, end)
    return _copy(buffer, at, tail, 0, len(tail))


@inline
def _value(buffer: U8, at: int, value: float, bits: int) -> int:
    """Writes `,"value"]`."""
    buffer[at], buffer[at + 1] = 44, 34
    at = write_float(buffer, at + 2, value, bits)
    buffer[at], buffer[at + 1] = 34, 93
    return at + 2


@kernel(
    "int64(uint8[::1], int64, const uint8[::1], int64[::1], int64[::1], int64[::1],"
    " float64[:,::1], boolean[:,::1], boolean, boolean)"
)
def write_matrix(
    buffer: U8,
    at: int,
    labels: U8,
    offsets: I64,
    order: I64,
    times: I64,
    values: F64,
    present: Bools,
    single: bool,  # noqa: FBT001 - numba passes arguments by position
    is_first: bool,  # noqa: FBT001
) -> int:
    """Writes the rows of a (series x step) matrix in `order`, comma-separated, from `at`.

    labels: the rows' label objects, row i at offsets[i]:offsets[i+1]. single: one step, written
    as "value". is_first: nothing was written before, so there is no comma. A row with no point is
    left out. Returns where the text ends.
    """
    steps = len(times)
    stamps = np.empty(steps * 24 + 24, np.uint8)
    stamp_ends = np.zeros(steps + 1, np.int64)
    for s in range(steps):
        end = stamp_ends[s]
        stamps[end] = 91
        stamp_ends[s + 1] = write_seconds(stamps, end + 1, times[s])
    bits = values.view(np.uint64)
    for k in range(len(order)):
        i = order[k]
        begun = False
        for s in range(steps):
            if not present[i, s]:
                continue
            if begun:
                buffer[at] = 44
                at += 1
            else:
                begun = True
                if not is_first:
                    buffer[at] = 44
                    at += 1
                is_first = False
                tail = _VALUE if single else _VALUES
                at = _open(buffer, at, labels, offsets[i], offsets[i + 1], tail)
            at = _copy(buffer, at, stamps, stamp_ends[s], stamp_ends[s + 1])
            at = _value(buffer, at, values[i, s], bits[i, s])
        if begun:
            if not single:
                buffer[at] = 93
                at += 1
            buffer[at] = 125
            at += 1
    return at


@kernel(
    "int64(uint8[::1], int64, const uint8[::1], int64[::1], int64[::1], const int64[::1],"
    " const int64[::1], const int64[::1], const float64[::1], boolean)"
)
def write_samples(
    buffer: U8,
    at: int,
    labels: U8,
    offsets: I64,
    order: I64,
    begins: I64,
    ends: I64,
    ts: I64,
    values: F64,
    is_first: bool,  # noqa: FBT001
) -> int:
    """Writes series of samples, less stale markers, as `write_matrix` does."""
    bits = values.view(np.uint64)
    stale = np.uint64(0x7FF0000000000002)
    for k in range(len(order)):
        i = order[k]
        begun = False
        for p in range(begins[i], ends[i]):
            if bits[p] == stale:
                continue
            if begun:
                buffer[at] = 44
                at += 1
            else:
                begun = True
                if not is_first:
                    buffer[at] = 44
                    at += 1
                is_first = False
                at = _open(buffer, at, labels, offsets[i], offsets[i + 1], _VALUES)
            buffer[at] = 91
            at = write_seconds(buffer, at + 1, ts[p])
            at = _value(buffer, at, values[p], bits[p])
        if begun:
            buffer[at], buffer[at + 1] = 93, 125
            at += 2
    return at


@kernel("int64(uint8[::1], float64[::1], int64[::1])")
def write_floats(buffer: U8, values: F64, ends: I64) -> int:
    """Writes each value after the other. ends[i] is where the i-th one ends."""
    bits = values.view(np.uint64)
    at = 0
    for i in range(len(values)):
        at = write_float(buffer, at, values[i], bits[i])
        ends[i] = at
    return at
