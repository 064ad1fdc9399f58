"""Evaluates binary operators between scalars, between vectors, and between one of each.

Source: Prometheus, promql/engine.go, VectorscalarBinop, VectorBinop and the set operators.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from varve.promql.evaluation.context import Evaluation, size_of
from varve.promql.evaluation.kernel_blocks import elementwise
from varve.promql.evaluation.sample_operators import sample_operation
from varve.promql.evaluation.values import Bools, Float64s, Int64s, Matrix, Scalar, Steps, Value
from varve.promql.evaluation.vector_matching import join_by_step
from varve.promql.interrupt import checked
from varve.promql.kernels.float_operators import (
    ARITHMETIC,
    COMPARISONS,
    SET_OPERATORS,
    TRIM_OPERATORS,
    scalar_operations,
)
from varve.promql.labels.combine import concatenate, match_group_ids
from varve.promql.labels.label_table import (
    METADATA_LABELS,
    LabelTable,
)
from varve.promql.plan.nodes import BinaryOperation, Negation, Node
from varve.promql.syntax.ast import Cardinality, VectorMatching


def chain_of(ev: Evaluation, node: BinaryOperation) -> list[BinaryOperation]:
    """The operator and all to its left, leftmost first. They may be thousands: no recursion."""
    chain = [node]
    while isinstance(chain[-1].lhs, BinaryOperation) and id(chain[-1].lhs) not in ev.shared:
        chain.append(chain[-1].lhs)
    return chain[::-1]


def operands_of(chain: list[BinaryOperation]) -> list[Node]:
    """The operands of a chain of operators, from left to right."""
    return [chain[0].lhs, *(operation.rhs for operation in chain)]


def binary_operation(ev: Evaluation, chain: list[BinaryOperation], steps: Steps) -> Value:
    """Evaluates the operators of a chain, one after the other."""
    before = ev.budget.held
    left = ev.eval(chain[0].lhs, steps)
    for operation in chain:
        ev.budget.check_running()
        left = _apply(ev, operation, left, ev.eval(operation.rhs, steps))
        ev.budget.held = before + size_of(left)
    return left


def negation(ev: Evaluation, node: Negation, steps: Steps) -> Value:
    """The value with its sign changed; a vector loses its names."""
    value = ev.eval(node.expr, steps)
    if not isinstance(value, Matrix):
        return -cast(Scalar, value)
    negated = value.with_values(-value.values)
    if value.histograms is None:
        return negated
    scaled = value.histograms.copy()
    for index in checked(np.argwhere(value.histogram_mask()), ev.check):
        scaled[tuple(index)] = scaled[tuple(index)].scaled(-1.0)
    return Matrix(negated.labels, negated.values, negated.present, negated.drop_name, scaled)


def _apply(ev: Evaluation, node: BinaryOperation, left: Value, right: Value) -> Value:
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        matching = node.matching or VectorMatching()
        if node.op in SET_OPERATORS:
            return _set_operation(ev, node.op, left, right, matching)
        return _join(ev, node, left, right, matching)
    if isinstance(left, Matrix):
        return _with_scalar(ev, node, left, cast(Scalar, right), swapped=False)
    if isinstance(right, Matrix):
        return _with_scalar(ev, node, right, cast(Scalar, left), swapped=True)
    return cast(Scalar, scalar_operations(node.op, left, right))


def _with_scalar(
    ev: Evaluation, node: BinaryOperation, vector: Matrix, scalar: Scalar, *, swapped: bool
) -> Matrix:
    """`vector op scalar`, or `scalar op vector` if swapped; comparisons keep the vector's value."""
    if vector.histograms is not None or node.op in TRIM_OPERATORS:
        return _samples_with_scalar(ev, node, vector, scalar, swapped=swapped)
    broadcast = np.broadcast_to(scalar, vector.values.shape)
    left, right = (broadcast, vector.values) if swapped else (vector.values, broadcast)
    values, holds = _floats(ev, node.op, left, right)
    if holds is None:
        return vector.with_values(values)
    if node.return_bool:
        return vector.with_values(holds.astype(np.float64))
    present = vector.present & holds
    return Matrix(vector.labels, vector.values, present, vector.drop_name)


def _samples_with_scalar(
    ev: Evaluation, node: BinaryOperation, vector: Matrix, scalar: Scalar, *, swapped: bool
) -> Matrix:
    values, present = vector.values.copy(), vector.present.copy()
    histograms = np.full(present.shape, None, dtype=object)
    for row, step in checked(np.argwhere(present).tolist(), ev.check):
        sample = vector.values[row, step]
        if vector.histograms is not None and vector.histograms[row, step] is not None:
            sample = vector.histograms[row, step]
        other = float(scalar[step])
        left, right = (other, sample) if swapped else (sample, other)
        result = sample_operation(ev, node, left, right)
        if result is None:
            present[row, step] = False
            continue
        value, keep = result
        if node.op in COMPARISONS and swapped:
            value = right
        if node.return_bool:
            value, keep = float(keep), True
        present[row, step] = keep
        if isinstance(value, float):
            values[row, step] = value
        else:
            histograms[row, step] = value
    drops = node.op in ARITHMETIC or node.return_bool
    return Matrix(vector.labels, values, present, vector.drop_name | drops, histograms)


