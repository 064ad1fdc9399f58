"""Which function is computed where."""

from __future__ import annotations

from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.values import Steps, Value
from varve.promql.functions import (
    arithmetic,
    calendar,
    classic,
    conversion,
    info,
    native,
    relabel,
    sorting,
)
from varve.promql.plan.nodes import FunctionCall

FUNCTIONS = {
    **arithmetic.FUNCTIONS,
    **calendar.FUNCTIONS,
    **classic.FUNCTIONS,
    **conversion.FUNCTIONS,
    **info.FUNCTIONS,
    **native.FUNCTIONS,
    **relabel.FUNCTIONS,
    **sorting.FUNCTIONS,
}


def function_call(ev: Evaluation, node: FunctionCall, steps: Steps) -> Value:
    """The value of a call."""
    return FUNCTIONS[node.func](ev, node, steps)
