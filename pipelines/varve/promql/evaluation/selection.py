"""Evaluates selectors and subqueries: asks the storage, and finds what an instant selector sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from varve.promql.evaluation.context import Evaluation, NodeStats
from varve.promql.evaluation.kernel_blocks import tiles
from varve.promql.evaluation.leaves import by_series
from varve.promql.evaluation.values import Int64s, Matrix, RangeVector, Steps
from varve.promql.histograms.native_histogram import FloatHistogram, detects_reset
from varve.promql.interrupt import checked
from varve.promql.kernels.codes import LOOKBACK
from varve.promql.kernels.windows import window_bounds
from varve.promql.plan.durations import length_ms, offset_ms
from varve.promql.plan.nodes import InstantSelect, RangeSelect, Selector, SubquerySelect
from varve.promql.storage import (
    Leaf,
    LeafValues,
    Samples,
    SelectHints,
    Selection,
    TierChoice,
    WindowFunction,
)
from varve.promql.syntax.ast import At, Duration

NO_PARAMETER = np.zeros(0)

_LAST_MS = (1 << 63) - (1 << 52)
"""Times of @ are kept this far from the ends of int64, so that no window overflows: ranges and
offsets are under 2**44 ms, and at most some hundreds add up, in subqueries of subqueries."""

_GROUPED_VALUES_PER_SAMPLE = 4
"""So many values count as one sample if a kernel adds them to groups at once: they take time but
no memory."""


def selector_times(ev: Evaluation, at: At | None, offset: int, steps: Steps) -> Int64s:
    """The time that each step looks at: the step itself or the time of @, less the offset."""
    if at is None:
        return steps.times - offset if offset else steps.times
    return np.full(steps.count, at_ms(ev, at) - offset, dtype=np.int64)


def at_ms(ev: Evaluation, at: At) -> int:
    """The time of @, moved away from the ends of int64, where windows would overflow."""
    if at.at == "start":
        return ev.query.start
    if at.at == "end":
        return ev.query.end
    return max(-_LAST_MS, min(_LAST_MS, at.at))


def selected_span(
    ev: Evaluation, selector: Selector, steps: Steps, range_ms: int
) -> tuple[int, int]:
    """The range (start, end] of the samples that the windows of a selector see at `steps`."""
    first, last = _first_and_last(ev, selector.at, selector.offset, steps)
    return first - range_ms, last


def _first_and_last(
    ev: Evaluation, at: At | None, offset: Duration | None, steps: Steps
) -> tuple[int, int]:
    """The times that the first and the last step look at."""
    moved = offset_ms(offset, ev.query)
    if at is not None:
        return at_ms(ev, at) - moved, at_ms(ev, at) - moved
    return steps.start - moved, steps.end - moved


def select_windows(
    ev: Evaluation,
    selector: Selector,
    steps: Steps,
    range_ms: int,
    *,
    function: str = "",
    window_function: str | None = None,
    before_ms: int = 0,
    after_ms: int = 0,
    into_groups: bool = False,
    leaf: bool = False,
) -> tuple[Selection, Int64s]:
    """The series of a selector with what their windows need, and where the windows end.

    A window is (time - range_ms, time] for each step's time; before_ms and after_ms widen what is
    selected. into_groups: the values of the series are not kept. The samples count as held.
    window_function: what is computed of the windows, by the name that storage.WindowFunction has
    for it, if rows of rollups may stand in for the samples. leaf: whether nothing else is, so that
    the samples may stay elsewhere.

    Where the storage's bounds do not fit the limits, what counts is what was selected: samples in
    the range, and series that have any. LimitError if that is too much.
    """
    start, end = selected_span(ev, selector, steps, range_ms)
    start, end = start - before_ms, end + after_ms
    values_a_step = 1 / _GROUPED_VALUES_PER_SAMPLE if into_groups else 1
    budget = ev.budget
    choice, series, count = expected(ev, selector, steps, range_ms, window_function)
    if choice is None and (before_ms or after_ms):
        series, count = ev.counted(selector.matchers, start, end)
    values = int(series * steps.count * values_a_step)
    is_certain = budget.fits(series=series, samples=count, values=values)
    hints = SelectHints(
        function,
        range_ms,
        steps.step,
        choice=choice,
        leaf=leaf and window_function is not None,
        check=budget.check_running,
        admit=budget.check_values,
    )
    selection = ev.storage.select(selector.matchers, start, end, hints)
    if selection.rollups is not None or selection.elsewhere is not None:
        count = _held(selection.samples)  # rows are read block by block
    elif not is_certain:
        selection = _in_range(selection, start, end)
        series, count = selection.samples.series, _held(selection.samples)
        values = int(series * steps.count * values_a_step)
    budget.check_series(series)
    budget.hold(count)
    budget.check_values(values)
    ev.series_selected += series
    for warning in selection.warnings:
        ev.annotations.add_plain(warning)
    samples = selection.samples
    if selector.stats_only and samples.histograms is not None:
        histograms = _with_detected_resets(ev, samples, start, end)
        selection = replace(selection, samples=replace(samples, histograms=histograms))
    offset = offset_ms(selector.offset, ev.query)
    return selection, selector_times(ev, selector.at, offset, steps)


def expected(
    ev: Evaluation, selector: Selector, steps: Steps, range_ms: int, window_function: str | None
) -> tuple[TierChoice | None, int, int]:
    """What answers a selector, and about how many series and samples, or rows, it will have.

    The arguments are those of select_windows.
    """
    if window_function is not None and steps.count:
        first, last = _first_and_last(ev, selector.at, selector.offset, steps)
        step = steps.step if last > first else 0
        count = steps.count if step else 1
        windows = WindowFunction(window_function, range_ms, first, step, count)
        choice = ev.chosen(selector.matchers, windows)
        if choice is not None:
            return choice, choice.series, choice.rows
    start, end = selected_span(ev, selector, steps, range_ms)
    return None, *ev.counted(selector.matchers, start, end)


def tiered(selector: Selector, function: str | None) -> str | None:
    """`function` as the name of a storage.WindowFunction, None if it needs samples around windows.

    None stands for samples as such.
    """
    return None if selector.anchored or selector.smoothed else function


def _in_range(selection: Selection, start_ms: int, end_ms: int) -> Selection:
    """The series that have samples in (start_ms, end_ms], with these alone."""
    samples = selection.samples.whole()
    begins, ends = np.empty_like(samples.begins), np.empty_like(samples.ends)
    window_bounds(samples.ts, samples.begins, samples.ends, start_ms, end_ms, begins, ends)
    rows = np.flatnonzero(ends > begins)
    found = replace(samples, begins=begins, ends=ends).take(rows)
    return replace(selection, labels=selection.labels.take(rows), samples=found)


def _held(samples: Samples) -> int:
    return int((samples.ends - samples.begins).sum())


def instant_select(ev: Evaluation, node: InstantSelect, steps: Steps) -> Matrix:
    """The last sample of each series within the lookback, unless it is a stale marker."""
    selection, times = select_windows(
        ev, node.selector, steps, ev.lookback_ms, window_function="", leaf=True
    )
    return last_samples(ev, selection, times, node, LOOKBACK)


def last_samples(
    ev: Evaluation, selection: Selection, times: Int64s, node: InstantSelect, function: int
) -> Matrix:
    """What LOOKBACK or TIMESTAMP, as `function` says, gives of each series at each time."""
    samples = selection.samples
    ev.budget.check_values(samples.series * len(times))
    leaf = Leaf(function, ev.lookback_ms, (NO_PARAMETER, NO_PARAMETER), times, times)
    found = leaf_by_series(ev, leaf, selection)
    values, present = found.values, found.present
    ev.node_stats[id(node)] = NodeStats(samples.series, found.touched)
    histograms = None
    if samples.has_histograms is not None and samples.has_histograms.any():
        histograms = _last_histograms(ev, samples, times, present)
    drop_name = np.zeros(samples.series, dtype=np.bool_)
    return Matrix(selection.labels, values, present, drop_name, histograms)


def leaf_by_series(ev: Evaluation, leaf: Leaf, selection: Selection) -> LeafValues:
    """The values of each series of a selection, wherever its samples are."""
    if selection.elsewhere is None:
        return by_series(ev.budget, leaf, selection.samples, selection.rollups)
    found, _ = selection.elsewhere.by_series(leaf, ev.check)
    ev.budget.samples_touched += found.touched
    return found


def last_indices(samples: Samples, row: int, times: Int64s) -> Int64s:
    """Index of a series' last sample at or before each time; below its begin if there is none."""
    begin, end = samples.begins[row], samples.ends[row]
    return begin + np.searchsorted(samples.ts[begin:end], times, side="right") - 1


