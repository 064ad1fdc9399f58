"""The labels of new series in a kernel: sorted, judged, and their canonical text.

It does what varve/model/identity.py and varve/gateway/first_sight.py do, for series whose labels
need no second look: ASCII, none empty or twice, no name with a character that is quoted, none that
begins with two underscores but __name__. Others are left to these.
"""

from __future__ import annotations

import numpy as np

from varve.gateway.kernel_bytes import MALFORMED, delimited, load8, varint
from varve.gateway.kernel_walk import IN_USUAL_ORDER, SERIES_BEGIN, SERIES_END
from varve.model.compiled import inline, kernel

MOST_LABELS = 64

# Columns of `spans`: a label, of which the metric's name is the first of its series.
NAME_BEGIN, NAME_END, VALUE_BEGIN, VALUE_END = range(4)

_UNDERSCORE = 0x5F
_QUOTE, _BACKSLASH, _NEWLINE = 0x22, 0x5C, 0x0A


@inline
def _is_plain(data, begin, end, is_name):
    """Whether a text is ASCII and, for a name, needs no quotes."""
    for at in range(begin, end):
        byte = load8(data, at)
        if byte >= 0x80:
            return False
        if is_name and byte in (_QUOTE, _BACKSLASH, _NEWLINE, 0x2C, 0x3D, 0x7B, 0x7D):
            return False
    return True


@inline
def _compare(data, begin, end, other, other_end):
    """Below 0, 0 or above 0 as one name sorts before, equals or sorts behind another."""
    size = min(end - begin, other_end - other)
    for n in range(size):
        difference = load8(data, begin + n) - load8(data, other + n)
        if difference != 0:
            return difference
    return (end - begin) - (other_end - other)


@inline
def _is_dunder(data, begin, end):
    """Whether a name begins with two underscores: __name__ and __replica__ among them."""
    return end - begin > 2 and load8(data, begin) == _UNDERSCORE and load8(data, begin + 1) == 95


@inline
def _is_metric_name(data, begin, end):
    if end - begin != 8:
        return False
    for n, byte in enumerate((95, 95, 110, 97, 109, 101, 95, 95)):
        if load8(data, begin + n) != byte:
            return False
    return True


@inline
def _label(data, at, end, span):
    """Reads a Label message; whether it is of the usual shape: name, then value."""
    span[:] = at
    if at < end and load8(data, at) == 0x0A:
        span[NAME_BEGIN], span[NAME_END] = delimited(data, at + 1, end)
        if span[NAME_BEGIN] == MALFORMED:
            return False
        at = span[NAME_END]
    span[VALUE_BEGIN] = span[VALUE_END] = at
    if at < end and load8(data, at) == 0x12:
        span[VALUE_BEGIN], span[VALUE_END] = delimited(data, at + 1, end)
        if span[VALUE_BEGIN] == MALFORMED:
            return False
        at = span[VALUE_END]
    return at == end


