"""Computes rate, increase, delta, irate and idelta of histograms and with start timestamps.

Source: Prometheus, promql/functions.go, extrapolatedRate, histogramRate and instantValue.
"""

from __future__ import annotations

from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.annotations import Annotations
from varve.promql.evaluation.start_timestamps import is_reset, overlaps
from varve.promql.evaluation.values import Int64s
from varve.promql.evaluation.windows import Points
from varve.promql.histograms.native_histogram import (
    FloatHistogram,
    IncompatibleSchemasError,
    add,
    detects_reset,
    divide,
    subtract,
)
from varve.promql.syntax.ast import Span


def rate(
    points: Points,
    start_ms: int,
    end_ms: int,
    *,
    is_counter: bool,
    per_second: bool,
    metric: str,
    span: Span,
    annotations: Annotations,
) -> float | FloatHistogram | None:
    """The growth over the window (start_ms, end_ms], extrapolated; None if it cannot be told."""
    growth: float | FloatHistogram | None
    if len(points.ts) and len(points.histogram_ts):
        annotations.add(notes.mixed_floats_histograms(metric, span))
        return None
    if len(points.histogram_ts):
        ts, starts = points.histogram_ts, points.histogram_start_ts
        growth = None
        if len(ts) > 1:
            growth = _histogram_growth(points, metric, span, annotations, is_counter=is_counter)
            if growth is None:
                return None
        first: float | FloatHistogram = points.histograms[0]
    elif len(points.ts):
        ts, starts = points.ts, points.start_ts
        first = float(points.values[0])
        growth = _float_growth(points, metric, span, annotations, is_counter=is_counter)
    else:
        return None

    began = int(starts[0])
    if is_counter and began != 0 and start_ms < began < int(ts[0]):
        # The series began inside the window, at zero: nothing to extrapolate on this side.
        growth = _plus(growth, first, metric, span, annotations)
        sampled = (int(ts[-1]) - began) / 1000
        to_start: float | None = 0.0
    else:
        sampled = int(ts[-1] - ts[0]) / 1000
        to_start = None
    if growth is None or (to_start is None and len(ts) < 2):
        return None
    average = int(ts[-1] - ts[0]) / 1000 / (len(ts) - 1) if len(ts) > 1 else 0.0
    if to_start is None:
        to_start = _extension((int(ts[0]) - start_ms) / 1000, average)
        if is_counter:
            to_start = min(to_start, _to_zero(first, growth, sampled, to_start))
    to_end = _extension((end_ms - int(ts[-1])) / 1000, average)
    factor = (sampled + to_start + to_end) / sampled if sampled != 0 else 1.0
    if per_second:
        factor /= (end_ms - start_ms) / 1000
    return growth.scaled(factor) if isinstance(growth, FloatHistogram) else growth * factor


def _extension(to_bound: float, average: float) -> float:
    """Seconds to extrapolate: up to the bound if that is near, else half the average distance."""
    return average / 2 if to_bound >= average * 1.1 else to_bound


def _to_zero(
    first: float | FloatHistogram, growth: float | FloatHistogram, sampled: float, default: float
) -> float:
    """Seconds before the first sample at which the counter would have been zero."""
    if isinstance(first, FloatHistogram) and isinstance(growth, FloatHistogram):
        first, growth = first.count, growth.count
    if isinstance(first, float) and isinstance(growth, float) and growth > 0 and first >= 0:
        return sampled * (first / growth)
    return default


def _plus(
    growth: float | FloatHistogram | None,
    first: float | FloatHistogram,
    metric: str,
    span: Span,
    annotations: Annotations,
) -> float | FloatHistogram | None:
    if isinstance(first, float):
        return first + (growth if isinstance(growth, float) else 0.0)
    if not isinstance(growth, FloatHistogram):
        return first
    try:
        combined = add(growth, first)
    except IncompatibleSchemasError:
        annotations.add(notes.mixed_exponential_custom(metric, span))
        return None
    if combined.reconciled:
        annotations.add(notes.bounds_reconciled("addition", span))
    return combined.histogram


def _float_growth(
    points: Points, metric: str, span: Span, annotations: Annotations, *, is_counter: bool
) -> float:
    values, ts, starts = points.values.tolist(), points.ts.tolist(), points.start_ts.tolist()
    growth: float = values[-1] - values[0]
    if not is_counter:
        return growth
    for i in range(1, len(values)):
        if overlaps(starts[i - 1], ts[i - 1], starts[i]):
            annotations.add(notes.start_times_overlap(metric, span))
        if values[i] < values[i - 1] or is_reset(starts[i - 1], ts[i - 1], starts[i], ts[i]):
            growth += values[i - 1]
    return growth


