"""Computes sort, sort_desc, sort_by_label and sort_by_label_desc."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cmp_to_key
from typing import Final, cast

import numpy as np

from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.values import Int64s, Matrix, Steps
from varve.promql.labels.natural_order import is_before
from varve.promql.plan.nodes import FunctionCall, Text


def _by_value(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """sort and sort_desc: histograms are left out, and NaN comes last either way."""
    matrix = ev.matrix(node.args[0], steps)
    if steps.is_range:
        ev.annotations.add(notes.sort_in_range_query(node.span))
    matrix = Matrix(matrix.labels, matrix.values, matrix.float_mask(), matrix.drop_name)
    if matrix.steps != 1:
        return matrix
    matrix = matrix.select(matrix.present[:, 0])
    values = matrix.values[:, 0]
    is_nan = np.isnan(values)
    keys = np.where(is_nan, 0.0, -values if node.func == "sort_desc" else values)
    # Upstream's sort puts each NaN it meets before the others.
    places = np.arange(matrix.series)
    places = np.where(is_nan, -places, places)
    return matrix.take(np.lexsort((places, keys, is_nan)).astype(np.int64))


def _by_label(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """sort_by_label and sort_by_label_desc: in natural order of some labels, then by all labels."""
    matrix = ev.matrix(node.args[0], steps)
    if steps.is_range:
        ev.annotations.add(notes.sort_in_range_query(node.span))
    if matrix.steps != 1:
        return matrix
    matrix = matrix.select(matrix.present[:, 0])
    names = [cast(Text, arg).value for arg in node.args[1:]]
    columns = [matrix.labels.values_of(name) for name in names]
    rank = np.empty(matrix.series, dtype=np.int64)
    rank[matrix.labels.sort_order()] = np.arange(matrix.series)

    def compare(a: int, b: int) -> int:
        for column in columns:
            if column[a] != column[b]:
                return -1 if is_before(column[a], column[b]) else 1
        return int(rank[a] - rank[b])

    order = sorted(range(matrix.series), key=cmp_to_key(compare))
    if node.func == "sort_by_label_desc":
        order.reverse()
    rows: Int64s = np.array(order, dtype=np.int64)
    return matrix.take(rows)


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    "sort": _by_value,
    "sort_desc": _by_value,
    "sort_by_label": _by_label,
    "sort_by_label_desc": _by_label,
}