def _last_histograms(
    ev: Evaluation, samples: Samples, times: Int64s, present: npt.NDArray[np.bool_]
) -> npt.NDArray[Any]:
    found = np.full(present.shape, None, dtype=object)
    column, flags = samples.histograms, samples.has_histograms
    if column is None or flags is None:
        return found
    for row in checked(np.flatnonzero(flags).tolist(), ev.check):
        where = np.flatnonzero(present[row])
        found[row, where] = column[last_indices(samples, row, times)[where]]
    return found


def range_select(ev: Evaluation, node: RangeSelect, steps: Steps) -> RangeVector:
    """The samples of a range selector as they are, for the answer to an instant query."""
    range_ms = length_ms(node.range, ev.query)
    selection, times = select_windows(ev, node.selector, steps, range_ms)
    samples = selection.samples.whole()
    begins, ends = np.empty_like(samples.begins), np.empty_like(samples.ends)
    end = int(times[0])
    window_bounds(samples.ts, samples.begins, samples.ends, end - range_ms, end, begins, ends)
    ev.budget.samples_touched += int((ends - begins).sum())
    return RangeVector(
        selection.labels,
        replace(samples, begins=begins, ends=ends),
        np.zeros(samples.series, dtype=np.bool_),
    )


def subquery(ev: Evaluation, node: SubquerySelect, steps: Steps) -> RangeVector:
    """Evaluates a vector at the multiples of the subquery's step in all windows; gives samples."""
    inner_steps = subquery_steps(ev, node, steps)
    ev.budget.check_values(inner_steps.count)
    if inner_steps.count == 0:
        return matrix_samples(ev, Matrix.empty(0), inner_steps)
    before = ev.budget.held
    inner = matrix_samples(ev, ev.matrix(node.expr, inner_steps), inner_steps)
    ev.budget.held = before
    ev.budget.hold(len(inner.samples.ts))
    ev.node_stats[id(node)] = NodeStats(inner.samples.series, len(inner.samples.ts))
    return inner


