"""Evaluates range functions of series that have native histograms or start timestamps.

The rows of such series are computed window by window. What concerns floats alone still comes from
the kernels. Source: Prometheus, promql/functions.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.annotations import Annotation, Annotations
from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.histogram_rates import instant_rate, rate
from varve.promql.evaluation.start_timestamps import is_reset
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Matrix, Scalar
from varve.promql.evaluation.windows import Points, Windows, kernel_parameters, points_of
from varve.promql.histograms.native_histogram import (
    FloatHistogram,
    IncompatibleSchemasError,
    detects_reset,
)
from varve.promql.histograms.sums import HistogramMean, HistogramSum, hints_collide
from varve.promql.interrupt import checked
from varve.promql.kernels.windows import evaluate_rows
from varve.promql.plan.nodes import RangeCall
from varve.promql.signatures import Function, Trait
from varve.promql.syntax.ast import Span

Result = float | FloatHistogram | None


@dataclass(frozen=True, slots=True)
class Window:
    """One window of one series. `float_result` is what the kernel made of its floats."""

    function: Function
    points: Points
    start_ms: int
    end_ms: int
    metric: str
    span: Span
    annotations: Annotations
    float_result: float | None

    @property
    def name(self) -> str:
        return self.function.name

    def note(self, annotation: Annotation) -> None:
        self.annotations.add(annotation)

    @property
    def is_mixed(self) -> bool:
        return len(self.points.ts) > 0 and len(self.points.histogram_ts) > 0


def with_histogram_rows(
    ev: Evaluation,
    node: RangeCall,
    windows: Windows,
    parameters: list[Scalar],
    matrix: Matrix,
) -> Matrix:
    """`matrix`, with the rows computed anew for series with histograms or start timestamps."""
    samples = windows.series.samples
    flagged = np.zeros(samples.series, dtype=np.bool_)
    if samples.has_histograms is not None:
        flagged |= samples.has_histograms
    if samples.start_ts is not None and node.function.has(Trait.USES_START_TIMES):
        flagged[:] = True
    if not flagged.any():
        return matrix
    values, present = matrix.values, matrix.present
    histograms = np.full(present.shape, None, dtype=object)
    for row in np.flatnonzero(flagged):
        points = points_of(windows.series, int(row))
        row_values, row_present = _float_row(node, points, windows, parameters)
        for step, end in checked(enumerate(windows.times.tolist()), ev.check, 16):
            start = end - windows.range_ms
            window = Window(
                node.function,
                points.within(start, end),
                start,
                end,
                windows.metric(int(row)),
                node.first_span,
                ev.annotations,
                float(row_values[step]) if row_present[step] else None,
            )
            result = _evaluate(window) if len(window.points) else None
            present[row, step] = result is not None
            if isinstance(result, FloatHistogram):
                histograms[row, step] = result
            elif result is not None:
                values[row, step] = result
    return Matrix(matrix.labels, values, present, matrix.drop_name, histograms)


def _float_row(
    node: RangeCall, points: Points, windows: Windows, parameters: list[Scalar]
) -> tuple[Float64s, Bools]:
    """Values and presence that the kernel makes of the floats of one series."""
    shape = (1, windows.steps.count)
    values, present = np.empty(shape), np.empty(shape, dtype=np.bool_)
    evaluate_rows(
        node.kernel,
        np.ascontiguousarray(points.ts),
        np.ascontiguousarray(points.values),
        np.zeros(1, dtype=np.int64),
        np.array([len(points.ts)], dtype=np.int64),
        np.zeros(1, dtype=np.bool_),
        windows.times,
        windows.steps.times,
        windows.range_ms,
        *kernel_parameters(parameters),
        values,
        present,
    )
    return values[0], present[0]


def _evaluate(window: Window) -> Result:
    if window.function.has(Trait.FLOATS_ONLY):
        if window.is_mixed:
            window.note(notes.histograms_ignored_in_range(window.metric, window.span))
        return window.float_result
    return FUNCTIONS[window.name](window)


def _rate(window: Window) -> Result:
    return rate(
        window.points,
        window.start_ms,
        window.end_ms,
        is_counter=window.name != "delta",
        per_second=window.name == "rate",
        metric=window.metric,
        span=window.span,
        annotations=window.annotations,
    )


def _instant_rate(window: Window) -> Result:
    return instant_rate(
        window.points,
        is_rate=window.name == "irate",
        metric=window.metric,
        span=window.span,
        annotations=window.annotations,
    )


def _sum_or_average(window: Window) -> Result:
    if window.is_mixed:
        window.note(notes.mixed_floats_histograms(window.metric, window.span))
        return None
    histograms = window.points.histograms
    if not histograms:
        return window.float_result
    total: HistogramSum | HistogramMean
    if window.name == "sum_over_time":
        total = HistogramSum(histograms[0])
    else:
        total = HistogramMean(histograms[0])
    try:
        for histogram in histograms[1:]:
            total.add(histogram)
    except IncompatibleSchemasError:
        window.note(notes.mixed_exponential_custom(window.metric, window.span))
        return None
    if hints_collide(histograms):
        window.note(notes.hints_collide("aggregation", window.span))
    if total.reconciled:
        window.note(notes.bounds_reconciled("aggregation", window.span))
    return total.result()


def _count(window: Window) -> Result:
    return 1.0 if window.name.endswith("sent_over_time") else float(len(window.points))


def _first(window: Window) -> Result:
    points = window.points
    if not points.histograms:
        return float(points.values[0])
    if len(points.ts) and points.ts[0] < points.histogram_ts[0]:
        return float(points.values[0])
    return points.histograms[0]


def _last(window: Window) -> Result:
    points = window.points
    if not points.histograms:
        return float(points.values[-1])
    if len(points.ts) and points.ts[-1] > points.histogram_ts[-1]:
        return float(points.values[-1])
    return points.histograms[-1]


def _times(window: Window) -> Int64s:
    return np.concatenate((window.points.ts, window.points.histogram_ts))


def in_order(points: Points) -> list[tuple[int, float | FloatHistogram, int]]:
    """All samples in order of time, as (time, value, start timestamp)."""
    merged: list[tuple[int, float | FloatHistogram, int]] = [
        *zip(points.ts.tolist(), points.values.tolist(), points.start_ts.tolist(), strict=True),
        *zip(
            points.histogram_ts.tolist(),
            points.histograms,
            points.histogram_start_ts.tolist(),
            strict=True,
        ),
    ]
    merged.sort(key=lambda point: point[0])
    return merged


def resets(points: list[tuple[int, float | FloatHistogram, int]]) -> float:
    """How often the counter was reset. A change between floats and histograms counts as a reset."""
    count = 0
    for (t0, before, st0), (t1, now, st1) in pairwise(points):
        if isinstance(before, FloatHistogram) and isinstance(now, FloatHistogram):
            count += is_reset(st0, t0, st1, t1) or detects_reset(now, before)
        elif isinstance(before, FloatHistogram) or isinstance(now, FloatHistogram):
            count += 1
        else:
            count += now < before or is_reset(st0, t0, st1, t1)
    return float(count)


def changes(points: list[tuple[int, float | FloatHistogram, int]]) -> float:
    """How often the value became another."""
    count = 0
    for (_, before, _), (_, now, _) in pairwise(points):
        if isinstance(before, FloatHistogram) and isinstance(now, FloatHistogram):
            count += not now.equals(before)
        elif isinstance(before, FloatHistogram) or isinstance(now, FloatHistogram):
            count += 1
        else:
            count += now != before and not (np.isnan(now) and np.isnan(before))
    return float(count)


FUNCTIONS: Final[dict[str, Callable[[Window], Result]]] = {
    "rate": _rate,
    "increase": _rate,
    "delta": _rate,
    "irate": _instant_rate,
    "idelta": _instant_rate,
    "sum_over_time": _sum_or_average,
    "avg_over_time": _sum_or_average,
    "count_over_time": _count,
    "present_over_time": _count,
    "absent_over_time": _count,
    "first_over_time": _first,
    "last_over_time": _last,
    "ts_of_first_over_time": lambda window: float(_times(window).min()) / 1000,
    "ts_of_last_over_time": lambda window: float(_times(window).max()) / 1000,
    "resets": lambda window: resets(in_order(window.points)),
    "changes": lambda window: changes(in_order(window.points)),
}
