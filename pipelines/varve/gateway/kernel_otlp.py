"""The walk over an export of OTLP: points whose bytes but for their numbers are known become rows,
the rest is listed.

Protobuf of ExportMetricsServiceRequest. What is written in a way that encoders do not use is left
to who reads protobuf whole. Source: opentelemetry/proto/metrics/v1/metrics.proto.
"""

from __future__ import annotations

import numpy as np

from varve.gateway.kernel_bytes import MALFORMED, chain, fold, hash128, load8, load64
from varve.gateway.kernel_hashes import UNKNOWN, number_of
from varve.gateway.kernel_otlp_messages import (
    ATTRIBUTES,
    ATTRIBUTES_END,
    BOUNDS,
    BOUNDS_END,
    COUNT_AT,
    COUNTS,
    COUNTS_END,
    GAUGE,
    HISTOGRAM,
    INTEGER,
    IS_STALE,
    STALE,
    START,
    SUM,
    SUM_AT,
    TIME,
    content,
    data_head,
    group_head,
    histogram_point,
    metric_head,
    number_point,
    short_varint,
)
from varve.model.compiled import inline, kernel
from varve.model.staleness import STALE_BITS

# What a walk returns.
OK, UNUSUAL, MORE_ROWS, MORE_ITEMS = 0, 1, 2, 3

# Numbers in the table that are those of no series.
NEVER_KNOWN = -2
"""Points that are refused, and the like, are always read by the slow path."""
NOTHING = -3
"""A resource that has no series of its own."""

# Columns of `items`. ROW: how many rows are before it. COUNT: series of the point.
(KIND, ROW, RESOURCE, SCOPE, METRIC, POINT, POINTS_END, HASH0, HASH1, COUNT, FIRST_MS, LAST_MS) = (
    range(12)
)
ITEM_COLUMNS = 12
# Kinds of items: points for the slow path; a point that can become known; what is said of a
# resource with such points, and of one that can become known itself.
POINTS, NEW_POINT, INFO, NEW_INFO = range(4)

# Places of `state`. UNJUDGED: there are bytes that nobody has looked at.
ROWS, ITEMS, UNJUDGED = range(3)

INFO_EVERY_MS = 150_000
MOST_INFOS = 1_000

_STALE = np.uint64(STALE_BITS)
_MS = np.uint64(1_000_000)
_INFO_MARK = np.uint64(0x9AE16A3B2F90404F)
_CUMULATIVE = 2


@inline
def _word(data, at):
    return load64(data, at) if at else np.uint64(0)


@inline
def _under(data, begin, end, a, b, seeds):
    """A hash (a, b) and behind it that of bytes."""
    hash0, hash1 = hash128(data, begin, end - begin, seeds[0], seeds[1])
    return chain(a, b, hash0, hash1, seeds[0], seeds[1])


@inline
def _list(items, state, kind, resource, scope, metric, point):
    """Begins an item, or adds a point to the one before it; returns its row, or its number of rows
    if there is no room.
    """
    last = state[ITEMS] - 1
    if (
        kind == POINTS
        and last >= 0
        and items[last, KIND] == POINTS
        and items[last, ROW] == state[ROWS]
        and items[last, RESOURCE] == resource
        and items[last, SCOPE] == scope
        and items[last, METRIC] == metric
        and items[last, POINTS_END] == point
    ):
        items[last, POINTS_END] += 1
        return last
    row = state[ITEMS]
    if row < len(items):
        items[row, KIND] = kind
        items[row, ROW] = state[ROWS]
        items[row, RESOURCE] = resource
        items[row, SCOPE] = scope
        items[row, METRIC] = metric
        items[row, POINT] = point
        items[row, POINTS_END] = point + 1
        state[ITEMS] += 1
    return row


