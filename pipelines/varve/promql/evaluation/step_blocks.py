"""Runs kernels over windows a block of steps at a time, so that a query can end between blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from varve.promql.evaluation.limits import Budget
from varve.promql.evaluation.values import Bools, Float64s
from varve.promql.storage import Samples

BLOCK_SAMPLES: Final = 50_000_000
"""Samples that one call of a kernel looks at, each once for every window: at most some seconds of
quantiles, much less of sums. Dashboards do not reach it; a month's windows at a thousand steps do.
"""

Kernel = Callable[[slice, Float64s, Bools], int]
"""Fills both arrays for the steps of the slice, and returns the samples touched."""


def run_in_blocks(
    budget: Budget,
    samples: Samples,
    range_ms: int,
    span_ms: int,
    values: Float64s,
    present: Bools,
    kernel: Kernel,
) -> int:
    """Calls `kernel` for all columns of values and present; returns the samples touched.

    values and present: (row x step). Windows are range_ms long and end within span_ms. The cost is
    judged as if all of `samples` lay evenly in that time, which is at least what it is.
    QueryCanceledError or QueryTimeoutError between two calls.
    """
    steps = values.shape[1]
    held = int((samples.ends - samples.begins).sum())
    touched_at_most = steps * held * range_ms // max(1, range_ms + span_ms)
    if touched_at_most <= BLOCK_SAMPLES or steps == 1:
        return kernel(slice(0, steps), values, present)
    size = max(1, steps * BLOCK_SAMPLES // touched_at_most)
    touched = 0
    for begin in range(0, steps, size):
        budget.check_running()
        part = slice(begin, min(begin + size, steps))
        shape = (values.shape[0], part.stop - begin)
        block, flags = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
        touched += kernel(part, block, flags)
        values[:, part], present[:, part] = block, flags
    return touched