@kernel(
    "int64(const uint8[::1], int64, int64[:,::1], const int64[:,::1], int64[:,::1], int64[::1],"
    " uint8[::1], int64[::1])"
)
def read_labels(
    data: np.ndarray,
    version: int,
    places: np.ndarray,
    listed: np.ndarray,
    spans: np.ndarray,
    span_ends: np.ndarray,
    texts: np.ndarray,
    text_ends: np.ndarray,
) -> int:
    """Fills, for each listed series, its labels and its canonical text.

    span_ends and text_ends: where those of each series end; a series that needs a second look has
    none of either; so does one whose text finds no room. spans must have MOST_LABELS rows for each
    series. places: the symbols of version 2. Returns the number of series that were read.
    """
    span_count = np.int64(0)
    size = np.int64(0)
    read = 0
    for row in range(len(listed)):
        begin = listed[row, SERIES_BEGIN]
        end = listed[row, SERIES_END]
        first = span_count
        is_plain = listed[row, IN_USUAL_ORDER] == 1
        metric = np.int64(-1)
        count = first
        at = begin
        if version == 1:
            while is_plain and at < end and load8(data, at) == 0x0A:
                label, at = delimited(data, at + 1, end)
                if label == MALFORMED or count - first == MOST_LABELS:
                    is_plain = False
                    break
                is_plain = _label(data, label, at, spans[count])
                count += 1
        elif at < end and load8(data, at) == 0x0A:
            at, refs_end = delimited(data, at + 1, end)
            while is_plain and at < refs_end:
                name, at = varint(data, at, refs_end)
                if at == MALFORMED or at >= refs_end or count - first == MOST_LABELS:
                    is_plain = False
                    break
                value, at = varint(data, at, refs_end)
                if at == MALFORMED or not (0 <= name < len(places) and 0 <= value < len(places)):
                    is_plain = False
                    break
                spans[count, NAME_BEGIN] = places[name, 0]
                spans[count, NAME_END] = places[name, 1]
                spans[count, VALUE_BEGIN] = places[value, 0]
                spans[count, VALUE_END] = places[value, 1]
                count += 1
        # Each label is judged, and moved to its place among those before it.
        kept = first
        needed = np.int64(2)
        for label in range(first, count):
            if not is_plain:
                break
            n0, n1 = spans[label, NAME_BEGIN], spans[label, NAME_END]
            v0, v1 = spans[label, VALUE_BEGIN], spans[label, VALUE_END]
            is_plain = n1 > n0 and _is_plain(data, n0, n1, True) and _is_plain(data, v0, v1, False)
            is_metric = _is_metric_name(data, n0, n1)
            if _is_dunder(data, n0, n1) and not is_metric:
                is_plain = False
            needed += 2 * (n1 - n0 + v1 - v0) + 4
            if v1 == v0 or size + needed > len(texts):
                is_plain = False
            if not is_plain:
                break
            if is_metric:
                if metric >= 0 or not _is_plain(data, v0, v1, True):
                    is_plain = False
                metric = np.int64(0)
            place = kept
            while place > first:
                # The metric's name stays the first.
                before = spans[place - 1]
                if is_metric:
                    order = np.int64(-1)
                elif _is_metric_name(data, before[NAME_BEGIN], before[NAME_END]):
                    order = np.int64(1)
                else:
                    order = _compare(data, n0, n1, before[NAME_BEGIN], before[NAME_END])
                if order == 0:
                    is_plain = False
                if order >= 0:
                    break
                spans[place] = before
                place -= 1
            spans[place, NAME_BEGIN] = n0
            spans[place, NAME_END] = n1
            spans[place, VALUE_BEGIN] = v0
            spans[place, VALUE_END] = v1
            kept += 1
        if is_plain and metric >= 0:
            for at in range(spans[first, VALUE_BEGIN], spans[first, VALUE_END]):
                texts[size] = load8(data, at)
                size += 1
            texts[size] = 0x7B
            size += 1
            for label in range(first + 1, kept):
                if label > first + 1:
                    texts[size] = 0x2C
                    size += 1
                for at in range(spans[label, NAME_BEGIN], spans[label, NAME_END]):
                    texts[size] = load8(data, at)
                    size += 1
                texts[size] = 0x3D
                texts[size + 1] = _QUOTE
                size += 2
                for at in range(spans[label, VALUE_BEGIN], spans[label, VALUE_END]):
                    byte = load8(data, at)
                    if byte in (_QUOTE, _BACKSLASH):
                        texts[size] = _BACKSLASH
                        size += 1
                    elif byte == _NEWLINE:
                        texts[size] = _BACKSLASH
                        size += 1
                        byte = np.int64(0x6E)
                    texts[size] = byte
                    size += 1
                texts[size] = _QUOTE
                size += 1
            texts[size] = 0x7D
            size += 1
            span_count = kept
            read += 1
        span_ends[row] = span_count
        text_ends[row] = size
    return read