@inline
def _write_histogram(data, found, usable, values, doubles, row, count):
    """The values of a classic histogram: its sum if it has one, its count, its buckets."""
    if found[IS_STALE]:
        values[row : row + count] = _STALE
        return
    if found[SUM_AT]:
        values[row] = load64(data, found[SUM_AT])
        row += 1
    observed = np.float64(_word(data, found[COUNT_AT]))
    doubles[row] = observed
    total = np.uint64(0)
    for n in range(usable):
        total += load64(data, found[COUNTS] + 8 * n)
        doubles[row + 1 + n] = np.float64(total)
    doubles[row + 1 + usable] = observed


@kernel(
    "int64(const uint8[::1], const uint64[:], const uint64[:,::1], boolean,"
    " int64[::1], uint64[::1], int64[::1], int64[::1], int64[:,::1], int64[::1], int64[::1])"
)
def walk_export(
    data: np.ndarray,
    seeds: np.ndarray,
    slots: np.ndarray,
    are_classic: bool,  # noqa: FBT001 - a kernel's arguments have no names
    series: np.ndarray,
    values: np.ndarray,
    times: np.ndarray,
    starts: np.ndarray,
    items: np.ndarray,
    found: np.ndarray,
    state: np.ndarray,
) -> int:
    """Writes the samples of known points as rows, in the order of the export, and lists what is
    between them. On another status than OK nothing counts.

    slots: the table from hashes to numbers of series; those of a histogram's point follow each
    other. are_classic: histograms with bounds become classic ones; else none of them is known.
    found: scratch of HISTOGRAM_PLACES.
    """
    end = np.int64(len(data))
    at = np.int64(0)
    state[:] = 0
    doubles = values.view(np.float64)
    resource = np.int64(-1)
    while at < end:
        if load8(data, at) != 0x0A:
            return UNUSUAL
        resource_at, at = content(data, at + 1, end)
        if at == MALFORMED:
            return UNUSUAL
        resource += 1
        resource_end = at
        first, first_end, third, third_end, scopes, is_usual = group_head(
            data, resource_at, resource_end
        )
        if not is_usual:
            return UNUSUAL
        if scopes == 0:
            state[UNJUDGED] = 1
        r0, r1 = _under(data, first, first_end, seeds[0], seeds[1], seeds)
        r0, r1 = _under(data, third, third_end, r0, r1, seeds)
        first_ms, last_ms = np.int64(1) << 62, np.int64(-1)
        has_slow = False
        scope = np.int64(-1)
        here = resource_at
        while here < resource_end:
            key = load8(data, here)
            scope_at, here = content(data, here + 1, resource_end)
            if key != 0x12:
                continue
            scope += 1
            scope_end = here
            first, first_end, third, third_end, metrics, is_usual = group_head(
                data, scope_at, scope_end
            )
            if not is_usual:
                return UNUSUAL
            if metrics == 0:
                state[UNJUDGED] = 1
            s0, s1 = _under(data, first, first_end, r0, r1, seeds)
            s0, s1 = _under(data, third, third_end, s0, s1, seeds)
            metric = np.int64(-1)
            inner = scope_at
            while inner < scope_end:
                key = load8(data, inner)
                metric_at, inner = content(data, inner + 1, scope_end)
                if key != 0x12:
                    continue
                metric += 1
                kind, key_at, data_at, data_end, is_usual = metric_head(data, metric_at, inner)
                if not is_usual:
                    return UNUSUAL
                points, temporality, is_monotonic, is_usual = data_head(
                    data, kind, data_at, data_end
                )
                if not is_usual:
                    return UNUSUAL
                if points == 0:
                    state[UNJUDGED] = 1
                    continue
                is_number = kind in (GAUGE, SUM)
                can_be_known = kind == GAUGE or (
                    temporality == _CUMULATIVE
                    and (kind == SUM or (kind == HISTOGRAM and are_classic))
                )
                m0, m1 = _under(data, metric_at, key_at, s0, s1, seeds)
                m0, m1 = _under(data, data_end, inner, m0, m1, seeds)
                m0 = fold(m0 ^ np.uint64(kind), seeds[1] ^ np.uint64(is_monotonic))
                point = np.int64(-1)
                place = data_at
                while place < data_end:
                    key = load8(data, place)
                    if key != 0x0A:
                        _, place = short_varint(data, place + 1, data_end)
                        continue
                    point_at, place = content(data, place + 1, data_end)
                    point += 1
                    number = np.int64(NEVER_KNOWN)
                    count = np.int64(1)
                    usable = np.int64(0)
                    what = np.int64(0)
                    value = start = time = hash0 = hash1 = np.uint64(0)
                    if can_be_known and is_number:
                        value, what, start, time, begin, stop, is_plain = number_point(
                            data, point_at, place
                        )
                        if kind == GAUGE:
                            start = np.uint64(0)
                        if is_plain:
                            hash0, hash1 = hash128(data, begin, stop - begin, m0, m1)
                            number = number_of(slots, hash0, hash1)
                    elif can_be_known and histogram_point(data, point_at, place, found):
                        start, time = _word(data, found[START]), _word(data, found[TIME])
                        begin, stop = found[ATTRIBUTES], found[ATTRIBUTES_END]
                        hash0, hash1 = hash128(data, begin, stop - begin, m0, m1)
                        bounds = found[BOUNDS_END] - found[BOUNDS]
                        usable = min(bounds, found[COUNTS_END] - found[COUNTS]) >> 3
                        has_sum = np.int64(found[SUM_AT] != 0)
                        count = has_sum + usable + 2
                        b0, b1 = hash128(data, found[BOUNDS], bounds, hash0, hash1)
                        hash0 = fold(b0 ^ np.uint64(usable), seeds[0])
                        hash1 = fold(b1 ^ np.uint64(has_sum), seeds[1])
                        number = number_of(slots, hash0, hash1)
                    if number < 0:
                        has_slow = True
                        how = POINTS if number == NEVER_KNOWN else NEW_POINT
                        row = _list(items, state, how, resource, scope, metric, point)
                        if row == len(items):
                            return MORE_ITEMS
                        items[row, HASH0] = np.int64(hash0)
                        items[row, HASH1] = np.int64(hash1)
                        items[row, COUNT] = count
                        continue
                    row = state[ROWS]
                    if row + count > len(series):
                        return MORE_ROWS
                    ts_ms, start_ms = np.int64(time // _MS), np.int64(start // _MS)
                    first_ms, last_ms = min(first_ms, ts_ms), max(last_ms, ts_ms)
                    for n in range(count):
                        series[row + n] = number + n
                        times[row + n] = ts_ms
                        starts[row + n] = start_ms
                    state[ROWS] = row + count
                    if not is_number:
                        _write_histogram(data, found, usable, values, doubles, row, count)
                    elif what == INTEGER:
                        doubles[row] = np.float64(np.int64(value))
                    else:
                        values[row] = _STALE if what == STALE else value

        # What is said of the resource itself.
        if not has_slow and last_ms < 0:
            continue
        hash0 = fold(r0 ^ _INFO_MARK, seeds[1])
        hash1 = fold(r1 ^ _INFO_MARK, seeds[0] ^ hash0)
        number = number_of(slots, hash0, hash1)
        if number == NOTHING:
            continue
        if has_slow or number < 0:
            how = NEW_INFO if number == UNKNOWN else INFO
            row = _list(items, state, how, resource, scope, np.int64(-1), np.int64(0))
            if row == len(items):
                return MORE_ITEMS
            items[row, HASH0] = np.int64(hash0)
            items[row, HASH1] = np.int64(hash1)
            items[row, COUNT] = 1
            items[row, FIRST_MS] = first_ms
            items[row, LAST_MS] = last_ms
            continue
        ts_ms = max(first_ms, last_ms - MOST_INFOS * INFO_EVERY_MS)
        while True:
            row = state[ROWS]
            if row == len(series):
                return MORE_ROWS
            ts_ms = min(ts_ms, last_ms)
            series[row] = number
            doubles[row] = 1.0
            times[row] = ts_ms
            starts[row] = 0
            state[ROWS] = row + 1
            if ts_ms == last_ms:
                break
            ts_ms += INFO_EVERY_MS
    return OK
