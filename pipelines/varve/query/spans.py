"""Samples of several spans of time at once."""

from __future__ import annotations

import numpy as np

from varve.model.compiled import kernel
from varve.promql.kernels.types import I64, Bools
from varve.query.sample_columns import SampleColumns


def within_spans(part: SampleColumns, starts: I64, ends: I64) -> SampleColumns:
    """The samples of a part in one of the spans (starts[i], ends[i]], ascending and disjoint."""
    inside = np.empty(part.rows, dtype=np.bool_)
    kept = mark_inside(part.ts, starts, ends, inside)
    if kept == part.rows:
        return part
    return part.within(inside)


@kernel("int64(const int64[::1], const int64[::1], const int64[::1], boolean[::1])")
def mark_inside(times: I64, starts: I64, ends: I64, inside: Bools) -> int:
    """Sets which times are in a span; returns how many."""
    found = 0
    place = 0
    for i in range(len(times)):
        t = times[i]
        # Times mostly ascend: the span of the one before is near.
        while place > 0 and t <= starts[place]:
            place -= 1
        while place < len(ends) - 1 and t > ends[place]:
            place += 1
        inside[i] = starts[place] < t <= ends[place]
        found += inside[i]
    return found
