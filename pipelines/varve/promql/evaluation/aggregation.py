"""Evaluates aggregations that make one series of a group; topk.py has those that keep some.

Source: Prometheus, promql/engine.go, aggregation and aggregationCountValues.
"""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.context import Evaluation, NodeStats
from varve.promql.evaluation.kernel_blocks import slices, tiles
from varve.promql.evaluation.leaves import GroupedLeaf, finished, joined, work_of
from varve.promql.evaluation.range_functions import (
    call_on_windows,
    check_smoothing,
    non_counters,
)
from varve.promql.evaluation.selection import last_samples, select_windows
from varve.promql.evaluation.topk import SERIES_FILTERS
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Matrix, Objects, Scalar, Steps
from varve.promql.evaluation.windows import kernel_parameters, windows_of
from varve.promql.function_table import AGGREGATIONS
from varve.promql.histograms.native_histogram import FloatHistogram, IncompatibleSchemasError
from varve.promql.histograms.statistics import text as histogram_text
from varve.promql.histograms.sums import HistogramMean, HistogramSum, hints_collide
from varve.promql.interrupt import checked
from varve.promql.kernels.aggregate import (
    GroupState,
    aggregate_matrix,
    quantile_matrix,
)
from varve.promql.kernels.codes import LOOKBACK
from varve.promql.labels.label_table import Column, Grouping, Interned, members_of
from varve.promql.plan.nodes import Aggregation, FusedAggregation, InstantSelect, Text
from varve.promql.signatures import Trait
from varve.promql.storage import Elsewhere, Leaf, LeafValues, Samples, Selection
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
    result = _aggregated(ev, node.op, matrix, present, grouping, parameter)
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
            ev,
            source.selector,
            steps,
            ev.lookback_ms,
            function=plain.op,
            window_function="",
            into_groups=True,
            leaf=True,
        )
        function, range_ms, drops = LOOKBACK, ev.lookback_ms, False
    else:
        parameters = [ev.scalar(parameter, steps) for parameter in source.parameters]
        windows = windows_of(ev, source.source, steps, source.name, tiered=True, into_groups=True)
        selection, times = windows.selection, windows.times
        function, range_ms = source.kernel, windows.range_ms
        drops = not source.function.has(Trait.KEEPS_NAME)
        if source.name == "double_exponential_smoothing":
            check_smoothing(ev, parameters, windows)
    labels, samples = selection.labels, selection.samples
    is_mixed = selection.rollups is not None and len(samples.ts) > 0
    if is_mixed or not _only_floats(ev, node, selection, parameters):
        if isinstance(source, InstantSelect):
            matrix = last_samples(ev, selection, times, source, LOOKBACK)
        else:
            matrix = call_on_windows(ev, source, windows, parameters)
        ev.node_stats[id(node)] = ev.node_stats[id(source)]
        return _aggregate(ev, plain, matrix, None)
    grouping = labels.group(plain.grouping, without=plain.without)
    ev.budget.check_values(grouping.size * steps.count)
    leaf = Leaf(function, range_ms, kernel_parameters(parameters), times, steps.times)
    grouped = GroupedLeaf(leaf, node.kernel, grouping.ids, grouping.size)
    found = _leaf_by_group(ev, grouped, selection)
    ev.node_stats[id(node)] = NodeStats(samples.series, found.touched)
    return Matrix(grouping.table, found.values, found.present, np.full(grouping.size, drops))


def _leaf_by_group(ev: Evaluation, grouped: GroupedLeaf, selection: Selection) -> LeafValues:
    """The values of groups, wherever the samples are that they are made of."""
    if selection.elsewhere is not None:
        found = _from_elsewhere(ev, grouped, selection.elsewhere)
        ev.budget.samples_touched += found.touched
        return found
    if selection.rollups is not None:
        return grouped.of_rollups(ev.budget, selection.rollups)
    samples, steps = selection.samples, grouped.leaf.steps
    pieces = work_of(grouped.leaf, samples).pieces(steps, ev.workers)
    jobs = [
        partial(grouped.of_samples, samples, piece, ev.check, alone=len(pieces) == 1)
        for piece in pieces
    ]
    done = [jobs[0]()] if len(jobs) == 1 or ev.workers is None else ev.workers.side_by_side(jobs)
    touched = sum(one.touched for one in done)
    ev.budget.samples_touched += touched
    return joined(done, touched)


