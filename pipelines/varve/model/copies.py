"""Rows with one key are one row: which of them counts, and the ways to find it.

One (series_id, ts) is one sample, wherever copies of it meet. The greatest wins, stale marker < NaN
< numbers: the same sample wins in any order of arrival. Rollup rows of one window are told apart
by their revision in the same way.

`merge_runs` suits rows that come in sorted runs, as files are. `arranged` and `order` suit few
series in no order: series are few next to samples, and each one's samples come nearly in order of
time, so samples are first dealt out to their series, which takes a hash table and a count, and then
looked through. Of 6 M samples of 1.5 M series in 30 files `order` takes 289 ns a sample, merging
63; of 2 M of 2,500 series as they are scraped `group` takes 3 ns, `order` 25 and a look-up of the
columns by it as much again, `arranged` 23 in all.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from varve.model.compiled import inline, kernel
from varve.model.staleness import STALE_BITS

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

_STALE = np.int64(STALE_BITS)
_LEAST = np.iinfo(np.int64).min
# Ids come from producers: nobody must be able to choose them so that they meet in the hash table.
_SEED = np.uint64(secrets.randbits(64))
BY_VALUE: Ints = np.empty(0, np.int64)
"""In place of ranks: the payload is the bits of a sample's value, ranked by the rule."""


class Groups(NamedTuple):
    """Samples by series. codes: for each sample the number of its series, from 0 in the order of
    appearance. first: for each series its first sample. Series are told apart by (id, check).
    """

    codes: Codes
    first: Ints


def group(series_ids: Ints, checks: npt.NDArray[np.int32] | None = None) -> Groups:
    """Numbers the series of some samples; by id alone if there are no checks."""
    if checks is None:
        checks = np.zeros(0, np.int32)
    return Groups(*_group(series_ids, checks, _SEED))


def order(
    series_ids: Ints, ts: Ints, values: Floats, groups: Groups | None = None
) -> npt.NDArray[np.intp]:
    """Indices of the samples that count, sorted by (series_id, ts); copies are left out.

    groups: of the same samples, if they are known already; no id may be in two of them.
    """
    codes, first = group(series_ids) if groups is None else groups
    by_id = np.argsort(series_ids[first])
    place = np.empty(len(first), np.int32)
    place[by_id] = np.arange(len(first), dtype=np.int32)
    return _order(place, codes, ts, np.ascontiguousarray(values).view(np.int64))


def arranged(
    series_ids: Ints, ts: Ints, values: Floats, groups: Groups
) -> tuple[Ints, Ints, Floats]:
    """The samples that count, sorted by (series_id, ts); copies are left out. groups: as of
    `order`.

    Takes a fraction of the time of `order` and a look-up by its indices.
    """
    ids = series_ids[groups.first]
    by_id = np.argsort(ids)
    place = np.empty(len(ids), np.int32)
    place[by_id] = np.arange(len(ids), dtype=np.int32)
    bits = np.ascontiguousarray(values).view(np.int64)
    sorted_ids, times, kept = _arrange(ids[by_id], place, groups.codes, ts, bits)
    return sorted_ids, times, kept.view(np.float64)


def merge(series_ids: Ints, ts: Ints, values: Floats) -> tuple[Ints, Ints, Floats]:
    """The samples that count, sorted by (series_id, ts); copies are left out."""
    bits = np.ascontiguousarray(values).view(np.int64)
    ids, times, bits = merge_runs(series_ids, ts, bits, BY_VALUE)
    return ids, times, bits.view(np.float64)


@kernel("(const int64[::1], const int64[::1], const int64[::1], const int64[::1])")
def merge_runs(ids: Ints, times: Ints, payload: Ints, ranks: Ints) -> tuple[Ints, Ints, Ints]:
    """The rows sorted by (id, time), each key once: that of the greatest rank, else the first.

    payload: the row's index into `ranks`, or with BY_VALUE the bits of its value. The sorted runs
    that the rows consist of are merged two by two: a pass over the rows for each doubling of runs,
    all sequential.
    """
    return _merge_runs(ids, times, payload, ranks)


@kernel(
    "int64(const int64[::1], const int64[::1], const float64[::1],"
    " const int64[::1], const int64[::1], const float64[::1],"
    " int64[::1], int64[::1], float64[::1])"
)
def merge_two(
    a_ids: Ints, a_ts: Ints, a_values: Floats, b_ids: Ints, b_ts: Ints, b_values: Floats,
    ids: Ints, ts: Ints, values: Floats,
) -> int:  # fmt: skip
    """Merges two runs of samples, each strictly ascending by (id, ts), into the last three
    arrays, which have room for all of both; returns how many rows they hold then.
    """
    none = np.empty(0, np.int64)
    return _join(
        a_ids, a_ts, a_values.view(np.int64), 0, len(a_ids),
        b_ids, b_ts, b_values.view(np.int64), 0, len(b_ids),
        ids, ts, values.view(np.int64), 0, none,
    )  # fmt: skip


