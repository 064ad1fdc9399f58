"""Evaluates functions of range vectors: kernels take the rows of float samples.

Source: Prometheus, promql/engine.go (eval of Call) and functions.go.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.context import Evaluation, NodeStats
from varve.promql.evaluation.extended_ranges import check_extension, extended_rows
from varve.promql.evaluation.histogram_range_functions import with_histogram_rows
from varve.promql.evaluation.selection import leaf_by_series
from varve.promql.evaluation.values import Bools, Matrix, Scalar, Steps
from varve.promql.evaluation.windows import Windows, kernel_parameters, points_of, windows_of
from varve.promql.interrupt import checked
from varve.promql.labels.label_table import METRIC_NAME, LabelTable
from varve.promql.plan.nodes import RangeCall, RangeSelect, Selector
from varve.promql.signatures import Trait
from varve.promql.storage import Leaf
from varve.promql.syntax.ast import MatchOp
from varve.promql.syntax.go_numbers import format_g

_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")


def range_call(ev: Evaluation, node: RangeCall, steps: Steps) -> Matrix:
    """A function of a range vector at each step."""
    selector = node.source.selector if isinstance(node.source, RangeSelect) else Selector(())
    if selector.anchored or selector.smoothed:
        check_extension(node.function, anchored=selector.anchored)
        matrix = extended_rows(ev, node, steps)
        if node.function.has(Trait.EXPECTS_COUNTER):
            note_non_counters(ev, node, matrix.labels, matrix)
        return matrix
    parameters = [ev.scalar(parameter, steps) for parameter in node.parameters]
    windows = windows_of(ev, node.source, steps, node.name, tiered=True)
    return call_on_windows(ev, node, windows, parameters)


def call_on_windows(
    ev: Evaluation, node: RangeCall, windows: Windows, parameters: list[Scalar]
) -> Matrix:
    """Evaluates a call whose samples and parameters are at hand."""
    matrix = _rows(ev, node, windows, parameters)
    if node.function.has(Trait.EXPECTS_COUNTER):
        note_non_counters(ev, node, matrix.labels, matrix)
    if node.name == "absent_over_time":
        return _absent(node, matrix, windows.steps)
    if node.name == "double_exponential_smoothing":
        check_smoothing(ev, parameters, windows)
    return matrix


def _rows(ev: Evaluation, node: RangeCall, windows: Windows, parameters: list[Scalar]) -> Matrix:
    samples = windows.series.samples
    ev.budget.check_values(samples.series * windows.steps.count)
    arguments = kernel_parameters(parameters)
    leaf = Leaf(node.kernel, windows.range_ms, arguments, windows.times, windows.steps.times)
    found = leaf_by_series(ev, leaf, windows.selection)
    values, present = found.values, found.present
    ev.node_stats[id(node)] = NodeStats(samples.series, found.touched)
    drop_name = windows.series.drop_name | (not node.function.has(Trait.KEEPS_NAME))
    matrix = Matrix(windows.series.labels, values, present, drop_name)
    if node.name == "quantile_over_time":
        note_quantiles(ev, node, arguments[0], present)
    if samples.has_histograms is not None or samples.start_ts is not None:
        return with_histogram_rows(ev, node, windows, parameters, matrix)
    return matrix


def note_quantiles(
    ev: Evaluation,
    node: RangeCall,
    quantiles: Scalar,
    present: Bools,
) -> None:
    """Warns of quantiles outside [0, 1] at steps that have a sample."""
    wrong = np.isnan(quantiles) | (quantiles < 0) | (quantiles > 1)
    if wrong.any():
        for q in np.unique(quantiles[wrong & present.any(axis=0)]):
            ev.annotations.add(notes.invalid_quantile(float(q), node.first_span))


def note_non_counters(ev: Evaluation, node: RangeCall, labels: LabelTable, matrix: Matrix) -> None:
    """Adds an info for each metric with float results whose name or type is not a counter's."""
    has_floats = np.logical_or.reduce(matrix.float_mask(), axis=1)
    for row in checked(non_counters(labels, by_type=ev.type_and_unit_labels), ev.check):
        if has_floats[row]:
            name = labels.get(row, METRIC_NAME)
            if ev.type_and_unit_labels:
                note = notes.possible_non_counter_label(
                    name, labels.get(row, "__type__"), node.first_span
                )
            else:
                note = notes.possible_non_counter(name, node.first_span)
            ev.annotations.add(note)


def non_counters(labels: LabelTable, *, by_type: bool) -> list[int]:
    """Rows of named metrics that do not look like counters."""

    def make() -> list[int]:
        column = labels.columns.get("__type__" if by_type else METRIC_NAME)
        named = labels.columns.get(METRIC_NAME)
        if named is None:
            return []
        if column is None:
            return np.flatnonzero(named.codes).tolist()
        if by_type:
            suspect = [value not in ("counter", "histogram") for value in column.interned.values]
        else:
            suspect = [not value.endswith(_COUNTER_SUFFIXES) for value in column.interned.values]
        return np.flatnonzero((named.codes != 0) & np.array(suspect)[column.codes]).tolist()

    return labels.cached(("non counters", by_type), make)


def check_smoothing(ev: Evaluation, factors: Sequence[Scalar], windows: Windows) -> None:
    """Raises QueryError if a factor is outside (0, 1) at a step where a series has a sample."""
    wrong = np.logical_or.reduce([(factor <= 0) | (factor >= 1) for factor in factors])
    if not wrong.any():
        return
    for row in checked(range(windows.series.samples.series), ev.check, 16):
        points = points_of(windows.series, row)
        for step in np.flatnonzero(wrong).tolist():
            end = int(windows.times[step])
            if len(points.within(end - windows.range_ms, end)):
                _fail_on_factors([float(factor[step]) for factor in factors])


def _fail_on_factors(factors: Sequence[float]) -> None:
    for name, factor in zip(("smoothing", "trend"), factors, strict=True):
        if factor <= 0 or factor >= 1:
            shown = f"{factor:f}" if math.isfinite(factor) else format_g(factor)
            raise QueryError(f"invalid {name} factor. Expected: 0 < {name[0]}f < 1, got: {shown}")


def absent_labels(source: object) -> LabelTable:
    """The labels that absent() gives: those that one matcher of the selector states by equality.

    A label that several matchers name is left out, and so is the metric's name.
    """
    if not isinstance(source, Selector):
        return LabelTable.empty_sets()
    named = Counter(matcher.name for matcher in source.matchers)
    stated = {
        matcher.name: matcher.value
        for matcher in source.matchers
        if matcher.op is MatchOp.EQUAL and named[matcher.name] == 1 and matcher.name != METRIC_NAME
    }
    return LabelTable.of([stated])


def _absent(node: RangeCall, matrix: Matrix, steps: Steps) -> Matrix:
    missing = ~matrix.present.any(axis=0) if matrix.series else np.ones(steps.count, np.bool_)
    if not missing.any():
        return Matrix.empty(steps.count)
    source = node.source.selector if isinstance(node.source, RangeSelect) else None
    return Matrix(
        absent_labels(source),
        np.ones((1, steps.count)),
        missing.reshape(1, -1),
        np.ones(1, dtype=np.bool_),
    )