def subquery_steps(ev: Evaluation, node: SubquerySelect, steps: Steps) -> Steps:
    """The multiples of the subquery's step in all of its windows, oldest first."""
    range_ms = length_ms(node.range, ev.query)
    step = ev.default_step_ms if node.step is None else length_ms(node.step, ev.query)
    first, last = _first_and_last(ev, node.at, node.offset, steps)
    begin = ((first - range_ms) // step + 1) * step
    return Steps.between(begin, last, step, is_range=begin != last)


def matrix_samples(ev: Evaluation, matrix: Matrix, steps: Steps) -> RangeVector:
    """The samples of a matrix as columns. Histograms lose hints that tell of their neighbours."""
    counts = np.count_nonzero(matrix.present, axis=1)
    ends = np.cumsum(counts)
    ts, values = np.empty(int(counts.sum()), np.int64), np.empty(int(counts.sum()))
    times = np.broadcast_to(steps.times, matrix.present.shape)
    end = 0
    for tile in tiles(*matrix.present.shape):
        ev.check()
        present = matrix.present[tile]
        begin, end = end, end + int(np.count_nonzero(present))
        ts[begin:end], values[begin:end] = times[tile][present], matrix.values[tile][present]
    histograms = has_histograms = None
    if matrix.histograms is not None:
        histograms = matrix.histograms[matrix.present]
        for i, histogram in checked(enumerate(histograms), ev.check):
            if histogram is not None and histogram.hint in ("reset", "not_reset"):
                histograms[i] = histogram.with_hint("unknown")
        has_histograms = np.logical_or.reduce(matrix.histogram_mask(), axis=1)
    samples = Samples(
        ts,
        values,
        ends - counts,
        ends,
        np.zeros(matrix.series, dtype=np.bool_),
        histograms,
        has_histograms,
    )
    return RangeVector(matrix.labels, samples, matrix.drop_name)


def _with_detected_resets(
    ev: Evaluation, samples: Samples, start_ms: int, end_ms: int
) -> npt.NDArray[Any] | None:
    """The histogram column with the hints that a reader of all of (start, end] would give."""
    if samples.histograms is None or samples.has_histograms is None:
        return None
    column = samples.histograms.copy()
    for row in np.flatnonzero(samples.has_histograms):
        begin, end = samples.begins[row], samples.ends[row]
        low = begin + np.searchsorted(samples.ts[begin:end], start_ms, side="right")
        high = begin + np.searchsorted(samples.ts[begin:end], end_ms, side="right")
        before: FloatHistogram | None = None
        for i in checked(range(low, high), ev.check):
            current = samples.histograms[i]
            if current is None:
                continue
            if current.hint == "unknown" and before is not None:
                reset = detects_reset(current, before)
                column[i] = current.with_hint("reset" if reset else "not_reset")
            before = current
    return column
