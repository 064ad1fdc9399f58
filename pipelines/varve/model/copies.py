"""One (series_id, ts) is one sample, wherever copies of it meet.

The greatest wins, stale marker < NaN < numbers: the same sample wins in any order of arrival.
`order`: series are few next to samples, and each one's samples come nearly in order of time, so
samples are first dealt out to their series, which takes a hash table and a count, and then looked
through.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from varve.model.compiled import inline, kernel
from varve.model.sorted_runs import merged
from varve.model.staleness import STALE_BITS

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

_STALE = np.int64(STALE_BITS)
_LEAST = np.iinfo(np.int64).min
# Ids come from producers: nobody must be able to choose them so that they meet in the hash table.
_SEED = np.uint64(secrets.randbits(64))


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
    series_ids: Ints, ts: Ints, values: npt.NDArray[np.float64], groups: Groups | None = None
) -> npt.NDArray[np.intp]:
    """Indices of the samples that count, sorted by (series_id, ts); copies are left out.

    groups: of the same samples, if they are known already; no id may be in two of them.
    """
    codes, first = group(series_ids) if groups is None else groups
    by_id = np.argsort(series_ids[first])
    place = np.empty(len(first), np.int32)
    place[by_id] = np.arange(len(first), dtype=np.int32)
    return _order(place, codes, ts, np.ascontiguousarray(values).view(np.int64))


def merge(
    series_ids: Ints, ts: Ints, values: npt.NDArray[np.float64]
) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """The samples that count, sorted by (series_id, ts), copies left out.

    Merges what is sorted already, as files are. `order` suits few series in no order: of 6 M
    samples of 1.5 M series in 30 files it takes 289 ns a sample, merging 63; of 2 M of 10,000
    series in 4 files 28, merging 37.
    """
    bits = np.ascontiguousarray(values).view(np.int64)
    ids, times, bits = merged(series_ids, ts, bits)
    kept = _distinct(ids, times, bits)
    return ids[:kept], times[:kept], bits[:kept].view(np.float64)


def rank(values: npt.NDArray[np.float64]) -> Ints:
    """Integers in the order of the rule: stale marker, NaN, then numbers ascending."""
    return _ranks(np.ascontiguousarray(values).view(np.int64))


@inline
def _mix(number: np.uint64, seed: np.uint64) -> np.uint64:
    """Source: splitmix64."""
    mixed = (number ^ seed) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@kernel("(const int64[::1], const int32[::1], uint64)")
def _group(ids: Ints, checks: npt.NDArray[np.int32], seed: np.uint64) -> tuple[Codes, Ints]:
    codes = np.empty(len(ids), np.int32)
    first = np.empty(1024, np.int64)
    slots = np.full(4096, -1, np.int32)
    mask = np.uint64(len(slots) - 1)
    found = 0
    for i in range(len(ids)):
        slot = _mix(np.uint64(ids[i]), seed) & mask
        code = slots[slot]
        while code >= 0:
            other = first[code]
            if ids[other] == ids[i] and (len(checks) == 0 or checks[other] == checks[i]):
                break
            slot = (slot + np.uint64(1)) & mask
            code = slots[slot]
        if code < 0:
            if found == len(first):
                first = np.concatenate((first, np.empty(len(first), np.int64)))
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
        codes[i] = code
    return codes, first[:found].copy()


@kernel("(const int32[::1], const int32[::1], const int64[::1], const int64[::1])")
def _order(place: Codes, codes: Codes, ts: Ints, bits: Ints) -> Ints:
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


@kernel("(int64[::1], int64[::1], int64[::1])")
def _distinct(ids: Ints, times: Ints, bits: Ints) -> int:
    """Moves the samples that count to the front; how many they are."""
    kept = 0
    for i in range(len(ids)):
        if kept and ids[i] == ids[kept - 1] and times[i] == times[kept - 1]:
            if rank_of(bits[i]) > rank_of(bits[kept - 1]):
                bits[kept - 1] = bits[i]
            continue
        ids[kept], times[kept], bits[kept] = ids[i], times[i], bits[i]
        kept += 1
    return kept


@inline
def rank_of(bits: np.int64) -> np.int64:
    """The same of one value's bits, for kernels."""
    if bits == _STALE:
        return np.int64(_LEAST)
    if (bits & np.int64(0x7FFFFFFFFFFFFFFF)) > np.int64(0x7FF0000000000000):
        return np.int64(_LEAST + 1)
    if bits < 0:
        return ~bits ^ np.int64(_LEAST)
    return bits


@kernel("(const int64[::1],)")
def _ranks(bits: Ints) -> Ints:
    ranks = np.empty(len(bits), np.int64)
    for i in range(len(bits)):
        ranks[i] = rank_of(bits[i])
    return ranks
