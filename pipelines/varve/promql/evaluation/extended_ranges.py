"""The `anchored` and `smoothed` modifiers: windows whose ends have values of their own.

An anchored window starts with the last sample at or before its start; a smoothed one has at
both ends the value interpolated between the samples around. Neither extrapolates.
Source: Prometheus, promql/functions.go (extendedRate) and engine.go (smoothSeries).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.annotations import Annotations
from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.histogram_range_functions import changes, in_order, resets
from varve.promql.evaluation.selection import select_windows
from varve.promql.evaluation.values import Matrix, RangeVector, Steps
from varve.promql.evaluation.windows import Points, points_of, windows_of
from varve.promql.function_table import FUNCTIONS
from varve.promql.histograms.native_histogram import (
    FloatHistogram,
    IncompatibleSchemasError,
    add,
    detects_reset,
    subtract,
)
from varve.promql.interrupt import checked
from varve.promql.plan.nodes import InstantSelect, RangeCall, RangeSelect
from varve.promql.signatures import Function, Trait
from varve.promql.storage import Samples
from varve.promql.syntax.ast import Span

Sample = tuple[int, float | FloatHistogram]


def check_extension(function: Function, *, anchored: bool) -> None:
    """Raises QueryError if the function cannot be used with the modifier."""
    needed = Trait.ANCHORED if anchored else Trait.SMOOTHED
    if not function.has(needed):
        modifier = "anchored" if anchored else "smoothed"
        usable = ", ".join(sorted(name for name, f in FUNCTIONS.items() if f.has(needed)))
        raise QueryError(
            f"{modifier} modifier can only be used with: {usable} - not with {function.name}"
        )


def extended_rows(ev: Evaluation, node: RangeCall, steps: Steps) -> Matrix:
    """A function of an anchored or smoothed range selector."""
    source = node.source
    if not isinstance(source, RangeSelect):
        raise QueryError("anchored and smoothed apply to selectors")
    smoothed = source.selector.smoothed
    reach = ev.lookback_ms
    windows = windows_of(
        ev, source, steps, node.name, before_ms=reach, after_ms=reach if smoothed else 0
    )
    count = windows.series.samples.series
    ev.budget.check_values(count * steps.count)
    values = np.zeros((count, steps.count))
    present = np.zeros((count, steps.count), dtype=np.bool_)
    histograms = np.full((count, steps.count), None, dtype=object)
    for row in range(count):
        points = points_of(windows.series, row)
        metric = windows.metric(row)
        for step, end in checked(enumerate(windows.times.tolist()), ev.check):
            start = end - windows.range_ms
            within = points.within(start - reach, end + reach if smoothed else end)
            if not len(within):
                continue
            ev.budget.samples_touched += len(within)
            extended = _Extended(
                node.name, start, end, smoothed, metric, node.first_span, ev.annotations
            )
            result = extended.value(within)
            present[row, step] = result is not None
            if isinstance(result, FloatHistogram):
                histograms[row, step] = result
            elif result is not None:
                values[row, step] = result
    any_histogram = windows.series.samples.histograms is not None
    return Matrix(
        windows.series.labels,
        values,
        present,
        np.ones(count, dtype=np.bool_),
        histograms if any_histogram else None,
    )


class _Extended:
    """One window (start_ms, end_ms] of one series."""

    def __init__(
        self,
        function: str,
        start_ms: int,
        end_ms: int,
        smoothed: bool,  # noqa: FBT001
        metric: str,
        span: Span,
        annotations: Annotations,
    ) -> None:
        self.function = function
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.smoothed = smoothed
        self.metric = metric
        self.span = span
        self.annotations = annotations

    def value(self, points: Points) -> float | FloatHistogram | None:
        if self.function in ("resets", "changes"):
            return self._count(points)
        if len(points.ts) and len(points.histogram_ts):
            self.annotations.add(notes.mixed_floats_histograms(self.metric, self.span))
            return None
        try:
            if len(points.ts):
                return self._rate_of_floats(points.ts.tolist(), points.values.tolist())
            return self._rate_of_histograms(points.histogram_ts.tolist(), points.histograms)
        except IncompatibleSchemasError:
            self.annotations.add(notes.mixed_exponential_custom(self.metric, self.span))
            return None

    def _count(self, points: Points) -> float | None:
        """Counts resets or changes from the last sample at or before the window's start on."""
        samples = in_order(points)
        anchor = max(bisect_right(samples, self.start_ms, key=lambda s: s[0]) - 1, 0)
        if samples[-1][0] <= self.start_ms:
            return None
        samples = samples[anchor:]
        return resets(samples) if self.function == "resets" else changes(samples)

    def _bounds(self, ts: Sequence[int]) -> tuple[int, int] | None:
        """Indices of the samples that the window's ends are taken from; None if there are none."""
        last = len(ts) - 1
        first = max(0, bisect_right(ts, self.start_ms, 0, last) - 1)
        if self.smoothed:
            last = bisect_left(ts, self.end_ms, 0, last)
        if ts[last] <= self.start_ms or (self.smoothed and ts[first] > self.end_ms):
            return None
        return first, last

    def _rate_of_floats(self, ts: list[int], values: list[float]) -> float | None:
        bounds = self._bounds(ts)
        if bounds is None:
            return None
        first, last = bounds
        is_counter = self.function != "delta"
        left, right = values[first], values[last]
        if self.smoothed and ts[first] < self.start_ms:
            left = _interpolated(ts, values, first, self.start_ms, is_counter=is_counter)
        if self.smoothed and last > 0 and ts[last] > self.end_ms:
            right = _interpolated(ts, values, last - 1, self.end_ms, is_counter=is_counter)
        growth = right - left
        if is_counter:
            inner = values[
                first + (ts[first] <= self.start_ms) : last + 1 - (ts[last] >= self.end_ms)
            ]
            before, correction = left, 0.0
            for value in [*inner, right]:
                if value < before:
                    correction += before
                before = value
            growth += correction
        return growth / self._seconds() if self.function == "rate" else growth

    def _seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1000

    def _rate_of_histograms(
        self, ts: list[int], histograms: Sequence[FloatHistogram]
    ) -> FloatHistogram | None:
        bounds = self._bounds(ts)
        if bounds is None:
            return None
        first, last = bounds
        is_counter = self.function != "delta"
        used = histograms[first : last + 1]
        if len({histogram.is_custom for histogram in used}) > 1:
            raise IncompatibleSchemasError
        if is_counter and any(histogram.hint == "gauge" for histogram in used):
            self.annotations.add(notes.not_counter(self.metric, self.span))
        left, right = histograms[first], histograms[last]
        if self.smoothed and ts[first] < self.start_ms:
            left = self._between(ts, histograms, first, self.start_ms, is_counter=is_counter)
        if self.smoothed and last > 0 and ts[last] > self.end_ms:
            right = self._between(ts, histograms, last - 1, self.end_ms, is_counter=is_counter)
        if not is_counter and (left.hint != "gauge" or right.hint != "gauge"):
            self.annotations.add(notes.not_gauge(self.metric, self.span))
        growth = self._subtract(right, left)
        if is_counter:
            correction = self._correction(ts, histograms, first, last, left, right)
            if correction is not None:
                growth = self._add(growth, correction)
        if self.function == "rate":
            growth = growth.divided(self._seconds())
        return growth.with_hint("gauge")

    def _correction(
        self,
        ts: list[int],
        histograms: Sequence[FloatHistogram],
        first: int,
        last: int,
        left: FloatHistogram,
        right: FloatHistogram,
    ) -> FloatHistogram | None:
        """What resets between the two ends took away; None if there were none."""
        before, begin = left, first + 1
        interpolated = self.smoothed and ts[first] < self.start_ms
        if interpolated and detects_reset(histograms[first + 1], histograms[first]):
            # The left end already accounts for the reset that it was interpolated over.
            before, begin = histograms[first + 1], first + 2
        if begin > last:
            return None
        correction: FloatHistogram | None = None
        for histogram in [*histograms[begin:last], right]:
            if detects_reset(histogram, before):
                correction = before if correction is None else self._add(correction, before)
            before = histogram
        return correction

    def _between(
        self,
        ts: list[int],
        histograms: Sequence[FloatHistogram],
        i: int,
        at: int,
        *,
        is_counter: bool,
    ) -> FloatHistogram:
        """The histogram interpolated between the i-th and the one after it."""
        before, after = histograms[i], histograms[i + 1]
        if at == ts[i]:
            return before
        if at == ts[i + 1]:
            return after
        fraction = (at - ts[i]) / (ts[i + 1] - ts[i])
        if is_counter and detects_reset(after, before):
            return after.scaled(fraction)
        return self._add(self._subtract(after, before).scaled(fraction), before)

    def _add(self, a: FloatHistogram, b: FloatHistogram) -> FloatHistogram:
        combined = add(a, b)
        if combined.reconciled:
            self.annotations.add(notes.bounds_reconciled("addition", self.span))
        return combined.histogram

    def _subtract(self, a: FloatHistogram, b: FloatHistogram) -> FloatHistogram:
        combined = subtract(a, b)
        if combined.reconciled:
            self.annotations.add(notes.bounds_reconciled("subtraction", self.span))
        return combined.histogram

    def at_instant(self, points: Points) -> float | FloatHistogram | None:
        """The value at end_ms, interpolated between its neighbours; the last sample if none
        follows.
        """
        at = self.end_ms
        if len(points.ts) and len(points.histogram_ts):
            self.annotations.add(notes.mixed_floats_histograms(self.metric, self.span))
            return None
        if len(points.ts):
            ts, values = points.ts.tolist(), points.values.tolist()
            i = bisect_left(ts, at)
            if i < len(ts) and ts[i] == at:
                return float(values[i])
            if i == 0:
                return None
            if i == len(ts):
                return float(values[-1])
            return _interpolated(ts, values, i - 1, at, is_counter=False)
        ts, histograms = points.histogram_ts.tolist(), points.histograms
        i = bisect_left(ts, at)
        if i < len(ts) and ts[i] == at:
            return histograms[i]
        if i == 0:
            return None
        if i == len(ts):
            return histograms[-1]
        if histograms[i].is_custom != histograms[i - 1].is_custom:
            self.annotations.add(notes.mixed_exponential_custom(self.metric, self.span))
            return None
        is_counter = histograms[i].hint != "gauge"
        return self._between(ts, histograms, i - 1, at, is_counter=is_counter)


