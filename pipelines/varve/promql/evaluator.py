"""Says what evaluates each kind of node in a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from varve.promql.evaluation.aggregation import aggregation, fused_aggregation
from varve.promql.evaluation.binary_operators import (
    binary_operation,
    chain_of,
    negation,
    operands_of,
)
from varve.promql.evaluation.context import Evaluation, Handler
from varve.promql.evaluation.extended_ranges import extended_samples, smoothed_instant
from varve.promql.evaluation.parallel_branches import in_parallel
from varve.promql.evaluation.range_functions import range_call
from varve.promql.evaluation.selection import instant_select, range_select, subquery
from varve.promql.evaluation.values import Matrix, RangeVector, Scalar, Steps, Value
from varve.promql.functions.implementations import function_call
from varve.promql.plan import nodes
from varve.promql.plan.nodes import InstantSelect, Node, RangeSelect


def _number(_ev: Evaluation, node: nodes.Number, steps: Steps) -> Scalar:
    return np.full(steps.count, node.value)


def _text(_ev: Evaluation, node: nodes.Text, _steps: Steps) -> str:
    return node.value


def _instant_select(ev: Evaluation, node: InstantSelect, steps: Steps) -> Matrix:
    if node.selector.smoothed:
        return smoothed_instant(ev, node, steps)
    return instant_select(ev, node, steps)


def _range_select(ev: Evaluation, node: RangeSelect, steps: Steps) -> RangeVector:
    if node.selector.smoothed or node.selector.anchored:
        return extended_samples(ev, node, steps)
    return range_select(ev, node, steps)


def _invariant(ev: Evaluation, node: nodes.Invariant, steps: Steps) -> Value:
    value = ev.eval(node.expr, Steps(steps.start, steps.step, 1))
    if isinstance(value, Matrix):
        ev.budget.check_values(value.series * steps.count)
        return value.broadcast(steps.count)
    if isinstance(value, np.ndarray):
        return np.repeat(value, steps.count)
    return value


def _function_call(ev: Evaluation, node: nodes.FunctionCall, steps: Steps) -> Value:
    # info() does not evaluate its second argument, but reads the matchers in it.
    parts = node.args if node.func != "info" else ()
    with in_parallel(ev, parts, steps):
        return function_call(ev, node, steps)


def _aggregation(ev: Evaluation, node: nodes.Aggregation, steps: Steps) -> Matrix:
    with in_parallel(ev, node.children(), steps):
        return aggregation(ev, node, steps)


def _binary_operation(ev: Evaluation, node: nodes.BinaryOperation, steps: Steps) -> Value:
    chain = chain_of(ev, node)
    with in_parallel(ev, operands_of(chain), steps):
        return binary_operation(ev, chain, steps)


HANDLERS: Final[Mapping[type[Node], Handler]] = {
    nodes.Number: _number,
    nodes.Text: _text,
    nodes.InstantSelect: _instant_select,
    nodes.RangeSelect: _range_select,
    nodes.SubquerySelect: subquery,
    nodes.RangeCall: range_call,
    nodes.FunctionCall: _function_call,
    nodes.Aggregation: _aggregation,
    nodes.FusedAggregation: fused_aggregation,
    nodes.BinaryOperation: _binary_operation,
    nodes.Negation: negation,
    nodes.Invariant: _invariant,
}