@kernel("void(int64[::1], float64[::1], const int64[::1], int64[::1])")
def settle(ts: Ints, values: Floats, begins: Ints, ends: Ints) -> None:
    """Sorts each series' samples, which are rows begins[i] to ends[i], by time in place and drops
    copies, moving its end.
    """
    bits = values.view(np.int64)
    none = np.empty(0, np.int64)
    for i in range(len(begins)):
        begin, end = begins[i], ends[i]
        ascends = True
        for k in range(begin + 1, end):
            ascends = ascends and ts[k] > ts[k - 1]
        if ascends:
            continue
        same = np.zeros(end - begin, np.int64)
        _, times, kept = _merge_runs(same, ts[begin:end], bits[begin:end], none)
        ends[i] = begin + len(times)
        ts[begin : ends[i]] = times
        bits[begin : ends[i]] = kept


@inline
def rank_of(bits: np.int64) -> np.int64:
    """Rank of one value, given by its bits, for kernels."""
    if bits == _STALE:
        return np.int64(_LEAST)
    if (bits & np.int64(0x7FFFFFFFFFFFFFFF)) > np.int64(0x7FF0000000000000):
        return np.int64(_LEAST + 1)
    if bits < 0:
        return ~bits ^ np.int64(_LEAST)
    return bits


@inline
def _mix(number: np.uint64, seed: np.uint64) -> np.uint64:
    """Source: splitmix64."""
    mixed = (number ^ seed) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@kernel("(const int64[::1], const int32[::1], uint64)")
def _group(ids: Ints, checks: npt.NDArray[np.int32], seed: np.uint64) -> tuple[Codes, Ints]:
    """Series mostly come in the order of the last time, so the one that followed then is looked at
    first; else a hash table knows.
    """
    codes = np.empty(len(ids), np.int32)
    first = np.empty(1024, np.int64)
    followers = np.full(1024, -1, np.int32)
    slots = np.full(4096, -1, np.int32)
    mask = np.uint64(len(slots) - 1)
    found = 0
    last = np.int32(-1)
    for i in range(len(ids)):
        code = followers[last] if last >= 0 else np.int32(-1)
        if code >= 0 and _is_same(ids, checks, first[code], i):
            codes[i] = code
            last = code
            continue
        slot = _mix(np.uint64(ids[i]), seed) & mask
        code = slots[slot]
        while code >= 0 and not _is_same(ids, checks, first[code], i):
            slot = (slot + np.uint64(1)) & mask
            code = slots[slot]
        if code < 0:
            if found == len(first):
                first = np.concatenate((first, np.empty(len(first), np.int64)))
                followers = np.concatenate((followers, np.full(len(followers), -1, np.int32)))
                slots = np.full(2 * len(slots), -1, np.int32)
                mask = np.uint64(len(slots) - 1)
                for known in range(found):
                    slot = _mix(np.uint64(ids[first[known]]), seed) & mask
                    while slots[slot] >= 0:
                        slot = (slot + np.uint64(1)) & mask
                    slots[slot] = known
                slot = _mix(np.uint64(ids[i]), seed) & mask
                while slots[slot] >= 0:
                    slot = (slot + np.uint64(1)) & mask
            code = np.int32(found)
            slots[slot] = code
            first[found] = i
            found += 1
        if last >= 0:
            followers[last] = code
        codes[i] = code
        last = code
    return codes, first[:found].copy()


@inline
def _is_same(ids: Ints, checks: npt.NDArray[np.int32], one: int, other: int) -> bool:
    """Whether two samples are of one series."""
    return ids[one] == ids[other] and (len(checks) == 0 or checks[one] == checks[other])


@kernel(
    "(const int64[::1], const int32[::1], const int32[::1], const int64[::1], const int64[::1])"
)
def _arrange(
    ids: Ints, place: Codes, codes: Codes, ts: Ints, bits: Ints
) -> tuple[Ints, Ints, Ints]:
    """ids: of the series, ascending. place: as in `_order`. Writes the samples series by series,
    then goes over them once.
    """
    ends = np.zeros(len(place) + 1, np.int64)
    for i in range(len(codes)):
        ends[place[codes[i]] + 1] += 1
    ends = np.cumsum(ends)
    filled = ends[:-1].copy()
    times, kept_bits = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
    for i in range(len(codes)):
        at = place[codes[i]]
        times[filled[at]] = ts[i]
        kept_bits[filled[at]] = bits[i]
        filled[at] += 1
    out_ids = np.empty(len(codes), np.int64)
    kept = 0
    for series in range(len(place)):
        start, end = ends[series], ends[series + 1]
        for k in range(start + 1, end):
            if times[k] < times[k - 1]:
                order = np.argsort(times[start:end], kind="mergesort")
                times[start:end] = times[start:end][order]
                kept_bits[start:end] = kept_bits[start:end][order]
                break
        begin = kept
        for k in range(start, end):
            if kept > begin and times[k] == times[kept - 1]:
                if rank_of(kept_bits[k]) > rank_of(kept_bits[kept - 1]):
                    kept_bits[kept - 1] = kept_bits[k]
                continue
            times[kept], kept_bits[kept] = times[k], kept_bits[k]
            out_ids[kept] = ids[series]
            kept += 1
    return out_ids[:kept], times[:kept], kept_bits[:kept]


