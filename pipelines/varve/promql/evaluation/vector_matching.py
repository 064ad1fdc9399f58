"""Matches the samples of two vectors step by step, where arrays of whole series do not serve.

That is so with fill values, with histograms, and where the series of a match group come and go:
then each step has its own matches. Source: Prometheus, promql/engine.go, VectorBinop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.sample_operators import Sample, sample_operation
from varve.promql.evaluation.values import DUPLICATE_LABELS, Matrix
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.interrupt import Check, checked
from varve.promql.kernels.float_operators import ARITHMETIC
from varve.promql.labels.combine import match_group_ids
from varve.promql.labels.label_table import (
    METADATA_LABELS,
    METRIC_NAME,
    Labels,
    LabelTable,
    format_labels,
)
from varve.promql.plan.nodes import BinaryOperation
from varve.promql.syntax.ast import Cardinality, VectorMatching


@dataclass(slots=True)
class _Side:
    """One operand, and the match group of each of its series."""

    matrix: Matrix
    labels: list[Labels]
    groups: list[int]
    check: Check

    def at(self, step: int) -> list[tuple[int, Sample]]:
        """(row, sample) of every series that has a sample at the step."""
        matrix = self.matrix
        found: list[tuple[int, Sample]] = []
        for row in checked(np.flatnonzero(matrix.present[:, step]).tolist(), self.check):
            sample: Sample = float(matrix.values[row, step])
            if matrix.histograms is not None and matrix.histograms[row, step] is not None:
                sample = matrix.histograms[row, step]
            found.append((row, sample))
        return found


def join_by_step(
    ev: Evaluation, node: BinaryOperation, left: Matrix, right: Matrix, matching: VectorMatching
) -> Matrix:
    """Applies the operator to each sample and its match.

    Raises QueryError if matches are not unique where they must be.
    """
    return _Join(ev, node, left, right, matching).run()


class _Join:
    def __init__(
        self,
        ev: Evaluation,
        node: BinaryOperation,
        left: Matrix,
        right: Matrix,
        matching: VectorMatching,
    ) -> None:
        self.ev = ev
        self.node = node
        self.matching = matching
        self.swapped = matching.cardinality is Cardinality.ONE_TO_MANY
        many, one = (right, left) if self.swapped else (left, right)
        (many_groups, one_groups), _ = match_group_ids(
            (many.labels, one.labels), matching.labels, on=matching.on
        )
        self.many = _Side(many, many.labels.labels(ev.check), many_groups.tolist(), ev.check)
        self.one = _Side(one, one.labels.labels(ev.check), one_groups.tolist(), ev.check)
        # What stands in where the "one" side has no sample, and where the "many" side has none.
        # Upstream's engine (up to 3.15) swaps the sides for group_right, but not the fill values:
        # there fill_right fills the "one" side, which is the left one. So it is here.
        self.fill_one, self.fill_many = matching.fill_rhs, matching.fill_lhs
        self.steps = left.steps
        # Which results lose their name at the end: arithmetic takes it away at once.
        self.drops = many.drop_name | node.return_bool
        if node.op in ARITHMETIC:
            self.drops = np.zeros_like(many.drop_name)
        self.labels: list[Labels] = []
        self.drop_name: list[bool] = []
        self.rows: dict[tuple[Labels, bool], int] = {}
        self.found: list[tuple[int, int, Sample]] = []

    def run(self) -> Matrix:
        for step in range(self.steps):
            self._step(step)
        check = self.ev.check
        labels = LabelTable.of([dict(row) for row in checked(self.labels, check)], check)
        values = np.zeros((labels.size, self.steps))
        present = np.zeros((labels.size, self.steps), dtype=np.bool_)
        histograms = np.full((labels.size, self.steps), None, dtype=object)
        for row, step, sample in checked(self.found, check):
            if present[row, step]:
                raise QueryError(DUPLICATE_LABELS)
            present[row, step] = True
            if isinstance(sample, FloatHistogram):
                histograms[row, step] = sample
            else:
                values[row, step] = sample
        drop_name = np.array(self.drop_name, dtype=np.bool_)
        any_histogram = (histograms != None).any()  # noqa: E711 - elementwise
        return Matrix(labels, values, present, drop_name, histograms if any_histogram else None)

    def _step(self, step: int) -> None:
        many, one = self.many.at(step), self.one.at(step)
        no_fill = self.fill_one is None and self.fill_many is None
        if (not many and not one) or (no_fill and not (many and one)):
            return
        partners: dict[int, tuple[int, Sample]] = {}
        for row, sample in one:
            group = self.one.groups[row]
            if group in partners:
                self._fail_on_duplicates(partners[group][0], row)
            partners[group] = row, sample
        matched: dict[int, set[Labels]] = {}
        for row, sample in checked(many, self.ev.check):
            group = self.many.groups[row]
            labels = self.many.labels[row]
            if group in partners:
                one_row, one_sample = partners[group]
                partner, drop_name = self.one.labels[one_row], bool(self.drops[row])
                self._pair(step, group, labels, sample, partner, one_sample, matched, drop_name)
            elif self.fill_one is not None:
                partner, drop_name = self._match_labels(labels), bool(self.drops[row])
                self._pair(step, group, labels, sample, partner, self.fill_one, matched, drop_name)
        if self.fill_many is None:
            return
        for group, (row, sample) in checked(partners.items(), self.ev.check):
            if group not in matched:
                labels = self.one.labels[row]
                filled = self._match_labels(labels)
                drop_name = self.node.return_bool
                self._pair(step, group, filled, self.fill_many, labels, sample, matched, drop_name)

    def _pair(
        self,
        step: int,
        group: int,
        many_labels: Labels,
        many_sample: Sample,
        one_labels: Labels,
        one_sample: Sample,
        matched: dict[int, set[Labels]],
        drop_name: bool,  # noqa: FBT001
    ) -> None:
        operands = (one_sample, many_sample) if self.swapped else (many_sample, one_sample)
        result = sample_operation(self.ev, self.node, *operands)
        if result is None:
            return
        value, keep = result
        if self.node.return_bool:
            value = float(keep)
        labels = self._result_labels(many_labels, one_labels)
        known = matched.get(group)
        if self.matching.cardinality is Cardinality.ONE_TO_ONE:
            if known is not None:
                raise QueryError(
                    "multiple matches for labels: many-to-one matching must be explicit"
                    " (group_left/group_right)"
                )
            matched[group] = set()
        else:
            if known is not None and labels in known:
                raise QueryError(
                    "multiple matches for labels: grouping labels must ensure unique matches"
                )
            matched.setdefault(group, set()).add(labels)
        if keep or self.node.return_bool:
            self.found.append((self._row(labels, drop_name=drop_name), step, value))

    def _row(self, labels: Labels, *, drop_name: bool) -> int:
        """The row of a result. At a single step each result has its own: equal ones may be
        aggregated.
        """
        key = labels, drop_name
        row = self.rows.get(key)
        if row is None or self.steps == 1:
            row = self.rows[key] = len(self.labels)
            self.labels.append(labels)
            self.drop_name.append(drop_name)
        return row

    def _match_labels(self, labels: Labels) -> Labels:
        """The labels that two samples must share to match."""
        names = self.matching.labels
        if self.matching.on:
            return tuple(pair for pair in labels if pair[0] in names)
        return tuple(p for p in labels if p[0] not in names and p[0] != METRIC_NAME)

    def _result_labels(self, many: Labels, one: Labels) -> Labels:
        result = dict(many)
        if self.node.op in ARITHMETIC:
            for name in METADATA_LABELS:
                result.pop(name, None)
        names = self.matching.labels
        if self.matching.cardinality is Cardinality.ONE_TO_ONE:
            result = {n: v for n, v in result.items() if (n in names) == self.matching.on}
        other = dict(one)
        for name in self.matching.include:
            if name in other:
                result[name] = other[name]
            else:
                result.pop(name, None)
        return tuple(sorted(result.items()))

    def _fail_on_duplicates(self, first: int, second: int) -> None:
        side = "left" if self.swapped else "right"
        labels = self.one.labels
        group = format_labels(self._match_labels(labels[second]))
        duplicates = ", ".join(sorted(format_labels(labels[row]) for row in (first, second)))
        raise QueryError(
            f"found duplicate series for the match group {group} on the {side} hand-side of the"
            f" operation: [{duplicates}];many-to-many matching not allowed: matching labels must be"
            " unique on one side"
        )
