"""Rows of several files, each sorted, as one sorted sequence.

The runs are found and merged two by two: a pass over the rows for each doubling, all sequential.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from varve.model.compiled import kernel

Ints = npt.NDArray[np.int64]


@kernel("(const int64[::1], const int64[::1], const int64[::1])")
def merged(ids: Ints, times: Ints, payload: Ints) -> Any:
    """The columns sorted by (id, time), stable."""
    n = len(ids)
    starts = np.empty(n + 1, np.int64)
    runs = 0
    for i in range(n):
        if i == 0 or ids[i] < ids[i - 1] or (ids[i] == ids[i - 1] and times[i] < times[i - 1]):
            starts[runs] = i
            runs += 1
    starts[runs] = n
    a_ids, a_times, a_load = ids.copy(), times.copy(), payload.copy()
    b_ids, b_times, b_load = np.empty_like(ids), np.empty_like(times), np.empty_like(payload)
    while runs > 1:
        joined = 0
        for r in range(0, runs, 2):
            i, middle = starts[r], starts[r + 1]
            end = starts[min(r + 2, runs)]
            j, out = middle, i
            starts[joined] = i
            joined += 1
            while i < middle and j < end:
                if a_ids[i] < a_ids[j] or (a_ids[i] == a_ids[j] and a_times[i] <= a_times[j]):
                    b_ids[out], b_times[out], b_load[out] = a_ids[i], a_times[i], a_load[i]
                    i += 1
                else:
                    b_ids[out], b_times[out], b_load[out] = a_ids[j], a_times[j], a_load[j]
                    j += 1
                out += 1
            while i < middle:
                b_ids[out], b_times[out], b_load[out] = a_ids[i], a_times[i], a_load[i]
                i += 1
                out += 1
            while j < end:
                b_ids[out], b_times[out], b_load[out] = a_ids[j], a_times[j], a_load[j]
                j += 1
                out += 1
        starts[joined] = n
        runs = joined
        a_ids, b_ids = b_ids, a_ids
        a_times, b_times = b_times, a_times
        a_load, b_load = b_load, a_load
    return a_ids, a_times, a_load
