"""Windows of several files, each sorted, as one sorted sequence, and keys of windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from varve.model.compiled import inline, kernel
from varve.model.copies import merge_runs
from varve.rollups.algebra import Ints


def newest(series_ids: Ints, window_ends: Ints, revisions: Ints) -> Ints:
    """Indices of the rows that count, the greatest revision of each window, sorted by
    (series_id, window_end).
    """
    index: Ints = merge_runs(series_ids, window_ends, np.arange(len(series_ids)), revisions)[2]
    return index


def unique_keys(keys: Ints) -> Ints:
    """Pairs, int64 of shape (n, 2), sorted, each once."""
    alike = np.zeros(len(keys), np.int64)
    ids, ends, _ = merge_runs(keys[:, 0].copy(), keys[:, 1].copy(), alike, alike)
    return np.stack([ids, ends], axis=1)


@kernel("(const int64[::1], const int64[::1], const int64[:, ::1])")
def among(ids: Ints, ends: Ints, keys: Ints) -> Any:
    """Which (id, end) are in keys, int64 of shape (n, 2); both sorted. Shape of ids, bool."""
    found = np.zeros(len(ids), np.bool_)
    k = 0
    for i in range(len(ids)):
        while k < len(keys) and (
            keys[k, 0] < ids[i] or (keys[k, 0] == ids[i] and keys[k, 1] < ends[i])
        ):
            k += 1
        found[i] = k < len(keys) and keys[k, 0] == ids[i] and keys[k, 1] == ends[i]
    return found


@kernel("(const int64[::1], const int64[::1], int64, const int64[:, ::1])")
def within_keys(ids: Ints, times: Ints, width: int, keys: Ints) -> Any:
    """Which rows fall in one of some windows of `width`. keys: series_id and window_end of those,
    shape (n, 2), sorted. Shape of ids, bool.

    Cheap where rows are sorted by (series_id, time) in long runs.
    """
    found = np.zeros(len(ids), np.bool_)
    n = len(keys)
    k, before = 0, np.int64(0)
    for i in range(len(ids)):
        series, end = ids[i], -(-times[i] // width) * width
        if i and series == ids[i - 1] and end == before:
            found[i] = found[i - 1]
            continue
        if i and (series < ids[i - 1] or (series == ids[i - 1] and end < before)):
            k = 0
        before = end
        # The first key that is not less: first by doubling steps, then by halving them.
        step = 1
        while k + step <= n and _less(keys, k + step - 1, series, end):
            k += step
            step *= 2
        while step > 1:
            step //= 2
            if k + step <= n and _less(keys, k + step - 1, series, end):
                k += step
        found[i] = k < n and keys[k, 0] == series and keys[k, 1] == end
    return found


@inline
def _less(keys: Ints, k: int, series: int, end: int) -> bool:
    return keys[k, 0] < series or (keys[k, 0] == series and keys[k, 1] < end)
