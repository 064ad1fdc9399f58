"""Messages of OTLP in kernels: what is where in them, if they are written as encoders do.

Keys of fields are compared whole, as the byte that each of them is. Source:
opentelemetry/proto/metrics/v1/metrics.proto.
"""

from __future__ import annotations

import numpy as np

from varve.gateway.kernel_bytes import MALFORMED, load8, load64
from varve.model.compiled import inline

# Keys of a metric's data.
GAUGE, SUM, HISTOGRAM, EXPONENTIAL, SUMMARY = 0x2A, 0x3A, 0x4A, 0x52, 0x5A

# What the word of a value is.
DOUBLE, INTEGER, STALE = range(3)

# What a point of a histogram is, in places of an array.
(
    START,
    TIME,
    COUNT_AT,
    SUM_AT,
    COUNTS,
    COUNTS_END,
    BOUNDS,
    BOUNDS_END,
    ATTRIBUTES,
    ATTRIBUTES_END,
    IS_STALE,
) = range(11)
HISTOGRAM_PLACES = 11


@inline
def short_varint(data, at, end):
    """A variable integer of at most four bytes; MALFORMED behind it for any other."""
    value = np.int64(0)
    shift = np.int64(0)
    while at < end and shift < 28:
        byte = load8(data, at)
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return np.int64(0), np.int64(MALFORMED)


@inline
def content(data, at, end):
    """Begin and end of a delimited content; MALFORMED for both if it is cut."""
    size, at = short_varint(data, at, end)
    if at == MALFORMED or size > end - at:
        return np.int64(MALFORMED), np.int64(MALFORMED)
    return at, at + size


@inline
def group_head(data, at, end):
    """Of a ResourceMetrics or ScopeMetrics message: begin and end of field 1 and of field 3, how
    many there are of field 2, and whether it is usual.
    """
    first = first_end = third = third_end = np.int64(0)
    count = np.int64(0)
    seen = np.int64(0)
    while at < end:
        key = load8(data, at)
        if key not in (0x0A, 0x12, 0x1A):
            return first, first_end, third, third_end, count, False
        begin, at = content(data, at + 1, end)
        if at == MALFORMED:
            return first, first_end, third, third_end, count, False
        if key == 0x12:
            count += 1
            continue
        mark = np.int64(1) if key == 0x0A else np.int64(2)
        if seen & mark:
            return first, first_end, third, third_end, count, False
        seen |= mark
        if key == 0x0A:
            first, first_end = begin, at
        else:
            third, third_end = begin, at
    return first, first_end, third, third_end, count, True


@inline
def metric_head(data, at, end):
    """Of a Metric message: key of its data or 0, where the key is, begin and end of the data, and
    whether the message is usual.
    """
    kind = where = begin = stop = np.int64(0)
    while at < end:
        key = load8(data, at)
        key_at = at
        begin_at, at = content(data, at + 1, end)
        if at == MALFORMED:
            return kind, where, begin, stop, False
        if key in (0x0A, 0x12, 0x1A, 0x62):
            continue
        if kind != 0 or key not in (GAUGE, SUM, HISTOGRAM, EXPONENTIAL, SUMMARY):
            return kind, where, begin, stop, False
        kind, where, begin, stop = key, key_at, begin_at, at
    return kind, where, begin, stop, True


@inline
def data_head(data, kind, at, end):
    """Of a metric's data: how many points, temporality, whether monotonic, and whether usual."""
    points = temporality = is_monotonic = np.int64(0)
    while at < end:
        key = load8(data, at)
        if key == 0x0A:
            _, at = content(data, at + 1, end)
            points += 1
        elif key == 0x10 and kind not in (GAUGE, SUMMARY):
            temporality, at = short_varint(data, at + 1, end)
        elif key == 0x18 and kind == SUM:
            is_monotonic, at = short_varint(data, at + 1, end)
        else:
            return points, temporality, is_monotonic, False
        if at == MALFORMED:
            return points, temporality, is_monotonic, False
    return points, temporality, np.int64(is_monotonic != 0), True


@inline
def number_point(data, at, end):
    """Word of the value and what it is, start and time in ns, begin and end of the attributes, and
    whether the point can be known.
    """
    value = start = time = np.uint64(0)
    attributes = attributes_end = np.int64(0)
    kind = np.int64(DOUBLE)
    is_stale = False
    while at < end:
        key = load8(data, at)
        if key in (0x11, 0x19, 0x21, 0x31):
            if end - at < 9:
                return value, kind, start, time, attributes, attributes_end, False
            if key in (0x31, 0x21):
                value = load64(data, at + 1)
                kind = np.int64(INTEGER if key == 0x31 else DOUBLE)
            elif key == 0x11:
                start = load64(data, at + 1)
            else:
                time = load64(data, at + 1)
            at += 9
        elif key == 0x3A:
            begin = at
            _, at = content(data, at + 1, end)
            if attributes_end == 0:
                attributes = begin
            elif attributes_end != begin:
                return value, kind, start, time, attributes, attributes_end, False
            attributes_end = at
        elif key == 0x40:
            flags, at = short_varint(data, at + 1, end)
            is_stale = flags & 1 != 0
        else:
            return value, kind, start, time, attributes, attributes_end, False
        if at == MALFORMED:
            return value, kind, start, time, attributes, attributes_end, False
    if is_stale:
        kind = np.int64(STALE)
    return value, kind, start, time, attributes, attributes_end, True


@inline
def histogram_point(data, at, end, found):
    """Fills `found`, with offsets of numbers, 0 for one that is not there; returns whether the
    point can be known.
    """
    found[:] = 0
    while at < end:
        key = load8(data, at)
        if key in (0x11, 0x19, 0x21, 0x29, 0x59, 0x61):
            if end - at < 9:
                return False
            if key == 0x11:
                found[START] = at + 1
            elif key == 0x19:
                found[TIME] = at + 1
            elif key == 0x21:
                found[COUNT_AT] = at + 1
            elif key == 0x29:
                found[SUM_AT] = at + 1
            at += 9
        elif key in (0x32, 0x3A):
            place = COUNTS if key == 0x32 else BOUNDS
            if found[place + 1] != 0:
                return False
            found[place], at = content(data, at + 1, end)
            if at == MALFORMED or (at - found[place]) & 7:
                return False
            found[place + 1] = at
        elif key == 0x4A:
            begin = at
            _, at = content(data, at + 1, end)
            if found[ATTRIBUTES_END] == 0:
                found[ATTRIBUTES] = begin
            elif found[ATTRIBUTES_END] != begin:
                return False
            found[ATTRIBUTES_END] = at
        elif key == 0x50:
            flags, at = short_varint(data, at + 1, end)
            found[IS_STALE] = flags & 1
        else:
            return False
        if at == MALFORMED:
            return False
    # Sums of counts beyond 64 bits are numbers in Python alone.
    total = np.uint64(0)
    for place in range(found[COUNTS], found[COUNTS_END], 8):
        count = load64(data, place)
        if total + count < total:
            return False
        total += count
    return True
