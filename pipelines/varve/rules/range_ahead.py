"""Evaluates rules for many times at once, where all samples are there beforehand.

A rule that reads no series of a rule gives the same at each time whether it is asked for one time
after the other or in one range query, which costs a fraction. Tests of rules, and whatever replays
the past, evaluate by blocks of times this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from varve.promql.engine import Engine
from varve.promql.errors import QueryError
from varve.promql.evaluation.values import Matrix
from varve.promql.syntax.ast import (
    Duration,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Subquery,
    VectorSelector,
)
from varve.promql.syntax.tree import walk
from varve.rules.dependencies import Reading
from varve.rules.instant import Element
from varve.rules.rule_file import Rule

BLOCK: Final = 512
"""Times that are evaluated together."""


class RangeAhead:
    """Vectors of the rules that allow it."""

    def __init__(
        self, engine: Engine, rules: Sequence[Rule], *, step_ms: int, until_ms: int
    ) -> None:
        """engine: over all samples but those of rules. Times are asked for in order, step_ms apart,
        up to until_ms.
        """
        self._engine = engine
        self._step_ms = step_ms
        self._until_ms = until_ms
        self._allowed = {
            id(rule): rule
            for rule in rules
            if looks_back_only(rule.tree) and not _reads_any(rule, rules)
        }
        self._blocks: dict[int, _Block] = {}

    def __call__(self, rule: Rule, ts_ms: int) -> list[Element] | None:
        """The vector of a rule at a time; None if it has to be asked for by itself."""
        if id(rule) not in self._allowed:
            return None
        block = self._blocks.get(id(rule))
        if block is None or not block.has(ts_ms):
            block = self._blocks[id(rule)] = self._block(rule, ts_ms)
        return block.at(ts_ms)

    def _block(self, rule: Rule, start_ms: int) -> _Block:
        end_ms = max(start_ms, min(start_ms + (BLOCK - 1) * self._step_ms, self._until_ms))
        times = range(start_ms, end_ms + 1, self._step_ms)
        try:
            value = self._engine.range(rule.expr, start_ms, end_ms, self._step_ms).value
        except QueryError:
            return _Block(times, None)  # at some of the times: which, the single queries tell
        return _Block(times, value if isinstance(value, Matrix) else None)


def _reads_any(rule: Rule, rules: Sequence[Rule]) -> bool:
    reading = Reading.of(rule)
    return any(reading.reads(other) for other in rules)


class _Block:
    def __init__(self, times: range, matrix: Matrix | None) -> None:
        self._times = times
        self._matrix = matrix
        if matrix is None:
            return
        self._labels = matrix.labels.labels()
        steps, self._rows = np.nonzero(matrix.present.T)
        self._begins = np.searchsorted(steps, np.arange(len(times) + 1)).tolist()

    def has(self, ts_ms: int) -> bool:
        return ts_ms in self._times

    def at(self, ts_ms: int) -> list[Element] | None:
        if self._matrix is None:
            return None
        return list(self._elements(self._matrix, self._times.index(ts_ms)))

    def _elements(self, matrix: Matrix, step: int) -> Iterator[Element]:
        for row in self._rows[self._begins[step] : self._begins[step + 1]].tolist():
            histogram = None if matrix.histograms is None else matrix.histograms[row, step]
            value = float(matrix.values[row, step]) if histogram is None else histogram
            yield Element(self._labels[row], value)


def looks_back_only(tree: Expr) -> bool:
    """Whether an expression reads nothing after its time, and does not know that of others."""
    for node in walk(tree):
        if isinstance(node, VectorSelector):
            if node.at is not None or node.anchored or node.smoothed or not _is_back(node.offset):
                return False
        elif isinstance(node, MatrixSelector):
            if not isinstance(node.range, NumberLiteral):
                return False
        elif isinstance(node, Subquery) and (
            node.at is not None
            or not _is_back(node.offset)
            or not isinstance(node.range, NumberLiteral)
            or not (node.step is None or isinstance(node.step, NumberLiteral))
        ):
            return False
    return True


def _is_back(offset: Duration | None) -> bool:
    return offset is None or (isinstance(offset, NumberLiteral) and offset.value >= 0)
