"""Finds what computes a function of vectors, scalars and strings.

Functions of range vectors are computed by evaluation.range_functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.values import Steps, Value
from varve.promql.functions import (
    arithmetic,
    calendar,
    conversion,
    histogram_quantiles,
    info,
    native_histograms,
    relabel,
    sorting,
)
from varve.promql.plan.nodes import FunctionCall

IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    **arithmetic.IMPLEMENTATIONS,
    **calendar.IMPLEMENTATIONS,
    **conversion.IMPLEMENTATIONS,
    **histogram_quantiles.IMPLEMENTATIONS,
    **info.IMPLEMENTATIONS,
    **native_histograms.IMPLEMENTATIONS,
    **relabel.IMPLEMENTATIONS,
    **sorting.IMPLEMENTATIONS,
}
"""What computes a function, by the function's name."""


def function_call(ev: Evaluation, node: FunctionCall, steps: Steps) -> Value:
    """The value of a call at each step."""
    return IMPLEMENTATIONS[node.func](ev, node, steps)
