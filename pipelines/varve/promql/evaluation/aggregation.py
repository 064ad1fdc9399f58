"""Evaluates aggregations that make one series of a group; topk.py has those that keep some.

Source: Prometheus, promql/engine.go, aggregation and aggregationCountValues.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.context import Evaluation, NodeStats
from varve.promql.evaluation.range_functions import (
    call_on_windows,
    check_smoothing,
    non_counters,
)
from varve.promql.evaluation.selection import last_samples, select_windows
from varve.promql.evaluation.step_blocks import run_in_blocks
from varve.promql.evaluation.topk import SERIES_FILTERS
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Matrix, Objects, Scalar, Steps
from varve.promql.evaluation.windows import kernel_parameters, windows_of
from varve.promql.function_table import AGGREGATIONS
from varve.promql.histograms.native_histogram import FloatHistogram, IncompatibleSchemasError
from varve.promql.histograms.statistics import text as histogram_text
from varve.promql.histograms.sums import HistogramMean, HistogramSum, hints_collide
from varve.promql.kernels.aggregate import aggregate_matrix, aggregate_rows, quantile_matrix
from varve.promql.kernels.codes import LOOKBACK
from varve.promql.labels.label_table import Grouping, members_of
from varve.promql.plan.nodes import Aggregation, FusedAggregation, InstantSelect, Text
from varve.promql.signatures import Trait
from varve.promql.storage import Samples, Selection
from varve.promql.syntax.go_numbers import format_f
from varve.promql.syntax.literals import quote


def aggregation(ev: Evaluation, node: Aggregation, steps: Steps) -> Matrix:
    """An aggregation of a vector at each step."""
    if node.op == "count_values":
        return _count_values(ev, node, steps)
    parameter = None if node.param is None else ev.scalar(node.param, steps)
    matrix = ev.matrix(node.expr, steps)
    if parameter is not None and node.op in SERIES_FILTERS:
        return SERIES_FILTERS[node.op](ev, node, matrix, parameter)
    return _aggregate(ev, node, matrix, parameter)


def _aggregate(
    ev: Evaluation, node: Aggregation, matrix: Matrix, parameter: Scalar | None
) -> Matrix:
    grouping = matrix.labels.group(node.grouping, without=node.without)
    if parameter is not None:
        _note_quantiles(ev, node, parameter)
    present = matrix.present
    if matrix.histograms is not None and AGGREGATIONS[node.op].has(Trait.FLOATS_ONLY):
        present = matrix.float_mask()
        if (matrix.present & ~present).any():
            ev.annotations.add(notes.histogram_ignored(node.op, node.expr_span))
    result = _aggregated(node.op, matrix, present, grouping, parameter)
    if matrix.histograms is not None and node.op in ("sum", "avg"):
        result = _with_histograms(ev, node, matrix, grouping, result)
    return result


def fused_aggregation(ev: Evaluation, node: FusedAggregation, steps: Steps) -> Matrix:
    """An aggregation of a selector or a range function in one kernel, which stores groups alone."""
    source, plain = node.source, node.plain
    if id(source) in ev.shared:
        return aggregation(ev, plain, steps)
    parameters: list[Scalar] = []
    if isinstance(source, InstantSelect):
        selection, times = select_windows(
            ev, source.selector, steps, ev.lookback_ms, function=plain.op, into_groups=True
        )
        labels, samples = selection.labels, selection.samples
        function, range_ms, drops = LOOKBACK, ev.lookback_ms, False
    else:
        parameters = [ev.scalar(parameter, steps) for parameter in source.parameters]
        windows = windows_of(ev, source.source, steps, source.name, into_groups=True)
        labels, samples, times = windows.series.labels, windows.series.samples, windows.times
        selection = Selection(labels, samples)
        function, range_ms = source.kernel, windows.range_ms
        drops = not source.function.has(Trait.KEEPS_NAME)
        if source.name == "double_exponential_smoothing":
            check_smoothing(parameters, windows)
    if not _only_floats(ev, node, selection, parameters):
        if isinstance(source, InstantSelect):
            matrix = last_samples(ev, selection, times, source, LOOKBACK)
        else:
            matrix = call_on_windows(ev, source, windows, parameters)
        ev.node_stats[id(node)] = ev.node_stats[id(source)]
        return _aggregate(ev, plain, matrix, None)
    grouping = labels.group(plain.grouping, without=plain.without)
    shape = (grouping.size, steps.count)
    ev.budget.check_values(shape[0] * shape[1])
    values, present = np.zeros(shape), np.empty(shape, dtype=np.bool_)
    first, second = kernel_parameters(parameters)

    def kernel(part: slice, block: Float64s, flags: Bools) -> int:
        return aggregate_rows(
            node.kernel,
            function,
            samples.ts,
            samples.values,
            samples.begins,
            samples.ends,
            samples.has_stale,
            times[part],
            steps.times[part],
            range_ms,
            first[part],
            second[part],
            grouping.ids,
            block,
            flags,
        )

    span_ms = int(times[-1] - times[0]) if len(times) else 0
    touched = run_in_blocks(ev.budget, samples, range_ms, span_ms, values, present, kernel)
    ev.budget.samples_touched += touched
    ev.node_stats[id(node)] = NodeStats(samples.series, touched)
    return Matrix(grouping.table, values, present, np.full(grouping.size, drops))


def _only_floats(
    ev: Evaluation, node: FusedAggregation, selection: Selection, parameters: list[Scalar]
) -> bool:
    """Whether the kernel alone gives the answer: no histograms, and nothing to annotate."""
    samples: Samples = selection.samples
    if samples.start_ts is not None:
        return False
    if samples.has_histograms is not None and samples.has_histograms.any():
        return False
    if isinstance(node.source, InstantSelect):
        return True
    if node.source.function.has(Trait.EXPECTS_COUNTER):
        return not non_counters(selection.labels, by_type=ev.type_and_unit_labels)
    if node.source.name == "quantile_over_time":
        return bool(((parameters[0] >= 0) & (parameters[0] <= 1)).all())
    return True


def _aggregated(
    op: str, matrix: Matrix, present: Bools, grouping: Grouping, parameter: Scalar | None
) -> Matrix:
    shape = (grouping.size, matrix.steps)
    values, out_present = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    source = np.ascontiguousarray(matrix.values)
    present = np.ascontiguousarray(present)
    kernel = AGGREGATIONS[op].kernel
    if kernel is not None:
        aggregate_matrix(kernel, source, present, grouping.ids, values, out_present)
    elif parameter is not None:
        order, indptr = members_of(grouping)
        quantile_matrix(parameter, source, present, order, indptr, values, out_present)
    return Matrix(grouping.table, values, out_present, _dropped(matrix, grouping))


def _dropped(matrix: Matrix, grouping: Grouping) -> Bools:
    """Which groups lose their name: those in which any series with a sample does."""
    dropped = np.zeros(grouping.size, dtype=np.bool_)
    dropped[grouping.ids[matrix.drop_name & matrix.has_samples()]] = True
    return dropped


def _note_quantiles(ev: Evaluation, node: Aggregation, quantiles: Scalar) -> None:
    wrong = []
    if np.isnan(quantiles).any():
        wrong.append(math.nan)
        quantiles = quantiles[np.isinf(quantiles)]
    if (quantiles > 1).any():
        wrong.append(float(quantiles.max()))
    if (quantiles < 0).any():
        wrong.append(float(quantiles.min()))
    for quantile in wrong:
        ev.annotations.add(notes.invalid_quantile(quantile, node.param_span))


def _with_histograms(
    ev: Evaluation, node: Aggregation, matrix: Matrix, grouping: Grouping, floats: Matrix
) -> Matrix:
    """sum and avg where histograms are among the samples; `floats` has the rest."""
    values, present = floats.values.copy(), floats.present.copy()
    found: Objects = np.full(present.shape, None, dtype=object)
    is_histogram = matrix.histogram_mask()
    order, indptr = members_of(grouping)
    for group in range(grouping.size):
        members = order[indptr[group] : indptr[group + 1]]
        for step in np.flatnonzero(is_histogram[members].any(axis=0)):
            rows = members[matrix.present[members, step]]
            column = cast(Objects, matrix.histograms)[rows, step]
            names = [matrix.metric(int(row)) for row in rows]
            result = _combined(ev, node, column.tolist(), names)
            present[group, step] = result is not None
            found[group, step] = result
    return Matrix(floats.labels, values, present, floats.drop_name, found)


def _combined(
    ev: Evaluation, node: Aggregation, samples: list[FloatHistogram | None], names: list[str]
) -> FloatHistogram | None:
    """The sum or mean of samples in their order, at least one of which is a histogram.

    In `samples` None stands for a float. The result is None if there are floats, too, or if the
    histograms' kinds differ. The annotation depends on which comes first: after a float the
    histograms are not added up, and after a difference of kinds nothing more is looked at.
    """
    make = HistogramSum if node.op == "sum" else HistogramMean
    total: HistogramSum | HistogramMean | None = None if samples[0] is None else make(samples[0])
    has_float, incompatible = samples[0] is None, False
    for sample, name in zip(samples[1:], names[1:], strict=True):
        if sample is None:
            has_float = True
        elif total is not None:
            try:
                total.add(sample)
            except IncompatibleSchemasError:
                ev.annotations.add(notes.mixed_exponential_custom(name, node.expr_span))
                incompatible = True
                break
    if total is not None and total.reconciled:
        ev.annotations.add(notes.bounds_reconciled("aggregation", node.expr_span))
    if has_float:
        ev.annotations.add(notes.mixed_floats_histograms_aggregation(node.expr_span))
    if has_float or incompatible or total is None:
        return None
    if hints_collide([sample for sample in samples if sample is not None]):
        ev.annotations.add(notes.hints_collide("aggregation", node.expr_span))
    return total.result()


def _count_values(ev: Evaluation, node: Aggregation, steps: Steps) -> Matrix:
    """count_values: how many series have each value, which becomes a label."""
    label = cast(Text, node.param).value
    if not is_label_name(label):
        raise QueryError(f"invalid label name {quote(label)}")
    matrix = ev.matrix(node.expr, steps)
    rows, columns = np.nonzero(matrix.present)
    if not len(rows):
        return Matrix.empty(steps.count)
    texts, code = _texts(ev, matrix)
    pairs, inverse = np.unique(rows * len(texts) + code, return_inverse=True)
    table = matrix.labels.take(pairs // len(texts))
    table = table.with_label(label, [texts[i] for i in (pairs % len(texts)).tolist()])
    names = node.grouping if node.without else tuple(sorted({*node.grouping, label}))
    grouping = table.group(names, without=node.without)
    ev.budget.check_values(grouping.size * steps.count)
    counts = np.zeros((grouping.size, steps.count))
    np.add.at(counts, (grouping.ids[inverse.reshape(-1)], columns), 1.0)
    return Matrix(grouping.table, counts, counts > 0, np.zeros(grouping.size, dtype=np.bool_))


def _texts(ev: Evaluation, matrix: Matrix) -> tuple[list[str], Int64s]:
    """The distinct values as texts, and the number of each sample's text, in np.nonzero's order."""
    codes: dict[str, int] = {}
    distinct, inverse = np.unique(matrix.values[matrix.present].view(np.int64), return_inverse=True)
    ev.budget.check_values(len(distinct))
    numbers = distinct.view(np.float64).tolist()
    number_codes = [codes.setdefault(format_f(number), len(codes)) for number in numbers]
    code = np.array(number_codes, dtype=np.int64)[inverse.reshape(-1)]
    if matrix.histograms is not None:
        for i, histogram in enumerate(matrix.histograms[matrix.present]):
            if histogram is not None:
                code[i] = codes.setdefault(histogram_text(histogram), len(codes))
    return list(codes), code


def is_label_name(name: str) -> bool:
    """Whether a text is a label name: it is not empty, and UTF-8 (a surrogate stands for a bad
    byte).
    """
    return bool(name) and not any("\ud800" <= char <= "\udfff" for char in name)
