"""Cuts the work of kernels into blocks, so that a query can end between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np

from varve.promql.evaluation.limits import Budget
from varve.promql.evaluation.values import Bools, Float64s
from varve.promql.evaluation.workers import Workers
from varve.promql.interrupt import Check
from varve.promql.storage import SampleBlock, Samples

BLOCK_SAMPLES: Final = 4_000_000
"""The most samples that one call of a kernel looks at, each once for every window, and values that
it makes: a twentieth of a second of the slowest function, mad_over_time, so that a slow machine
stays within 250 ms, too. Dashboards do not reach it."""

_ROW_SAMPLES: Final = 32
"""Starting with a series takes a kernel as long as so many samples."""

TILE_VALUES: Final = 1_000_000
"""The most values that numpy computes or sorts at once: a tenth of a second of the slowest."""

Kernel = Callable[[SampleBlock, slice, Float64s, Bools], int]
"""Fills both arrays for some series and steps, and returns the samples touched."""


class Work:
    """How much there is to do for the rows of `samples` at `steps` steps.

    Windows are range_ms long and end within span_ms. The cost is judged as if the samples of each
    series lay evenly in that time, which is at least what it is.
    """

    def __init__(self, samples: Samples, range_ms: int, span_ms: int, steps: int) -> None:
        share = range_ms / max(1, range_ms + span_ms)
        self.samples = samples
        self._held = samples.ends - samples.begins
        self._share = share
        self._series, self._steps = len(self._held), steps
        windows = float(self._held.sum()) * share + self._series
        self._cost = windows * steps + self._series * _ROW_SAMPLES

    def _cost_of_rows(self, steps: int) -> Float64s:
        return (self._held.astype(np.float64) * self._share + 1) * steps + _ROW_SAMPLES

    def pieces(self, count: int, workers: Workers | None) -> list[slice]:
        """`count` series or steps in pieces of like size: one for each core that is idle, and the
        caller's, as far as each is worth a thread.
        """
        most = 1 + (0 if workers is None else workers.idle)
        if workers is not None and most > 1:
            most = min(most, count, int(self._samples_and_values / max(1, workers.worthwhile)))
        edges = [count * i // most for i in range(most)] if most > 1 else [0]
        return [slice(*edge) for edge in pairwise([*edges, count])]

    @property
    def _samples_and_values(self) -> float:
        return float(self._held.sum()) + self._series * self._steps

    @property
    def is_small(self) -> bool:
        """Whether one call of a kernel may do all of it."""
        return self._cost <= BLOCK_SAMPLES

    def step_blocks(self) -> Iterator[slice]:
        """All steps, so many at a time that no single series takes more than a block."""
        longest = float(self._held.max(initial=0)) * self._share + 1
        width = max(1, int(BLOCK_SAMPLES / longest))
        for begin in range(0, self._steps, width):
            yield slice(begin, min(begin + width, self._steps))

    def row_blocks(self, steps: slice) -> Iterator[slice]:
        """All rows, so many at a time that they take about a block at these steps."""
        cost = np.cumsum(self._cost_of_rows(steps.stop - steps.start))
        count = int(cost[-1] // BLOCK_SAMPLES) if len(cost) else 0
        edges = np.searchsorted(cost, np.arange(1, count + 1) * float(BLOCK_SAMPLES), side="left")
        begin = 0
        for end in [*(edges + 1).tolist(), self._series]:
            if end > begin:
                yield slice(begin, min(end, self._series))
                begin = end


def slices(count: int, size: int) -> Iterator[slice]:
    """All of `count` things of `size` values each, so many at a time that they make a block.

    One that is empty if there are none, so that a kernel is called at all.
    """
    width = max(1, BLOCK_SAMPLES // max(1, size))
    for begin in range(0, max(1, count), width):
        yield slice(begin, min(begin + width, count))


def tiles(rows: int, steps: int) -> Iterator[tuple[slice, slice]]:
    """All of (row x step) in row-major order, at most TILE_VALUES at a time."""
    width = max(1, min(steps, TILE_VALUES))
    height = TILE_VALUES // width
    for row in range(0, rows, height):
        for step in range(0, steps, width):
            yield slice(row, min(row + height, rows)), slice(step, min(step + width, steps))


def elementwise(check: Check, function: Callable[..., Any], *arrays: Any) -> Any:
    """Returns function(*arrays), which works element by element on arrays of one shape.

    The shape is (row x step). Large arrays are computed tile by tile, with checks between.
    """
    shape = arrays[0].shape
    if arrays[0].size <= TILE_VALUES:
        return function(*arrays)
    result = None
    for tile in tiles(*shape):
        check()
        part = function(*(array[tile] for array in arrays))
        if result is None:
            result = np.empty(shape, part.dtype)
        result[tile] = part
    return result


def run_in_blocks(
    budget: Budget, work: Work, values: Float64s, present: Bools, kernel: Kernel
) -> int:
    """Calls `kernel` for all of values and present, (row x step); returns the samples touched.

    QueryCanceledError or QueryTimeoutError between two calls.
    """
    rows, steps = values.shape

    def run(wanted: slice, part: slice, values: Float64s, present: Bools) -> int:
        """values and present are those of the wanted rows."""
        touched = 0
        for some in work.samples.blocks(wanted):
            block = slice(some.rows.start - wanted.start, some.rows.stop - wanted.start)
            touched += kernel(some, part, values[block], present[block])
        return touched

    if work.is_small:
        return run(slice(0, rows), slice(0, steps), values, present)
    touched = 0
    for part in work.step_blocks():
        for block in work.row_blocks(part):
            budget.check_running()
            if part.stop - part.start == steps:
                touched += run(block, part, values[block], present[block])
                continue
            shape = (block.stop - block.start, part.stop - part.start)
            some, flags = np.empty(shape), np.empty(shape, dtype=np.bool_)
            touched += run(block, part, some, flags)
            values[block, part], present[block, part] = some, flags
    return touched