def _interpolated(
    ts: list[int], values: list[float], i: int, at: int, *, is_counter: bool
) -> float:
    """The value between the i-th sample and the next one. A reset counter starts from 0."""
    before, after = values[i], values[i + 1]
    if is_counter and after < before:
        before = 0.0
    return before + (after - before) * (at - ts[i]) / (ts[i + 1] - ts[i])


def smoothed_instant(ev: Evaluation, node: InstantSelect, steps: Steps) -> Matrix:
    """A smoothed instant selector, which interpolates each series at each step."""
    reach = ev.lookback_ms
    selection, times = select_windows(ev, node.selector, steps, reach, after_ms=reach)
    count = selection.samples.series
    series = RangeVector(selection.labels, selection.samples, np.zeros(count, dtype=np.bool_))
    values = np.zeros((count, steps.count))
    present = np.zeros((count, steps.count), dtype=np.bool_)
    histograms = np.full((count, steps.count), None, dtype=object)
    for row in range(count):
        points = points_of(series, row)
        metric = selection.labels.get(row, "__name__")
        for step, at in checked(enumerate(times.tolist()), ev.check):
            window = _Extended("", at, at, True, metric, node.span, ev.annotations)
            result = window.at_instant(points.within(at - reach, at + reach))
            present[row, step] = result is not None
            if isinstance(result, FloatHistogram):
                histograms[row, step] = result
            elif result is not None:
                values[row, step] = result
    any_histogram = selection.samples.histograms is not None
    return Matrix(
        selection.labels, values, present, series.drop_name, histograms if any_histogram else None
    )