@kernel("(const int32[::1], const int32[::1], const int64[::1], const int64[::1])")
def _order(place: Codes, codes: Codes, ts: Ints, bits: Ints) -> Ints:
    """place: by code, the series' place in the order of ids. Sorts and compares indices, series by
    series: few rows at a time, for which merging runs costs three times as much.
    """
    ends = np.zeros(len(place) + 1, np.int64)
    for i in range(len(codes)):
        ends[place[codes[i]] + 1] += 1
    ends = np.cumsum(ends)
    filled = ends[:-1].copy()
    dealt = np.empty(len(codes), np.int64)
    for i in range(len(codes)):
        at = place[codes[i]]
        dealt[filled[at]] = i
        filled[at] += 1
    kept = 0
    for series in range(len(place)):
        start, end = ends[series], ends[series + 1]
        for k in range(start + 1, end):
            if ts[dealt[k]] < ts[dealt[k - 1]]:
                part = dealt[start:end].copy()
                dealt[start:end] = part[np.argsort(ts[part], kind="mergesort")]
                break
        k = start
        while k < end:
            best = dealt[k]
            k += 1
            while k < end and ts[dealt[k]] == ts[best]:
                if rank_of(bits[dealt[k]]) > rank_of(bits[best]):
                    best = dealt[k]
                k += 1
            dealt[kept] = best
            kept += 1
    return dealt[:kept].copy()


@inline
def _merge_runs(ids: Ints, times: Ints, payload: Ints, ranks: Ints) -> tuple[Ints, Ints, Ints]:
    n = len(ids)
    a_ids, a_times, a_load = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    starts = np.empty(n + 1, np.int64)
    runs = kept = 0
    # Copies within a run lie side by side: without them each run is strictly ascending.
    for i in range(n):
        falls = kept == 0
        if kept:
            last = kept - 1
            if ids[i] != a_ids[last]:
                falls = ids[i] < a_ids[last]
            elif times[i] == a_times[last]:
                if _exceeds(payload[i], a_load[last], ranks):
                    a_load[last] = payload[i]
                continue
            else:
                falls = times[i] < a_times[last]
        if falls:
            starts[runs] = kept
            runs += 1
        a_ids[kept], a_times[kept], a_load[kept] = ids[i], times[i], payload[i]
        kept += 1
    starts[runs] = kept
    if runs > 1:
        b_ids, b_times = np.empty(kept, np.int64), np.empty(kept, np.int64)
        b_load = np.empty(kept, np.int64)
        while runs > 1:
            joined = written = 0
            for r in range(0, runs, 2):
                begin, middle, end = starts[r], starts[r + 1], starts[min(r + 2, runs)]
                starts[joined] = written
                joined += 1
                written = _join(
                    a_ids, a_times, a_load, begin, middle,
                    a_ids, a_times, a_load, middle, end,
                    b_ids, b_times, b_load, written, ranks,
                )  # fmt: skip
            starts[joined] = written
            runs = joined
            a_ids, b_ids = b_ids, a_ids
            a_times, b_times = b_times, a_times
            a_load, b_load = b_load, a_load
        kept = starts[runs]
    return a_ids[:kept], a_times[:kept], a_load[:kept]


@inline
def _join(
    a_ids: Ints, a_times: Ints, a_load: Ints, i: int, a_end: int,
    b_ids: Ints, b_times: Ints, b_load: Ints, j: int, b_end: int,
    ids: Ints, times: Ints, load: Ints, kept: int, ranks: Ints,
) -> int:  # fmt: skip
    """Merges rows [i, a_end) of a and [j, b_end) of b, each strictly ascending, into the last
    arrays from `kept` on; returns where they end there.
    """
    while i < a_end and j < b_end:
        if a_ids[i] != b_ids[j]:
            is_left, is_copy = a_ids[i] < b_ids[j], False
        else:
            is_left, is_copy = a_times[i] <= b_times[j], a_times[i] == b_times[j]
        if is_left:
            ids[kept], times[kept], load[kept] = a_ids[i], a_times[i], a_load[i]
            if is_copy:
                if _exceeds(b_load[j], a_load[i], ranks):
                    load[kept] = b_load[j]
                j += 1
            i += 1
        else:
            ids[kept], times[kept], load[kept] = b_ids[j], b_times[j], b_load[j]
            j += 1
        kept += 1
    while i < a_end:
        ids[kept], times[kept], load[kept] = a_ids[i], a_times[i], a_load[i]
        i += 1
        kept += 1
    while j < b_end:
        ids[kept], times[kept], load[kept] = b_ids[j], b_times[j], b_load[j]
        j += 1
        kept += 1
    return kept


@inline
def _exceeds(new: np.int64, held: np.int64, ranks: Ints) -> np.bool_:
    """Whether the payload `new` ranks above `held`."""
    if len(ranks):
        return ranks[new] > ranks[held]
    return rank_of(new) > rank_of(held)
