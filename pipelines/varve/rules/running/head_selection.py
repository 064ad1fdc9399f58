"""What of the samples rules read at every evaluation: the head of their process has that alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from varve.promql.syntax.ast import (
    Duration,
    MatrixSelector,
    NumberLiteral,
    Subquery,
    VectorSelector,
)
from varve.promql.syntax.tree import walk
from varve.query.head_series import HeadSeries
from varve.rules.rule_file import Group, Rule

_LEAST_MS: Final = 600_000
"""Data that comes late, and evaluations that are made up for, find their samples in memory."""
_MOST_MS: Final = 7_200_000
"""What reaches further back is read from files, or answered by rollups."""


def head_selection(groups: Iterable[Group], lookback_ms: int) -> HeadSeries:
    """The series of the rules' selectors, for as long as the widest of them reaches back."""
    rules = [rule for group in groups for rule in group.rules]
    selectors = {
        node.matchers: None
        for rule in rules
        for node in walk(rule.tree)
        if isinstance(node, VectorSelector)
    }
    reach_ms = max((sum(_durations_ms(rule)) for rule in rules), default=0)
    keep_ms = min(max(_LEAST_MS, 2 * (lookback_ms + reach_ms)), _MOST_MS)
    return HeadSeries(tuple(selectors), keep_ms)


def _durations_ms(rule: Rule) -> Iterator[int]:
    """Every range and offset that a rule names; how they nest does not matter here."""
    for node in walk(rule.tree):
        if isinstance(node, MatrixSelector | Subquery):
            yield _fixed_ms(node.range)
        if isinstance(node, VectorSelector | Subquery):
            yield _fixed_ms(node.offset)


def _fixed_ms(duration: Duration | None) -> int:
    """0 for one that has to be computed, or looks ahead."""
    return max(0, round(duration.value * 1000)) if isinstance(duration, NumberLiteral) else 0