def _histogram_growth(
    points: Points, metric: str, span: Span, annotations: Annotations, *, is_counter: bool
) -> FloatHistogram | None:
    histograms = points.histograms
    ts, starts = points.histogram_ts.tolist(), points.histogram_start_ts.tolist()
    before, last = histograms[0], histograms[-1]
    inner = histograms[1:-1] if is_counter else ()
    at_ends = is_counter and "gauge" in (before.hint, last.hint)
    if is_counter:
        second = histograms[1]
        if is_reset(starts[0], ts[0], starts[1], ts[1]) or detects_reset(second, before):
            # What was before the reset does not matter, nor does its layout.
            before = FloatHistogram(schema=second.schema, custom_values=second.custom_values)
    mixed_ends = last.is_custom != before.is_custom
    mixed = any(histogram.is_custom != before.is_custom for histogram in inner)
    gauges = at_ends or any(histogram.hint == "gauge" for histogram in inner)
    # Upstream looks at the ends first, and forgets what it found there if kinds differ between.
    if at_ends if mixed_ends else gauges and not mixed:
        annotations.add(notes.not_counter(metric, span))
    if mixed_ends or mixed:
        annotations.add(notes.mixed_exponential_custom(metric, span))
        return None
    if not is_counter and (before.hint != "gauge" or last.hint != "gauge"):
        annotations.add(notes.not_gauge(metric, span))
    schema = min(histogram.schema for histogram in (before, last, *inner))
    total = last if last.is_custom else last.to_schema(schema)
    combined = subtract(total, before)
    if combined.reconciled:
        annotations.add(notes.bounds_reconciled("subtraction", span))
    total = combined.histogram
    if is_counter:
        for i in range(1, len(histograms)):
            current = histograms[i]
            if overlaps(starts[i - 1], ts[i - 1], starts[i]):
                annotations.add(notes.start_times_overlap(metric, span))
            if is_reset(starts[i - 1], ts[i - 1], starts[i], ts[i]) or detects_reset(
                current, before
            ):
                combined = add(total, before)
                if combined.reconciled:
                    annotations.add(notes.bounds_reconciled("addition", span))
                total = combined.histogram
            before = current
    return total.with_hint("gauge")


def instant_rate(
    points: Points, *, is_rate: bool, metric: str, span: Span, annotations: Annotations
) -> float | FloatHistogram | None:
    """irate or idelta of the last two samples; None if there are not two of one kind."""
    last_two = _last_two(points)
    if len(last_two) < 2:
        return None
    (t0, before, st0), (t1, now, st1) = last_two
    if t0 == t1:
        return None
    seconds = (t1 - t0) / 1000
    if isinstance(before, FloatHistogram) != isinstance(now, FloatHistogram):
        annotations.add(notes.mixed_floats_histograms(metric, span))
        return None
    if isinstance(before, FloatHistogram) and isinstance(now, FloatHistogram):
        was_reset = is_rate and (is_reset(st0, t0, st1, t1) or detects_reset(now, before))
        if is_rate and "gauge" in (before.hint, now.hint):
            annotations.add(notes.not_counter(metric, span))
        if not is_rate and (before.hint != "gauge" or now.hint != "gauge"):
            annotations.add(notes.not_gauge(metric, span))
        change = now
        if not was_reset:
            try:
                combined = subtract(now, before)
            except IncompatibleSchemasError:
                annotations.add(notes.mixed_exponential_custom(metric, span))
                return None
            if combined.reconciled:
                annotations.add(notes.bounds_reconciled("subtraction", span))
            change = combined.histogram
        change = change.with_hint("gauge")
        return change.divided(seconds) if is_rate else change
    if isinstance(before, FloatHistogram) or isinstance(now, FloatHistogram):
        return None
    if is_rate:
        was_reset = now < before or is_reset(st0, t0, st1, t1)
        return divide(now if was_reset else now - before, seconds)
    return now - before


def _last_two(points: Points) -> list[tuple[int, float | FloatHistogram, int]]:
    def tail(
        ts: Int64s, values: list[float] | list[FloatHistogram], starts: Int64s
    ) -> list[tuple[int, float | FloatHistogram, int]]:
        return list(zip(ts[-2:].tolist(), values, starts[-2:].tolist(), strict=True))

    floats = tail(points.ts, points.values[-2:].tolist(), points.start_ts)
    histograms = tail(points.histogram_ts, list(points.histograms[-2:]), points.histogram_start_ts)
    return sorted(floats + histograms, key=lambda point: point[0])[-2:]
