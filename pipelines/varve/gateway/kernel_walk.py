"""The walk over a remote write request: known series become rows of samples, the rest is listed.

Protobuf of prometheus.WriteRequest (version 1) and io.prometheus.write.v2.Request (version 2).
Series whose labels do not come first and in one piece are listed as well, for the slow path.
Source: Prometheus, prompb/types.proto, prompb/io/prometheus/write/v2/types.proto.
"""

from __future__ import annotations

import numpy as np

from varve.gateway.kernel_bytes import (
    MALFORMED,
    chain,
    delimited,
    field,
    fold,
    hash128,
    load8,
    sample,
    skip,
    varint,
)
from varve.gateway.kernel_series import find
from varve.model.compiled import kernel

# What a walk returns.
OK, BAD_PROTOBUF, MORE_SAMPLES, MORE_LISTED, MORE_EXTRAS = 0, 1, 2, 3, 4
MOST_SERIES = 2_000_000
"""Of a request: those without samples take two bytes each, and no row."""

# Columns of `listed`: series that the table does not know.
SERIES_BEGIN, SERIES_END, IN_USUAL_ORDER, HASH0, HASH1, SAMPLES, HISTOGRAMS, EXEMPLARS = range(8)
LISTED_COLUMNS = 8

# Columns of `extras`: what Python decodes. The row is that of the series in the table.
KIND, BEGIN, END, ROW, OF_SERIES_BEGIN, OF_SERIES_END = range(6)
EXTRAS_COLUMNS = 6
HISTOGRAM, EXEMPLAR, METADATA, START = 1, 2, 3, 4

# Entries of `totals`.
(
    ROWS,
    LISTED,
    EXTRAS,
    DERIVED,
    IN_FUTURE,
    TOO_OLD,
    OF_REPLICA,
    FIRST_IN_FUTURE,
    FIRST_IN_FUTURE_END,
    FIRST_TOO_OLD,
    FIRST_TOO_OLD_END,
    OF_CRITICAL,
    SHED,
    SHED_OTHERS,
) = range(14)
TOTALS = 14

DERIVED_START = -1
"""In the column of starts: no sample of the sender's, but the zero at which a counter started."""


@kernel("Tuple((int64, int64))(const uint8[::1], const uint64[:], int64[:,::1], uint64[:,::1])")
def find_symbols(
    data: np.ndarray, seeds: np.ndarray, places: np.ndarray, hashes: np.ndarray
) -> tuple[int, int]:
    """Begin, end and hash of each symbol of a request of version 2.

    Returns OK, BAD_PROTOBUF or MORE_LISTED, and how many symbols there are.
    """
    at, end = np.int64(0), np.int64(len(data))
    count = np.int64(0)
    while at < end:
        number, wire_type, at = field(data, at, end)
        if at == MALFORMED:
            return BAD_PROTOBUF, count
        if number == 4:
            if wire_type != 2:
                return BAD_PROTOBUF, count
            begin, stop = delimited(data, at, end)
            if begin == MALFORMED:
                return BAD_PROTOBUF, count
            if count < len(places):
                places[count, 0] = begin
                places[count, 1] = stop
                h0, h1 = hash128(data, begin, stop - begin, seeds[0], seeds[1])
                hashes[count, 0] = h0
                hashes[count, 1] = h1
            count += 1
            at = stop
        else:
            at = skip(data, at, end, wire_type)
            if at == MALFORMED:
                return BAD_PROTOBUF, count
    return (OK if count <= len(places) else MORE_LISTED), count


