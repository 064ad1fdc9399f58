"""Evaluates aggregations that keep some of the series: topk, bottomk, limitk, limit_ratio.

Source: Prometheus, promql/engine.go, rangeEvalAgg and aggregationK.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.values import Bools, Int64s, Matrix, Scalar
from varve.promql.interrupt import checked
from varve.promql.labels.label_hash import label_hashes
from varve.promql.labels.label_table import members_of
from varve.promql.plan.nodes import Aggregation
from varve.promql.syntax.go_numbers import format_g

_GREATEST_INT64: Final = 9223372036854774784.0
_LEAST_INT64: Final = -9223372036854775808.0


def _limits(parameter: Scalar) -> Int64s | None:
    """k at each step; None if it is under 1 everywhere. Raises QueryError if an int64 cannot hold
    it.
    """
    if (parameter < 1).all():
        return None
    if np.isnan(parameter).any():
        raise QueryError("Parameter value is NaN")
    if parameter.min() <= _LEAST_INT64:
        raise QueryError(f"Scalar value {format_g(float(parameter.min()))} underflows int64")
    if parameter.max() >= _GREATEST_INT64:
        raise QueryError(f"Scalar value {format_g(float(parameter.max()))} overflows int64")
    return parameter.astype(np.int64)


def _topk(ev: Evaluation, node: Aggregation, matrix: Matrix, parameter: Scalar) -> Matrix:
    """topk and bottomk. Rows come out by value if there is one step, else in their own order."""
    limits = _limits(parameter)
    if limits is None or matrix.series == 0:
        return Matrix.empty(matrix.steps)
    present = matrix.float_mask()
    if (matrix.present & ~present)[:, limits >= 1].any():
        ev.annotations.add(notes.histogram_ignored(node.op, node.span))
    ids = matrix.labels.group(node.grouping, without=node.without).ids
    keys = -matrix.values if node.op == "topk" else matrix.values
    is_nan = np.isnan(matrix.values)
    kept = np.zeros_like(present)
    chosen = np.zeros(0, dtype=np.int64)
    for step in checked(range(matrix.steps), ev.check, 1):
        if limits[step] < 1:
            continue
        rows = np.flatnonzero(present[:, step])
        order = np.lexsort((keys[rows, step], is_nan[rows, step], ids[rows]))
        chosen = rows[order]
        chosen = chosen[_rank_in_group(ids[chosen]) < limits[step]]
        kept[chosen, step] = True
    if matrix.steps == 1:
        first = _first_places(ids, matrix.present[:, 0])
        chosen = chosen[np.argsort(first[ids[chosen]], kind="stable")]
        return _filtered(matrix, kept).take(chosen)
    return _filtered(matrix, kept)


def _first_places(ids: Int64s, present: Bools) -> Int64s:
    """The row in which each group first has a sample; groups come out in that order."""
    places = np.full(int(ids.max()) + 1, len(ids), dtype=np.int64)
    np.minimum.at(places, ids[present], np.flatnonzero(present))
    return places


def _rank_in_group(sorted_ids: Int64s) -> Int64s:
    """The place of each element within its group. The elements of a group lie together."""
    if not len(sorted_ids):
        return sorted_ids
    starts = np.flatnonzero(np.r_[True, sorted_ids[1:] != sorted_ids[:-1]])
    lengths = np.diff(np.r_[starts, len(sorted_ids)])
    return np.arange(len(sorted_ids)) - np.repeat(starts, lengths)


def _limitk(ev: Evaluation, node: Aggregation, matrix: Matrix, parameter: Scalar) -> Matrix:
    """limitk: the first k series of each group."""
    limits = _limits(parameter)
    if limits is None or matrix.series == 0:
        return Matrix.empty(matrix.steps)
    order, indptr = members_of(matrix.labels.group(node.grouping, without=node.without))
    kept = np.zeros_like(matrix.present)
    for begin, end in checked(pairwise(indptr.tolist()), ev.check):
        rows = order[begin:end]
        present = matrix.present[rows]
        kept[rows] = present & (np.cumsum(present, axis=0) <= limits)
    return _filtered(matrix, kept)


def _limit_ratio(ev: Evaluation, node: Aggregation, matrix: Matrix, parameter: Scalar) -> Matrix:
    """limit_ratio: the series whose labels' hash is below a ratio; if negative, the other ones."""
    if np.isnan(parameter).any():
        raise QueryError("Ratio value is NaN")
    if (parameter == 0).all():
        return Matrix.empty(matrix.steps)
    if parameter.max() > 1:
        note = notes.invalid_ratio(float(parameter.max()), 1.0, node.param_span)
        ev.annotations.add(note)
    if parameter.min() < -1:
        note = notes.invalid_ratio(float(parameter.min()), -1.0, node.param_span)
        ev.annotations.add(note)
    if matrix.series == 0:
        return Matrix.empty(matrix.steps)
    ratio = np.clip(parameter, -1.0, 1.0)
    share = (label_hashes(matrix.labels, ev.check).astype(np.float64) / float(2**64 - 1))[:, None]
    chosen = np.where(ratio >= 0, share < ratio, share >= 1.0 + ratio)
    return _filtered(matrix, matrix.present & chosen)


def _filtered(matrix: Matrix, present: Bools) -> Matrix:
    kept = Matrix(matrix.labels, matrix.values, present, matrix.drop_name, matrix.histograms)
    return kept if matrix.steps == 1 else kept.select(kept.has_samples())


SeriesFilter = Callable[[Evaluation, Aggregation, Matrix, Scalar], Matrix]

SERIES_FILTERS: Final[dict[str, SeriesFilter]] = {
    "topk": _topk,
    "bottomk": _topk,
    "limitk": _limitk,
    "limit_ratio": _limit_ratio,
}
