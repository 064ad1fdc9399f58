"""Applies a binary operator to two samples, either of which may be a histogram.

Source: Prometheus, promql/engine.go, vectorElemBinop.
"""

from __future__ import annotations

from varve.promql.evaluation import annotations as notes
from varve.promql.evaluation.annotations import Operation
from varve.promql.evaluation.context import Evaluation
from varve.promql.histograms.native_histogram import (
    FloatHistogram,
    IncompatibleSchemasError,
    add,
    subtract,
)
from varve.promql.histograms.trimming import trim
from varve.promql.kernels.float_operators import COMPARISONS, TRIM_OPERATORS, scalar_operation
from varve.promql.plan.nodes import BinaryOperation

Sample = float | FloatHistogram


def sample_operation(
    ev: Evaluation, node: BinaryOperation, left: Sample, right: Sample
) -> tuple[Sample, bool] | None:
    """The value and, for a comparison, whether it holds; None if there is no result."""
    if isinstance(left, FloatHistogram):
        if isinstance(right, FloatHistogram):
            return _of_histograms(ev, node, left, right)
        return _histogram_with_float(ev, node, left, float(right))
    if isinstance(right, FloatHistogram):
        if node.op == "*":
            return right.scaled(float(left)), True
        _note_incompatible(ev, node, left, right)
        return None
    if node.op in TRIM_OPERATORS:
        _note_incompatible(ev, node, left, right)
        return None
    result = scalar_operation(node.op, left, right)
    if node.op in COMPARISONS:
        return float(left), result == 1.0
    return result, True


def _histogram_with_float(
    ev: Evaluation, node: BinaryOperation, left: FloatHistogram, right: float
) -> tuple[Sample, bool] | None:
    if node.op == "*":
        return left.scaled(right), True
    if node.op == "/":
        return left.divided(right), True
    if node.op in TRIM_OPERATORS:
        return trim(left, right, keep_below=node.op == "</"), True
    _note_incompatible(ev, node, left, right)
    return None


def _of_histograms(
    ev: Evaluation, node: BinaryOperation, left: FloatHistogram, right: FloatHistogram
) -> tuple[Sample, bool] | None:
    if node.op == "==":
        return left, left.equals(right)
    if node.op == "!=":
        return left, not left.equals(right)
    if node.op not in ("+", "-"):
        _note_incompatible(ev, node, left, right)
        return None
    operation: Operation = "addition" if node.op == "+" else "subtraction"
    try:
        combined = add(left, right) if node.op == "+" else subtract(left, right)
    except IncompatibleSchemasError:
        ev.annotations.add(notes.incompatible_buckets(node.op, node.span))
        return None
    if combined.hints_collide:
        ev.annotations.add(notes.hints_collide(operation, node.span))
        return None
    if combined.reconciled:
        ev.annotations.add(notes.bounds_reconciled(operation, node.span))
    result = combined.histogram
    return (result if node.op == "+" else result.with_hint("gauge")), True


def _note_incompatible(ev: Evaluation, node: BinaryOperation, left: Sample, right: Sample) -> None:
    kinds = ["histogram" if isinstance(s, FloatHistogram) else "float" for s in (left, right)]
    ev.annotations.add(notes.incompatible_types(kinds[0], node.op, kinds[1], node.span))
