"""Aggregations estimated from some of their series: which can be, from which series, how exactly.

Of each group series are drawn by a hash of their identity, a share of them and at least some, so
that small groups are read whole. That is stratified sampling without replacement: a total has an
unbiased estimate and a standard error. What depends on single series, as greatest values and
quantiles do, has no such error and is never estimated.

Source: Cochran, Sampling Techniques, chapters 2 (domains, ratios) and 5 (strata).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from varve.promql.errors import StorageError
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Matrix
from varve.promql.labels.label_table import METRIC_NAME, LabelTable
from varve.promql.syntax.ast import (
    Aggregate,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Unary,
    VectorSelector,
)
from varve.query.series_index import SelectedSeries

SHARE: Final = 1 / 16
LEAST: Final = 32
"""Of each group so large a share of its series is read, at least so many, all if it has fewer."""

CONFIDENCE: Final = 0.95
_STANDARD_ERRORS: Final = 1.959964
"""Within so many of them an estimate lies with that probability, as it is about normal."""

_OPERATIONS: Final = ("sum", "count", "avg")
_FUNCTIONS: Final = (
    "rate",
    "increase",
    "delta",
    "avg_over_time",
    "sum_over_time",
    "count_over_time",
)
# Odd, so that it permutes the ids; their order in files does not say who is drawn.
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Estimable:
    """`op` by groups of `inner`, which gives each series of one selector a value of its own."""

    op: str
    inner: Expr
    selector: VectorSelector
    grouping: tuple[str, ...]
    without: bool
    keeps_name: bool
    """Whether inner has the metric's name, which may then be one to group by."""

    def labels(self, series: LabelTable) -> LabelTable:
        """Those that inner has of series of the selector."""
        return series if self.keeps_name else series.without([METRIC_NAME])


def estimable(tree: Expr) -> Estimable | None:
    """What a query estimates; None if its error could not be stated."""
    while isinstance(tree, Paren):
        tree = tree.expr
    if not isinstance(tree, Aggregate) or tree.op not in _OPERATIONS:
        return None
    selector = _selector_of(tree.expr)
    if selector is None:
        return None
    plain = tree.expr
    while isinstance(plain, Paren):
        plain = plain.expr
    keeps_name = isinstance(plain, VectorSelector)
    return Estimable(tree.op, tree.expr, selector, tree.grouping, tree.without, keeps_name)


def _selector_of(expr: Expr) -> VectorSelector | None:
    """The selector of each of whose series it is a value, computed of that series alone."""
    while True:  # chains of operators may be longer than the stack
        match expr:
            case Paren(inner) | Unary(_, inner):
                expr = inner
            case Binary("+" | "-" | "*" | "/", inner, NumberLiteral()):
                expr = inner
            case Binary("+" | "-" | "*" | "/", NumberLiteral(), inner):
                expr = inner
            case Call(function, (MatrixSelector(selector),)):
                return selector if function in _FUNCTIONS else None
            case VectorSelector():
                return expr
            case _:
                return None


@dataclass
class Sample:
    """Draws some series of the selector of a query. It belongs to one evaluation.

    After `draw`: `known`, the ids of all series of the selector; of each group, whose labels are
    that row of `groups`, how many series there are and how many of them were drawn.
    """

    query: Estimable
    known: Int64s | None = None
    groups: LabelTable = field(default_factory=lambda: LabelTable.empty_sets(0))
    sizes: Int64s = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    drawn: Int64s = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def draw(self, series: SelectedSeries) -> SelectedSeries:
        """The series that are read; the same ones whenever these are selected. StorageError if
        another time of the evaluation selects others: sizes of groups are counted once.
        """
        if self.known is not None and not np.array_equal(self.known, series.series_ids):
            raise StorageError("an estimate needs the same series throughout its range")
        self.known = series.series_ids
        labels = self.query.labels(series.labels)
        grouping = labels.group(self.query.grouping, without=self.query.without)
        self.groups = grouping.table
        self.sizes = np.bincount(grouping.ids, minlength=grouping.size).astype(np.int64)
        shares = np.ceil(self.sizes * SHARE).astype(np.int64)
        self.drawn = np.minimum(self.sizes, np.maximum(shares, LEAST))
        chance = series.series_ids.astype(np.uint64) * _MULTIPLIER
        order = np.lexsort((chance, grouping.ids))
        place = np.arange(series.size) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        kept = np.sort(order[place < np.repeat(self.drawn, self.sizes)])
        ids = series.series_ids[kept]
        return SelectedSeries(ids, series.labels.take(kept), np.argsort(ids))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimates by group and step, and how far the values may be from them, both (group x step).

    bounds: half the width of an interval that has the value in CONFIDENCE of all cases; 0 where all
    series were read, NaN where too few had a sample to say.
    """

    matrix: Matrix
    bounds: Float64s


def estimate(sample: Sample, found: Matrix) -> Estimate:
    """Estimates the aggregation from the values of the series that were drawn."""
    query, steps = sample.query, found.steps
    place = _places(sample, found.labels)
    count = np.zeros((len(sample.sizes), steps))
    total, squares = np.zeros_like(count), np.zeros_like(count)
    values = np.ones_like(found.values) if query.op == "count" else found.values
    values = np.where(found.present, values, 0.0)
    np.add.at(count, place, found.present.astype(np.float64))
    np.add.at(total, place, values)
    present: Bools = count > 0
    size, drawn = (one[:, None].astype(np.float64) for one in (sample.sizes, sample.drawn))
    left = 1 - drawn / size
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of a mean those count that have a sample then, of a total all: the others add nothing.
        among = count if query.op == "avg" else np.broadcast_to(drawn, count.shape)
        mean = total / among
        apart = np.where(found.present, values - mean[place], 0.0)
        np.add.at(squares, place, apart * apart)
        squares += (among - count) * mean * mean
        if query.op == "count":  # shares near 0 and 1 deviate more than they show (Agresti, Coull)
            share = (total + 2) / (among + 4)
            squares = among * share * (1 - share)
        error = np.sqrt(left * squares / (among - 1) / among)
        if query.op == "avg":
            estimated = mean
        else:
            estimated, error = total * (size / drawn), error * size
    bounds = np.where(left > 0, _STANDARD_ERRORS * error, 0.0)
    no_drop = np.zeros(len(sample.sizes), dtype=np.bool_)
    return Estimate(Matrix(sample.groups, estimated, present, no_drop), bounds)


def _places(sample: Sample, labels: LabelTable) -> Int64s:
    """The group of each series that has a value, as a row of sample.groups."""
    grouping = labels.group(sample.query.grouping, without=sample.query.without)
    known = {one: row for row, one in enumerate(sample.groups.labels())}
    rows = np.array([known[one] for one in grouping.table.labels()], dtype=np.int64)
    return rows[grouping.ids] if len(rows) else np.zeros(0, dtype=np.int64)
