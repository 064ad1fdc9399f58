"""Converts between scalars and vectors, and gives times: scalar, vector, absent, timestamp."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.range_functions import absent_labels
from varve.promql.evaluation.selection import last_indices, last_samples, select_windows
from varve.promql.evaluation.values import Matrix, Scalar, Steps
from varve.promql.interrupt import checked
from varve.promql.kernels.codes import TIMESTAMP
from varve.promql.labels.label_table import LabelTable
from varve.promql.plan.nodes import FunctionCall, InstantSelect, Invariant, Node


def one_series(values: Scalar) -> Matrix:
    """A vector with one series, which has no labels."""
    return Matrix(
        LabelTable.empty_sets(),
        np.ascontiguousarray(values).reshape(1, -1),
        np.ones((1, len(values)), dtype=np.bool_),
        np.zeros(1, dtype=np.bool_),
    )


def _scalar(ev: Evaluation, node: FunctionCall, steps: Steps) -> Scalar:
    """scalar(): the value where there is exactly one float, else NaN."""
    matrix = ev.matrix(node.args[0], steps)
    floats = matrix.float_mask()
    if matrix.series == 0:
        return np.full(steps.count, math.nan)
    values = matrix.values[floats.argmax(axis=0), np.arange(steps.count)]
    return np.where(floats.sum(axis=0) == 1, values, math.nan)


def _vector(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    return one_series(ev.scalar(node.args[0], steps))


def _absent(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """absent(): 1 where the vector is empty, with the labels that its selector states."""
    matrix = ev.matrix(node.args[0], steps)
    missing = ~matrix.present.any(axis=0)
    source = _unwrapped(node.args[0])
    selector = source.selector if isinstance(source, InstantSelect) else None
    labels = absent_labels(selector)
    ones = np.ones((1, steps.count))
    return Matrix(labels, ones, missing.reshape(1, -1), np.zeros(1, dtype=np.bool_))


def _unwrapped(node: Node) -> Node:
    return node.expr if isinstance(node, Invariant) else node


def _time(_ev: Evaluation, _node: FunctionCall, steps: Steps) -> Scalar:
    return steps.times / 1000


def _start(ev: Evaluation, _node: FunctionCall, steps: Steps) -> Scalar:
    return np.full(steps.count, ev.query.start / 1000)


def _end(ev: Evaluation, _node: FunctionCall, steps: Steps) -> Scalar:
    return np.full(steps.count, ev.query.end / 1000)


def _range(ev: Evaluation, _node: FunctionCall, steps: Steps) -> Scalar:
    return np.full(steps.count, (ev.query.end - ev.query.start) / 1000)


def _step(ev: Evaluation, _node: FunctionCall, steps: Steps) -> Scalar:
    return np.full(steps.count, ev.query.step / 1000)


def _pi(_ev: Evaluation, _node: FunctionCall, steps: Steps) -> Scalar:
    return np.full(steps.count, math.pi)


def _timestamp(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """timestamp(): when each sample was taken; the time of the step if it is computed."""
    source = _unwrapped(node.args[0])
    if isinstance(source, InstantSelect) and not source.selector.smoothed:
        selection, times = select_windows(
            ev, source.selector, steps, ev.lookback_ms, window_function="timestamp", leaf=True
        )
        matrix = last_samples(ev, selection, times, source, TIMESTAMP)
        return matrix.with_values(matrix.values)
    matrix = ev.matrix(node.args[0], steps)
    return matrix.with_values(np.tile(steps.times / 1000, (matrix.series, 1)))


def _start_timestamp(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """start_timestamp(): since when each sample's counter counts, 0 if that is unknown.

    Computed samples have none, and so no result.
    """
    source = _unwrapped(node.args[0])
    if not isinstance(source, InstantSelect) or source.selector.smoothed:
        return Matrix.empty(steps.count)
    selection, times = select_windows(ev, source.selector, steps, ev.lookback_ms)
    matrix = last_samples(ev, selection, times, source, TIMESTAMP)
    values = np.zeros_like(matrix.values)
    start_ts = selection.samples.start_ts
    if start_ts is not None:
        for row in checked(range(matrix.series), ev.check):
            where = np.flatnonzero(matrix.present[row])
            found = last_indices(selection.samples, row, times)[where]
            values[row, where] = start_ts[found] / 1000
    return matrix.with_values(values)


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    "scalar": _scalar,
    "vector": _vector,
    "absent": _absent,
    "time": _time,
    "start": _start,
    "end": _end,
    "range": _range,
    "step": _step,
    "pi": _pi,
    "timestamp": _timestamp,
    "start_timestamp": _start_timestamp,
}
