"""Samples of catalogued series, written as fields of a remote write request of version 2.0."""

from __future__ import annotations

import numpy as np

from varve.model.compiled import inline, kernel

# Columns of `series`: where its references begin and end; type, help and unit, which are texts too.
REFS_BEGIN, REFS_END, TYPE, HELP, UNIT = range(5)
SERIES_COLUMNS = 5

MOST_BYTES = 96
"""What a sample takes at most, beyond MOST_REF_BYTES a reference."""
MOST_REF_BYTES = 5


@inline
def _varint_size(value):
    size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


@inline
def _unsigned_size(value):
    size = 1
    while value >= np.uint64(0x80):
        value >>= np.uint64(7)
        size += 1
    return size


@inline
def _write_varint(out, at, value):
    """Writes a number of 0 or more."""
    while value >= 0x80:
        out[at] = np.uint8(value & 0x7F | 0x80)
        value >>= 7
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@inline
def _write_unsigned(out, at, value):
    while value >= np.uint64(0x80):
        out[at] = np.uint8(value & np.uint64(0x7F) | np.uint64(0x80))
        value >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@inline
def _referred(text, state, numbers, stamps, stamp, spans, texts, symbols):
    """The number of a text in the request, which gets one if it has none."""
    if text == 0:
        return np.int64(0)
    if stamps[text] != stamp:
        stamps[text] = stamp
        numbers[text] = state[0]
        state[0] += 1
        begin, end = spans[text, 0], spans[text, 1]
        at = state[1]
        symbols[at] = 0x22
        at = _write_varint(symbols, at + 1, end - begin)
        for n in range(begin, end):
            symbols[at] = texts[n]
            at += 1
        state[1] = at
    return np.int64(numbers[text])


@kernel(
    "void(const int64[:,::1], const int32[::1], const int64[:,::1], const uint8[::1],"
    " int32[::1], int64[::1], int64, const int64[::1], const uint64[::1], const int64[::1],"
    " const int64[::1], uint8[::1], uint8[::1], int64[::1])"
)
def write_samples(
    series: np.ndarray,
    refs: np.ndarray,
    spans: np.ndarray,
    texts: np.ndarray,
    numbers: np.ndarray,
    stamps: np.ndarray,
    stamp: int,
    rows: np.ndarray,
    values: np.ndarray,
    times: np.ndarray,
    starts: np.ndarray,
    symbols: np.ndarray,
    out: np.ndarray,
    state: np.ndarray,
) -> None:
    """Writes a TimeSeries a row into `out`, and the texts they refer to into `symbols`.

    rows: the series of each; values: the bits of each. spans: where each text is in `texts`; text 0
    is empty and symbol 0. numbers and stamps: the number of each text in the request of that stamp.
    state: number of the next symbol; bytes written into `symbols` and into `out`. Both must have
    room.
    """
    at = state[2]
    for row in range(len(rows)):
        s = rows[row]
        refs_size = np.int64(0)
        for n in range(series[s, REFS_BEGIN], series[s, REFS_END]):
            number = _referred(
                np.int64(refs[n]), state, numbers, stamps, stamp, spans, texts, symbols
            )
            refs_size += _varint_size(number)
        help_text = _referred(series[s, HELP], state, numbers, stamps, stamp, spans, texts, symbols)
        unit = _referred(series[s, UNIT], state, numbers, stamps, stamp, spans, texts, symbols)
        kind = series[s, TYPE]
        is_described = kind != 0 or help_text != 0 or unit != 0
        said_size = 3 + _varint_size(kind) + _varint_size(help_text) + _varint_size(unit)

        ts, start = np.uint64(times[row]), np.uint64(starts[row])
        sample_size = 10 + _unsigned_size(ts)
        if start:
            sample_size += 1 + _unsigned_size(start)
        size = 1 + _varint_size(refs_size) + refs_size + 2 + sample_size
        if is_described:
            size += 2 + said_size
        out[at] = 0x2A
        at = _write_varint(out, at + 1, size)
        out[at] = 0x0A
        at = _write_varint(out, at + 1, refs_size)
        for n in range(series[s, REFS_BEGIN], series[s, REFS_END]):
            text = refs[n]
            at = _write_varint(out, at, np.int64(numbers[text]) if text else np.int64(0))
        out[at] = 0x12
        out[at + 1] = np.uint8(sample_size)
        out[at + 2] = 0x09
        bits = values[row]
        for n in range(8):
            out[at + 3 + n] = np.uint8(bits >> np.uint64(8 * n) & np.uint64(0xFF))
        out[at + 11] = 0x10
        at = _write_unsigned(out, at + 12, ts)
        if start:
            out[at] = 0x18
            at = _write_unsigned(out, at + 1, start)
        if is_described:
            out[at] = 0x2A
            out[at + 1] = np.uint8(said_size)
            out[at + 2] = 0x08
            at = _write_varint(out, at + 3, kind)
            out[at] = 0x18
            at = _write_varint(out, at + 1, help_text)
            out[at] = 0x20
            at = _write_varint(out, at + 1, unit)
    state[2] = at