def _from_elsewhere(ev: Evaluation, grouped: GroupedLeaf, elsewhere: Elsewhere) -> LeafValues:
    """The values of groups, which are made there; where they cannot be, of those of each series,
    which are added up in the order in which they would be if all were here.
    """
    leaf, kernel, ids = grouped.leaf, grouped.kernel, grouped.groups
    there = elsewhere.by_group(leaf, kernel, ids, grouped.size, ev.check)
    if there is not None:
        return there
    ev.budget.check_values(len(ids) * leaf.steps)
    found, order = elsewhere.by_series(leaf, ev.check)
    state = GroupState.empty(kernel, grouped.size, leaf.steps)
    for some in slices(len(order), leaf.steps):
        ev.check()
        rows = order[some]
        aggregate_matrix(kernel, found.values[rows], found.present[rows], ids[rows], *state)
    return finished(kernel, state, found.touched)


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
    ev: Evaluation,
    op: str,
    matrix: Matrix,
    present: Bools,
    grouping: Grouping,
    parameter: Scalar | None,
) -> Matrix:
    kernel = AGGREGATIONS[op].kernel
    if kernel is None:
        values, found = _group_quantiles(ev, matrix, present, grouping, cast(Scalar, parameter))
    else:
        state = GroupState.empty(kernel, grouping.size, matrix.steps)
        source, present = np.ascontiguousarray(matrix.values), np.ascontiguousarray(present)
        for rows in slices(matrix.series, matrix.steps):
            ev.budget.check_running()
            aggregate_matrix(kernel, source[rows], present[rows], grouping.ids[rows], *state)
        done = finished(kernel, state, 0)
        values, found = done.values, done.present
    return Matrix(grouping.table, values, found, _dropped(matrix, grouping))


def _group_quantiles(
    ev: Evaluation, matrix: Matrix, present: Bools, grouping: Grouping, quantiles: Scalar
) -> tuple[Float64s, Bools]:
    shape = (grouping.size, matrix.steps)
    values, found = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    order, indptr = members_of(grouping)
    for steps in slices(matrix.steps, matrix.series):
        ev.budget.check_running()
        some = np.ascontiguousarray(matrix.values[:, steps])
        flags = np.ascontiguousarray(present[:, steps])
        part = np.zeros((grouping.size, some.shape[1]))
        part_found = np.zeros(part.shape, dtype=np.bool_)
        quantile_matrix(quantiles[steps], some, flags, order, indptr, part, part_found)
        values[:, steps], found[:, steps] = part, part_found
    return values, found


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
        for step in checked(np.flatnonzero(is_histogram[members].any(axis=0)), ev.check, 1):
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
    counted = _CountedValues(ev, matrix)
    interned = Interned(checked(counted.texts, ev.check))
    column = Column((np.concatenate(counted.codes) + 1).astype(np.int32), interned)
    table = matrix.labels.take(np.concatenate(counted.rows)).with_column(label, column)
    ev.check()
    names = node.grouping if node.without else tuple(sorted({*node.grouping, label}))
    grouping = table.group(names, without=node.without)
    ev.budget.check_values(grouping.size * steps.count)
    counts = np.zeros((grouping.size, steps.count))
    for pairs, columns in checked(counted.cells, ev.check, 1):
        np.add.at(counts, (grouping.ids[pairs], columns), 1.0)
    return Matrix(grouping.table, counts, counts > 0, np.zeros(grouping.size, dtype=np.bool_))


class _CountedValues:
    """The samples of a matrix by series and by text of the value.

    texts: a number for each distinct text. rows, codes: pairs of a series and a text; a pair comes
    again where a tile begins. cells: the pair and the step of each sample, tile by tile.
    """

    def __init__(self, ev: Evaluation, matrix: Matrix) -> None:
        self.texts: dict[str, int] = {}
        self.rows: list[Int64s] = [np.zeros(0, dtype=np.int64)]
        self.codes: list[Int64s] = [np.zeros(0, dtype=np.int64)]
        self.cells: list[tuple[Int64s, Int64s]] = []
        self._ev = ev
        self._known: dict[int, int] = {}
        pairs = 0
        for tile in tiles(matrix.series, matrix.steps):
            ev.check()
            present = matrix.present[tile]
            rows, columns = np.nonzero(present)
            codes = self._codes(matrix.values[tile][present])
            if matrix.histograms is not None:
                self._code_histograms(matrix.histograms[tile][present], codes)
            # Each text makes a series at least.
            ev.budget.check_values(len(self.texts) * matrix.steps)
            width = len(self.texts)
            found, inverse = np.unique(rows * width + codes, return_inverse=True)
            self.rows.append(found // max(1, width) + tile[0].start)
            self.codes.append(found % max(1, width))
            self.cells.append((inverse.reshape(-1) + pairs, columns + tile[1].start))
            pairs += len(found)

    def _codes(self, values: Float64s) -> Int64s:
        """The number of each value's text."""
        distinct, inverse = np.unique(values.view(np.int64), return_inverse=True)
        codes = np.empty(len(distinct), dtype=np.int64)
        for i, bits in checked(enumerate(distinct.tolist()), self._ev.check):
            code = self._known.get(bits)
            if code is None:
                text = format_f(float(distinct[i : i + 1].view(np.float64)[0]))
                code = self._known[bits] = self.texts.setdefault(text, len(self.texts))
            codes[i] = code
        return codes[inverse.reshape(-1)]

    def _code_histograms(self, histograms: Objects, codes: Int64s) -> None:
        for i, histogram in checked(enumerate(histograms), self._ev.check):
            if histogram is not None:
                codes[i] = self.texts.setdefault(histogram_text(histogram), len(self.texts))


def is_label_name(name: str) -> bool:
    """Whether a text is a label name: it is not empty, and UTF-8 (a surrogate stands for a bad
    byte).
    """
    return bool(name) and not any("\ud800" <= char <= "\udfff" for char in name)
