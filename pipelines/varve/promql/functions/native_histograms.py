"""Computes functions that make a float of each native histogram."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np

from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.values import Matrix, Steps
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.histograms.statistics import SIMPLE
from varve.promql.interrupt import checked
from varve.promql.plan.nodes import FunctionCall


def _each(
    function: Callable[[FloatHistogram], float], ev: Evaluation, node: FunctionCall, steps: Steps
) -> Matrix:
    matrix = ev.matrix(node.args[0], steps)
    present = matrix.histogram_mask()
    values = np.zeros_like(matrix.values)
    if matrix.histograms is not None:
        for row, step in checked(np.argwhere(present).tolist(), ev.check):
            values[row, step] = function(matrix.histograms[row, step])
    return matrix.with_values(values, present)


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    name: partial(_each, function) for name, function in SIMPLE.items()
}