def _join(
    ev: Evaluation, node: BinaryOperation, left: Matrix, right: Matrix, matching: VectorMatching
) -> Matrix:
    """Applies the operator to each sample and its match on the other side."""
    fills = matching.fill_lhs is not None or matching.fill_rhs is not None
    histograms = left.histograms is not None or right.histograms is not None
    if fills or histograms or node.op in TRIM_OPERATORS:
        return join_by_step(ev, node, left, right, matching)
    one_left = matching.cardinality is Cardinality.ONE_TO_MANY
    many, one = (right, left) if one_left else (left, right)
    pairs = _pairs(ev, many.labels, one.labels, matching)
    if pairs is None:
        return join_by_step(ev, node, left, right, matching)
    many_rows, one_rows = pairs
    many_values, one_values = many.values[many_rows], one.values[one_rows]
    present = many.present[many_rows] & one.present[one_rows]
    operands = (one_values, many_values) if one_left else (many_values, one_values)
    values, holds = _floats(ev, node.op, *operands)
    drop_name = many.drop_name[many_rows] | node.return_bool
    if node.op in ARITHMETIC:
        drop_name[:] = False  # it is gone already
    if holds is not None:
        if node.return_bool:
            values = holds.astype(np.float64)
        else:
            present = present & holds
    ev.check()
    labels = result_labels(node.op, many.labels, many_rows, one.labels, one_rows, matching)
    result = Matrix(labels, values, present, drop_name)
    if labels.is_unique():
        return result
    return join_by_step(ev, node, left, right, matching)


def _floats(
    ev: Evaluation, op: str, left: Float64s, right: Float64s
) -> tuple[Float64s, Bools | None]:
    """The values and, for a comparison, where it holds: its values are those of the left side."""
    with np.errstate(all="ignore"):
        if op in COMPARISONS:
            return left, elementwise(ev.check, COMPARISONS[op], left, right)
        return elementwise(ev.check, ARITHMETIC[op], left, right), None


def _pairs(
    ev: Evaluation, many: LabelTable, one: LabelTable, matching: VectorMatching
) -> tuple[Int64s, Int64s] | None:
    """The matching rows of both sides; None if a match group has several rows where it may not."""
    key = ("pairs", id(one), matching)

    def make() -> tuple[LabelTable, object]:
        (many_ids, one_ids), count = match_group_ids((many, one), matching.labels, on=matching.on)
        ev.check()
        partner = np.full(count, -1, dtype=np.int64)
        partner[one_ids] = np.arange(len(one_ids))
        if (np.bincount(one_ids, minlength=1) > 1).any():
            return one, None
        is_one_to_one = matching.cardinality is Cardinality.ONE_TO_ONE
        if is_one_to_one and (np.bincount(many_ids, minlength=1) > 1).any():
            return one, None
        one_rows = partner[many_ids]
        many_rows = np.flatnonzero(one_rows >= 0)
        return one, (many_rows, one_rows[many_rows])

    # The other table is kept with the answer, so that its id is not used again for another.
    return many.cached(key, make)[1]  # type: ignore[return-value]


def result_labels(
    op: str,
    many: LabelTable,
    many_rows: Int64s,
    one: LabelTable,
    one_rows: Int64s,
    matching: VectorMatching,
) -> LabelTable:
    """Labels of the results: those of the many side, cut to the match, and the included ones."""
    key = ("joined", op in ARITHMETIC or op in TRIM_OPERATORS, id(one), matching)

    def make() -> tuple[LabelTable, LabelTable]:
        labels = many.take(many_rows)
        if op in ARITHMETIC:
            labels = labels.without(METADATA_LABELS)
        if matching.cardinality is Cardinality.ONE_TO_ONE:
            if matching.on:
                labels = labels.only(matching.labels)
            else:
                labels = labels.without(matching.labels)
        for name in matching.include:
            values = one.values_of(name)
            labels = labels.with_label(name, [values[row] for row in one_rows.tolist()])
        return one, labels

    return many.cached(key, make)[1]


def _set_operation(
    ev: Evaluation, op: str, left: Matrix, right: Matrix, matching: VectorMatching
) -> Matrix:
    (left_ids, right_ids), count = match_group_ids(
        (left.labels, right.labels), matching.labels, on=matching.on
    )
    if op == "or":
        found = _groups_present(left_ids, left.present, count)
        added = right.present & ~found[right_ids]
        return _union(ev, left, right, added)
    found = _groups_present(right_ids, right.present, count)[left_ids]
    present = left.present & (found if op == "and" else ~found)
    return Matrix(left.labels, left.values, present, left.drop_name, left.histograms)


def _groups_present(ids: Int64s, present: Bools, count: int) -> Bools:
    """Whether any row of a match group has a sample, for each group and step."""
    found = np.zeros((count, present.shape[1]), dtype=np.bool_)
    np.logical_or.at(found, ids, present)
    return found


def _union(ev: Evaluation, left: Matrix, right: Matrix, added: Bools) -> Matrix:
    """The rows of the left side and, below them, those that the right side adds."""
    histograms = None
    if left.histograms is not None or right.histograms is not None:
        histograms = np.concatenate(
            [
                np.full(m.present.shape, None, dtype=object)
                if m.histograms is None
                else m.histograms
                for m in (left, right)
            ]
        )
    ev.check()
    labels = concatenate((left.labels, right.labels))
    ev.check()
    union = Matrix(
        labels,
        np.concatenate((left.values, right.values)),
        np.concatenate((left.present, added)),
        np.concatenate((left.drop_name, right.drop_name)),
        histograms,
    )
    ev.check()
    union = union.select(union.has_samples())
    return union if union.steps == 1 else union.merged(ev.check)
