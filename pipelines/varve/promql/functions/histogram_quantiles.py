"""Computes quantiles and fractions of histograms: kernels take classic ones, a loop native ones.

Source: Prometheus, promql/functions.go, funcHistogramQuantile, funcHistogramQuantiles,
funcHistogramFraction and resetHistograms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.annotations import Monotonicity
from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.kernel_blocks import slices
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Matrix, Scalar, Steps
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.histograms.statistics import fraction, quantile
from varve.promql.interrupt import Check, checked, never
from varve.promql.kernels.buckets import bucket_fractions, bucket_quantiles
from varve.promql.labels.combine import concatenate, match_group_ids
from varve.promql.labels.label_table import BUCKET_LABEL, LabelTable
from varve.promql.plan.nodes import FunctionCall, Text
from varve.promql.syntax.ast import Span
from varve.promql.syntax.go_numbers import format_open_metrics
from varve.promql.syntax.literals import parse_float


@dataclass(frozen=True, slots=True)
class Layout:
    """The classic histograms among the rows of a table.

    Histogram g, whose labels are row g of `labels`, has the buckets indptr[g]:indptr[g+1] of
    bounds (ascending) and rows. bad: rows whose bucket label is no number.
    """

    labels: LabelTable
    bounds: Float64s
    rows: Int64s
    indptr: Int64s
    bad: Int64s


def layout(table: LabelTable, check: Check = never) -> Layout:
    """The layout of a table's classic histograms. It is found once and kept with the table.

    check: see interrupt.py.
    """

    def make() -> Layout:
        parsed: dict[str, float | None] = {}
        texts = table.values_of(BUCKET_LABEL)
        for text in checked(texts, check):
            if text not in parsed:
                parsed[text] = _bound(text)
        good = np.array([parsed[text] is not None for text in texts], dtype=np.bool_)
        rows = np.flatnonzero(good)
        check()
        bounds = np.array([cast(float, parsed[texts[row]]) for row in rows.tolist()])
        check()
        labels = table.take(rows).without((BUCKET_LABEL,))
        ids = labels.label_set_ids()
        check()
        order = np.lexsort((bounds, ids))
        check()
        count = int(ids.max()) + 1 if len(ids) else 0
        indptr = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(ids, minlength=count), out=indptr[1:])
        firsts = np.unique(ids, return_index=True)[1]
        return Layout(
            labels.take(firsts), bounds[order], rows[order], indptr, np.flatnonzero(~good)
        )

    return table.cached("bucket layout", make)


def _bound(text: str) -> float | None:
    try:
        return parse_float(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Histograms:
    """The histograms of a vector: classic ones by `layout`, native ones in place.

    classic: where the buckets of classic histograms count; native: where a native one does.
    """

    matrix: Matrix
    layout: Layout
    classic: Bools
    native: Bools


def _histograms(ev: Evaluation, matrix: Matrix, span: Span) -> Histograms:
    """Finds the histograms of a vector. A label set with both kinds at one step has neither."""
    found = layout(matrix.labels, ev.check)
    floats, native = matrix.float_mask(), matrix.histogram_mask()
    for row in checked(found.bad[floats[found.bad].any(axis=1)].tolist(), ev.check):
        value = matrix.labels.get(row, BUCKET_LABEL)
        ev.annotations.add(notes.bad_bucket_label(matrix.metric(row), value, span))
    if not native.any():
        return Histograms(matrix, found, floats, native)
    native, classic = native.copy(), floats.copy()
    (classic_ids, native_ids), _ = match_group_ids((found.labels, matrix.labels), (), on=False)
    named, _ = match_group_ids((found.labels, matrix.labels), ("__name__",), on=True)
    for row in np.flatnonzero(native.any(axis=1)).tolist():
        same = (classic_ids == native_ids[row]) & (named[0] == named[1][row])
        for group in np.flatnonzero(same).tolist():
            buckets = found.rows[found.indptr[group] : found.indptr[group + 1]]
            both = native[row] & floats[buckets].any(axis=0)
            if both.any():
                ev.annotations.add(notes.mixed_classic_native(matrix.metric(row), span))
                native[row] &= ~both
                classic[np.ix_(buckets, both)] = False
    return Histograms(matrix, found, classic, native)


def _with_names_dropped(labels: LabelTable, values: Float64s, present: Bools) -> Matrix:
    return Matrix(labels, values, present, np.ones(labels.size, dtype=np.bool_))


def _stacked(ev: Evaluation, parts: list[Matrix]) -> Matrix:
    """The rows of all parts. If several parts have samples, rows without any are left out."""
    kept = [part for part in parts if part.present.any()] or parts[:1]
    if len(kept) == 1:
        return kept[0]
    stacked = Matrix(
        concatenate([part.labels for part in kept]),
        np.concatenate([part.values for part in kept]),
        np.concatenate([part.present for part in kept]),
        np.concatenate([part.drop_name for part in kept]),
    )
    ev.check()
    stacked = stacked.select(stacked.has_samples())
    return stacked if stacked.steps == 1 else stacked.merged(ev.check)


def _native(
    ev: Evaluation, histograms: Histograms, function: Callable[[FloatHistogram, int, int], float]
) -> Matrix:
    """`function(histogram, row, step)` of every native histogram."""
    matrix = histograms.matrix
    values = np.zeros_like(matrix.values)
    if matrix.histograms is not None:
        for row, step in checked(np.argwhere(histograms.native).tolist(), ev.check):
            values[row, step] = function(matrix.histograms[row, step], row, step)
    return _with_names_dropped(matrix.labels, values, histograms.native)


def _quantiles(
    ev: Evaluation, histograms: Histograms, q: Scalar, times: Int64s, span: Span
) -> list[Matrix]:
    """The quantiles of the native histograms and those of the classic ones."""
    parts: list[Matrix] = []
    if histograms.native.any():
        matrix = histograms.matrix

        def of_native(histogram: FloatHistogram, row: int, step: int) -> float:
            found = quantile(float(q[step]), histogram)
            if found.nan_note is not None:
                metric = matrix.metric(row)
                ev.annotations.add(notes.quantile_of_nans(found.nan_note, metric, span))
            return found.value

        parts.append(_native(ev, histograms, of_native))
    parts.append(_classic_quantiles(ev, histograms, q, times, span))
    return parts


def _classic_quantiles(
    ev: Evaluation, histograms: Histograms, q: Scalar, times: Int64s, span: Span
) -> Matrix:
    found = histograms.layout
    shape = (found.labels.size, len(times))
    values, present = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    forced, fixes = np.zeros(shape, dtype=np.bool_), np.zeros((shape[0], 3))
    for part, indptr in _blocks(ev, found, shape[1]):
        bucket_quantiles(
            q,
            found.bounds,
            found.rows,
            indptr,
            histograms.matrix.values,
            histograms.classic,
            values[part],
            present[part],
            forced[part],
            fixes[part],
        )
    if forced.any():
        for row in checked(np.flatnonzero(forced.any(axis=1)).tolist(), ev.check):
            at = times[forced[row]]
            fix = Monotonicity(
                span,
                int(at.min()),
                int(at.max()),
                float(fixes[row, 0]),
                float(fixes[row, 1]),
                float(fixes[row, 2]),
                len(at),
            )
            ev.annotations.add_monotonicity(found.labels.get(row, "__name__"), fix)
    return _with_names_dropped(found.labels, values, present)


def _blocks(ev: Evaluation, found: Layout, steps: int) -> Iterator[tuple[slice, Int64s]]:
    """Histograms that a kernel takes at once, with a check before each; their part of indptr."""
    buckets = len(found.rows) // max(1, found.labels.size) + 1
    for part in slices(found.labels.size, buckets * steps):
        ev.budget.check_running()
        yield part, found.indptr[part.start : part.stop + 1]


def _note_invalid(ev: Evaluation, q: Scalar, span: Span) -> None:
    wrong = np.isnan(q) | (q < 0) | (q > 1)
    if wrong.any():
        for value in np.unique(q[wrong]).tolist():
            ev.annotations.add(notes.invalid_quantile(value, span))


def _histogram_quantile(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    q = ev.scalar(node.args[0], steps)
    matrix = ev.matrix(node.args[1], steps)
    _note_invalid(ev, q, node.arg_spans[0])
    histograms = _histograms(ev, matrix, node.arg_spans[1])
    return _stacked(ev, _quantiles(ev, histograms, q, steps.times, node.arg_spans[1]))


def _histogram_quantiles(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """histogram_quantiles(): several quantiles, told apart by a label."""
    matrix = ev.matrix(node.args[0], steps)
    label = cast(Text, node.args[1]).value
    scalars = [ev.scalar(arg, steps) for arg in node.args[2:]]
    for q, span in zip(scalars, node.arg_spans[2:], strict=True):
        _note_invalid(ev, q, span)
    histograms = _histograms(ev, matrix, node.arg_spans[0])
    parts: list[Matrix] = []
    for q in scalars:
        for part in _quantiles(ev, histograms, q, steps.times, node.arg_spans[0]):
            for value in np.unique(q).tolist():
                text = format_open_metrics(value)
                labels = part.labels.with_label(label, [text] * part.series)
                at = (q == value) | (np.isnan(q) & np.isnan(value))
                parts.append(Matrix(labels, part.values, part.present & at, part.drop_name))
    return _stacked(ev, parts)


def _histogram_fraction(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    low, high = ev.scalar(node.args[0], steps), ev.scalar(node.args[1], steps)
    matrix = ev.matrix(node.args[2], steps)
    histograms = _histograms(ev, matrix, node.arg_spans[2])
    parts: list[Matrix] = []
    if histograms.native.any():

        def of_native(histogram: FloatHistogram, row: int, step: int) -> float:
            share, has_nans = fraction(float(low[step]), float(high[step]), histogram)
            if has_nans:
                metric = matrix.metric(row)
                ev.annotations.add(notes.fraction_of_nans(metric, node.arg_spans[2]))
            return share

        parts.append(_native(ev, histograms, of_native))
    found = histograms.layout
    shape = (found.labels.size, steps.count)
    values, present = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    for part, indptr in _blocks(ev, found, shape[1]):
        bucket_fractions(
            np.ascontiguousarray(low),
            np.ascontiguousarray(high),
            found.bounds,
            found.rows,
            indptr,
            matrix.values,
            histograms.classic,
            values[part],
            present[part],
        )
    parts.append(_with_names_dropped(found.labels, values, present))
    return _stacked(ev, parts)


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    "histogram_quantile": _histogram_quantile,
    "histogram_quantiles": _histogram_quantiles,
    "histogram_fraction": _histogram_fraction,
}
