"""Keys of windows, (series_id, window_end): merging those of sorted files, and looking them up."""

from __future__ import annotations

from typing import Any

import numpy as np

from varve.model.compiled import inline, kernel
from varve.model.copies import merge_runs
from varve.rollups.algebra import Ints


def newest_revisions(series_ids: Ints, window_ends: Ints, revisions: Ints) -> Ints:
    """Indices of the rows with the greatest revision of their window, sorted by
    (series_id, window_end). The rows of each file must be sorted so.
    """
    index: Ints = merge_runs(series_ids, window_ends, np.arange(len(series_ids)), revisions)[2]
    return index


def unique_keys(keys: Ints) -> Ints:
    """Sorts pairs, int64 of shape (n, 2), and keeps each once."""
    alike = np.zeros(len(keys), np.int64)
    ids, ends, _ = merge_runs(keys[:, 0].copy(), keys[:, 1].copy(), alike, alike)
    return np.stack([ids, ends], axis=1)


@kernel("(const int64[::1], const int64[::1], const int64[:, ::1])")
def isin(ids: Ints, ends: Ints, keys: Ints) -> Any:
    """Tells which (id, end) are among keys, int64 of shape (n, 2); bool, the shape of ids. Both
    must be sorted.
    """
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
def in_windows(ids: Ints, times: Ints, width: int, keys: Ints) -> Any:
    """Tells which rows fall in one of some windows of `width`; bool, the shape of ids.

    keys: series_id and window_end of the windows, shape (n, 2), sorted. It is cheap where rows are
    sorted by (series_id, time) in long runs.
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
