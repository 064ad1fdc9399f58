"""Computes sort, sort_desc, sort_by_label and sort_by_label_desc."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cmp_to_key
from itertools import count
from typing import Final, cast

import numpy as np

from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.values import Int64s, Matrix, Steps
from varve.promql.interrupt import checked, sorted_with_checks
from varve.promql.labels.label_table import Column
from varve.promql.labels.natural_order import is_before
from varve.promql.plan.nodes import FunctionCall, Text

_COMPARED_A_CHECK: Final = 1024


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
    order = matrix.labels.sort_order(ev.check)
    for arg in reversed(node.args[1:]):
        column = matrix.labels.columns.get(cast(Text, arg).value)
        if column is not None:
            order = order[np.argsort(_natural_ranks(ev, column)[order], kind="stable")]
    return matrix.take(order if node.func == "sort_by_label" else order[::-1])


def _natural_ranks(ev: Evaluation, column: Column) -> Int64s:
    """The place of each row's value among those of the column, in natural order."""
    used, inverse = np.unique(column.codes, return_inverse=True)
    values = [column.interned.values[code] for code in used.tolist()]
    compared = count()

    def compare(a: str, b: str) -> int:
        if not next(compared) % _COMPARED_A_CHECK:
            ev.check()
        return -1 if is_before(a, b) else 1

    key = cmp_to_key(compare)
    keys = sorted_with_checks([key(value) for value in checked(values, ev.check)], ev.check)
    places = {key.obj: place for place, key in enumerate(keys)}
    ranks = np.array([places[value] for value in values], dtype=np.int64)
    return ranks[inverse.reshape(-1)]


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    "sort": _by_value,
    "sort_desc": _by_value,
    "sort_by_label": _by_label,
    "sort_by_label_desc": _by_label,
}