@kernel(
    "int64(const uint8[::1], int64, const uint64[:], const uint64[:,::1], int64, uint64[:,::1],"
    " int64, int64, int64, int64, int64, int64, const uint8[::1], int64[::1],"
    " int64[::1], int32[::1], int64[::1], float64[::1], int64[::1], int32[::1], int64,"
    " int64[:,::1], int64[:,::1], int64[::1])"
)
def walk(
    data: np.ndarray,
    version: int,
    seeds: np.ndarray,
    symbol_hashes: np.ndarray,
    symbols: int,
    slots: np.ndarray,
    stale_before_s: int,
    oldest_ms: int,
    newest_ms: int,
    lookback_ms: int,
    first_critical: int,
    least_target: int,
    accepted: np.ndarray,
    seen: np.ndarray,
    ids: np.ndarray,
    checks: np.ndarray,
    ts: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    targets: np.ndarray,
    first_row: int,
    listed: np.ndarray,
    extras: np.ndarray,
    totals: np.ndarray,
) -> int:
    """Writes the samples of known series behind `first_row`, and what it found into `totals`.

    seeds: two words of the table, two of the input (its external labels). stale_before_s: a series
    whose definition was sent before that second is listed. oldest_ms and newest_ms: bounds of
    samples that are taken. first_critical: least target of the critical topic. least_target: series
    of lesser ones are shed, which totals[SHED] counts in samples, totals[SHED_OTHERS] in histograms
    and exemplars. accepted: whether samples of a
    replica are taken; seen counts them. On MORE_* an array is too short, and nothing of what was
    written counts.
    """
    end = np.int64(len(data))
    at = np.int64(0)
    row = first_row
    capacity = len(ids)
    listed_count = np.int64(0)
    extras_count = np.int64(0)
    series_count = np.int64(0)
    totals[:] = 0
    totals[FIRST_IN_FUTURE] = -1
    totals[FIRST_TOO_OLD] = -1
    series_number = 1 if version == 1 else 5
    exemplar_number = 3 if version == 1 else 4
    histogram_number = 4 if version == 1 else 3
    seed0 = seeds[0] ^ seeds[2]
    seed1 = seeds[1] ^ seeds[3]
    while at < end:
        number, wire_type, at = field(data, at, end)
        if at == MALFORMED:
            return BAD_PROTOBUF
        if number != series_number:
            begin = at
            at = skip(data, at, end, wire_type)
            if at == MALFORMED:
                return BAD_PROTOBUF
            if version == 1 and number == 3:
                if wire_type != 2:
                    return BAD_PROTOBUF
                if extras_count == len(extras):
                    return MORE_EXTRAS
                begin, _ = delimited(data, begin, at)
                extras[extras_count, KIND] = METADATA
                extras[extras_count, BEGIN] = begin
                extras[extras_count, END] = at
                extras[extras_count, ROW] = -1
                extras_count += 1
            continue
        if wire_type != 2:
            return BAD_PROTOBUF
        begin, stop = delimited(data, at, end)
        if begin == MALFORMED:
            return BAD_PROTOBUF
        at = stop
        series_count += 1
        if series_count > MOST_SERIES:
            return MORE_SAMPLES

        # The labels, which come first and in one piece wherever an encoder is of the usual kind.
        here = begin
        if version == 1:
            while here < stop and load8(data, here) == 0x0A:
                label, here = delimited(data, here + 1, stop)
                if label == MALFORMED:
                    return BAD_PROTOBUF
            hash0, hash1 = hash128(data, begin, here - begin, seed0, seed1)
        else:
            hash0, hash1 = seed0, seed1
            refs = np.uint64(0)
            if here < stop and load8(data, here) == 0x0A:
                here, refs_end = delimited(data, here + 1, stop)
                if here == MALFORMED:
                    return BAD_PROTOBUF
                while here < refs_end:
                    ref, here = varint(data, here, refs_end)
                    if here == MALFORMED:
                        return BAD_PROTOBUF
                    refs += np.uint64(1)
                    if ref < 0 or ref >= symbols:
                        # No series has such a hash: it is listed, and refused by who looks closer.
                        hash0 = fold(hash0 ^ seeds[1], seeds[0] ^ np.uint64(ref))
                    else:
                        hash0, hash1 = chain(
                            hash0, hash1, symbol_hashes[ref, 0], symbol_hashes[ref, 1], seed0, seed1
                        )
            # A series must be told apart from the same bytes as labels of version 1.
            hash0 = fold(hash0 ^ refs, seed1)
            hash1 = fold(hash1 ^ refs, seed0 ^ hash0)
        place = find(slots, hash0, hash1)
        known = place >= 0 and np.int64(slots[place, 4]) >= stale_before_s
        if place < 0:
            place = np.int64(0)
        series_id = np.int64(slots[place, 2])
        check = np.int32(slots[place, 3] & np.uint64(0xFFFFFFFF))
        target = np.int32(slots[place, 3] >> np.uint64(32))
        newest = np.int64(slots[place, 5])
        replica = np.int64(slots[place, 6])
        is_shed = target < least_target
        is_taken = known and accepted[replica] != 0 and not is_shed
        row_before, extras_before = row, extras_count
        derived = future = old = np.int64(0)
        samples = histograms = exemplars = np.int64(0)
        usual = True
        while here < stop:
            key = load8(data, here)
            if key == 0x12:
                number = np.int64(2)
                wire_type = np.int64(2)
                here += 1
            else:
                number, wire_type, here = field(data, here, stop)
                if here == MALFORMED:
                    return BAD_PROTOBUF
            if number == 1:
                usual = False
                here = skip(data, here, stop, wire_type)
            elif number == 2:
                if wire_type != 2:
                    return BAD_PROTOBUF
                content, here = delimited(data, here, stop)
                if content == MALFORMED:
                    return BAD_PROTOBUF
                value, time, start, is_well_formed = sample(data, content, here)
                if not is_well_formed:
                    return BAD_PROTOBUF
                samples += 1
                if is_taken:
                    if time > newest_ms:
                        future += 1
                    elif time < oldest_ms:
                        old += 1
                    else:
                        if row + 2 > capacity:
                            return MORE_SAMPLES
                        if version == 1 or start < 0:
                            start = np.int64(0)
                        if (
                            0 < start < time
                            and start >= oldest_ms
                            and (start > newest if newest > 0 else time - start <= lookback_ms)
                        ):
                            if extras_count == len(extras):
                                return MORE_EXTRAS
                            extras[extras_count, KIND] = START
                            extras[extras_count, ROW] = place
                            extras_count += 1
                            ids[row] = series_id
                            checks[row] = check
                            ts[row] = start
                            values[row] = 0.0
                            starts[row] = DERIVED_START
                            targets[row] = target
                            row += 1
                            derived += 1
                        newest = max(newest, time)
                        ids[row] = series_id
                        checks[row] = check
                        ts[row] = time
                        values[row] = value
                        starts[row] = start
                        targets[row] = target
                        row += 1
            elif number in (histogram_number, exemplar_number):
                if wire_type != 2:
                    return BAD_PROTOBUF
                content, here = delimited(data, here, stop)
                if content == MALFORMED:
                    return BAD_PROTOBUF
                if number == histogram_number:
                    histograms += 1
                else:
                    exemplars += 1
                if is_taken:
                    if extras_count == len(extras):
                        return MORE_EXTRAS
                    is_histogram = number == histogram_number
                    extras[extras_count, KIND] = HISTOGRAM if is_histogram else EXEMPLAR
                    extras[extras_count, BEGIN] = content
                    extras[extras_count, END] = here
                    extras[extras_count, ROW] = place
                    extras[extras_count, OF_SERIES_BEGIN] = begin
                    extras[extras_count, OF_SERIES_END] = stop
                    extras_count += 1
            else:
                here = skip(data, here, stop, wire_type)
            if here == MALFORMED:
                return BAD_PROTOBUF

        is_empty = samples + histograms == 0 and (version == 2 or exemplars == 0)
        if known and usual and not (is_empty and version == 2):
            if is_taken:
                slots[place, 5] = np.uint64(newest)
                totals[DERIVED] += derived
                totals[IN_FUTURE] += future
                totals[TOO_OLD] += old
                if future and totals[FIRST_IN_FUTURE] < 0:
                    totals[FIRST_IN_FUTURE] = begin
                    totals[FIRST_IN_FUTURE_END] = stop
                if old and totals[FIRST_TOO_OLD] < 0:
                    totals[FIRST_TOO_OLD] = begin
                    totals[FIRST_TOO_OLD_END] = stop
                if target >= first_critical:
                    totals[OF_CRITICAL] += row - row_before
            elif is_shed:
                totals[SHED] += samples
                totals[SHED_OTHERS] += histograms + exemplars
            else:
                totals[OF_REPLICA] += samples
            seen[replica] += samples + histograms
        else:
            row, extras_count = row_before, extras_before
            if is_empty and version == 1 and usual:
                continue
            if listed_count == len(listed):
                return MORE_LISTED
            listed[listed_count, SERIES_BEGIN] = begin
            listed[listed_count, SERIES_END] = stop
            listed[listed_count, IN_USUAL_ORDER] = 1 if usual else 0
            listed[listed_count, HASH0] = np.int64(hash0)
            listed[listed_count, HASH1] = np.int64(hash1)
            listed[listed_count, SAMPLES] = samples
            listed[listed_count, HISTOGRAMS] = histograms
            listed[listed_count, EXEMPLARS] = exemplars
            listed_count += 1
    totals[ROWS] = row - first_row
    totals[LISTED] = listed_count
    totals[EXTRAS] = extras_count
    return OK
