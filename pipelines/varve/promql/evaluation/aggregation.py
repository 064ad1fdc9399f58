"""Evaluates aggregations that make one series of a group; topk.py has those that keep some.

Source: Prometheus, promql/engine.go, aggregation and aggregationCountValues.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.context import Evaluation, NodeStats
from varve.promql.evaluation.kernel_blocks import Work, slices, tiles
from varve.promql.evaluation.range_functions import (
    call_on_windows,
    check_smoothing,
    non_counters,
)
from varve.promql.evaluation.rollup_rows import rollup_values
from varve.promql.evaluation.selection import last_samples, select_windows
from varve.promql.evaluation.topk import SERIES_FILTERS
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Matrix, Objects, Scalar, Steps
from varve.promql.evaluation.windows import kernel_parameters, windows_of
from varve.promql.function_table import AGGREGATIONS
from varve.promql.histograms.native_histogram import FloatHistogram, IncompatibleSchemasError
from varve.promql.histograms.statistics import text as histogram_text
from varve.promql.histograms.sums import HistogramMean, HistogramSum, hints_collide
from varve.promql.interrupt import Check, checked
from varve.promql.kernels.aggregate import (
    GroupState,
    aggregate_matrix,
    aggregate_rows,
    finish_groups,
    quantile_matrix,
)
from varve.promql.kernels.codes import LOOKBACK
from varve.promql.labels.label_table import Column, Grouping, Interned, members_of
from varve.promql.plan.nodes import Aggregation, FusedAggregation, InstantSelect, Text
from varve.promql.signatures import Trait
from varve.promql.storage import Rollups, Samples, Selection
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
        )
        labels, samples = selection.labels, selection.samples
        function, range_ms, drops = LOOKBACK, ev.lookback_ms, False
    else:
        parameters = [ev.scalar(parameter, steps) for parameter in source.parameters]
        windows = windows_of(ev, source.source, steps, source.name, tiered=True, into_groups=True)
        labels, samples, times = windows.series.labels, windows.series.samples, windows.times
        selection = Selection(labels, samples, rollups=windows.rollups)
        function, range_ms = source.kernel, windows.range_ms
        drops = not source.function.has(Trait.KEEPS_NAME)
        if source.name == "double_exponential_smoothing":
            check_smoothing(ev, parameters, windows)
    is_mixed = selection.rollups is not None and len(samples.ts) > 0
    if is_mixed or not _only_floats(ev, node, selection, parameters):
        if isinstance(source, InstantSelect):
            matrix = last_samples(ev, selection, times, source, LOOKBACK)
        else:
            matrix = call_on_windows(ev, source, windows, parameters)
        ev.node_stats[id(node)] = ev.node_stats[id(source)]
        return _aggregate(ev, plain, matrix, None)
    grouping = labels.group(plain.grouping, without=plain.without)
    shape = (grouping.size, steps.count)
    ev.budget.check_values(shape[0] * shape[1])
    first, second = kernel_parameters(parameters)
    if selection.rollups is not None:
        values, present, touched = _from_rollups(
            ev, node.kernel, function, selection.rollups, first, grouping, steps
        )
        ev.node_stats[id(node)] = NodeStats(samples.series, touched)
        return Matrix(grouping.table, values, present, np.full(grouping.size, drops))
    fused = _Fused(node.kernel, function, range_ms, (first, second), times, steps.times, grouping)
    pieces = fused.work(samples, slice(0, steps.count)).pieces(steps.count, ev.workers)
    jobs = [
        partial(fused.over, samples, piece, ev.check, alone=len(pieces) == 1) for piece in pieces
    ]
    done = [jobs[0]()] if len(jobs) == 1 or ev.workers is None else ev.workers.side_by_side(jobs)
    values, present = _joined([one[:2] for one in done])
    touched = sum(one[2] for one in done)
    ev.budget.samples_touched += touched
    ev.node_stats[id(node)] = NodeStats(samples.series, touched)
    return Matrix(grouping.table, values, present, np.full(grouping.size, drops))


@dataclass(frozen=True, slots=True)
class _Fused:
    """What one kernel computes: a function of windows of range_ms that end at `times` (one for each
    step), and an aggregation of its values by groups.
    """

    kernel: int
    function: int
    range_ms: int
    parameters: tuple[Scalar, Scalar]
    times: Int64s
    eval_times: Int64s
    grouping: Grouping

    def work(self, samples: Samples, steps: slice) -> Work:
        times = self.times[steps]
        span_ms = int(times[-1] - times[0]) if len(times) else 0
        return Work(samples, self.range_ms, span_ms, len(times))

    def over(
        self, samples: Samples, steps: slice, check: Check, *, alone: bool
    ) -> tuple[Float64s, Bools, int]:
        """The values of groups at some steps, and the samples touched. Steps do not depend on each
        other, so that it does not matter which are computed at once.
        """
        if not alone:
            times = self.times[steps]
            samples = samples.within(int(times[0]) - self.range_ms, int(times[-1]))
        work = self.work(samples, steps)
        touched, parts = 0, []
        for block in work.step_blocks():
            part = slice(steps.start + block.start, steps.start + block.stop)
            state = GroupState.empty(self.kernel, self.grouping.size, part.stop - part.start)
            for rows in work.row_blocks(block):
                check()
                for some in samples.blocks(rows):
                    touched += aggregate_rows(
                        self.kernel,
                        self.function,
                        some.ts,
                        some.values,
                        some.begins,
                        some.ends,
                        some.has_stale,
                        self.times[part],
                        self.eval_times[part],
                        self.range_ms,
                        self.parameters[0][part],
                        self.parameters[1][part],
                        self.grouping.ids[some.rows],
                        *state,
                    )
            parts.append(_finished(self.kernel, state))
        return *_joined(parts), touched


def _joined(parts: Sequence[tuple[Float64s, Bools]]) -> tuple[Float64s, Bools]:
    """Values and whether they are there, (group x step), of steps that follow one another."""
    if len(parts) == 1:
        return parts[0]
    values, present = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    return values, present


def _from_rollups(
    ev: Evaluation,
    kernel: int,
    function: int,
    rollups: Rollups,
    parameter: Scalar,
    grouping: Grouping,
    steps: Steps,
) -> tuple[Float64s, Bools, int]:
    """The values of groups from rows of rollups, block by block, and the rows touched."""
    state = GroupState.empty(kernel, grouping.size, steps.count)
    touched = 0
    for block in rollup_values(ev, function, rollups, parameter, steps.count):
        ids = grouping.ids[block.series]
        aggregate_matrix(kernel, block.values, block.present, ids, *state)
        touched += block.touched
    return *_finished(kernel, state), touched


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


def _finished(kernel: int, state: GroupState) -> tuple[Float64s, Bools]:
    present = np.empty(state.total.shape, dtype=np.bool_)
    finish_groups(kernel, *state, present)
    return state.total, present


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
        values, found = _finished(kernel, state)
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