def extended_samples(ev: Evaluation, node: RangeSelect, steps: Steps) -> RangeVector:
    """The samples of an anchored or smoothed range selector, and those made at its ends."""
    smoothed = node.selector.smoothed
    reach = ev.lookback_ms
    windows = windows_of(ev, node, steps, "", before_ms=reach, after_ms=reach if smoothed else 0)
    end = int(windows.times[0])
    start = end - windows.range_ms
    ts: list[int] = []
    values: list[float] = []
    lengths: list[int] = []
    for row in checked(range(windows.series.samples.series), ev.check):
        points = points_of(windows.series, row)
        points = points.within(start - reach, end + reach if smoothed else end)
        if len(points.histogram_ts):
            raise QueryError("anchored modifier is not supported with histograms")
        row_ts, row_values = _extend(points, start, end, smoothed=smoothed)
        ts += row_ts
        values += row_values
        lengths.append(len(row_ts))
    ends = np.cumsum(np.array(lengths, dtype=np.int64))
    samples = Samples(
        np.array(ts, dtype=np.int64),
        np.array(values, dtype=np.float64),
        ends - np.array(lengths, dtype=np.int64),
        ends,
        np.zeros(len(lengths), dtype=np.bool_),
    )
    return RangeVector(windows.series.labels, samples, windows.series.drop_name)


def _extend(
    points: Points, start: int, end: int, *, smoothed: bool
) -> tuple[list[int], list[float]]:
    """Times and values of the samples strictly within (start, end), and of one at each end."""
    ts, values = points.ts.tolist(), points.values.tolist()
    if not ts:
        return [], []
    last = len(ts) - 1
    first = max(0, bisect_right(ts, start, 0, last) - 1)
    if smoothed:
        last = bisect_left(ts, end, 0, last)
    if ts[last] <= start:
        return [], []
    left, right = values[first], values[last]
    if smoothed and ts[first] < start:
        left = _interpolated(ts, values, first, start, is_counter=False)
    if smoothed and last > 0 and ts[last] > end:
        right = _interpolated(ts, values, last - 1, end, is_counter=False)
    inner = slice(first + (ts[first] <= start), last + 1 - (ts[last] >= end))
    return [start, *ts[inner], end], [left, *values[inner], right]
