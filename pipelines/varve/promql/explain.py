"""A plan as text, with what each node is expected to read and, if it was run, what it read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple, cast

import numpy as np

from varve.promql.engine import Engine
from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.selection import expected, selected_span, subquery_steps, tiered
from varve.promql.evaluation.values import Steps
from varve.promql.interrupt import Check
from varve.promql.plan import nodes
from varve.promql.plan.durations import QueryRange, length_ms, offset_ms
from varve.promql.plan.nodes import Node, Plan, Selector
from varve.promql.storage import (
    RollupRows,
    Rollups,
    SelectHints,
    Selection,
    Storage,
    TierChoice,
)
from varve.promql.syntax.ast import Matcher
from varve.promql.syntax.literals import format_duration, format_number, quote

_INDENT = "  "
_DEEPEST = 40
"""The deepest indentation, in levels: a chain of operators may be thousands deep."""


def explain(
    engine: Engine,
    query: str,
    start_ms: int,
    end_ms: int,
    step_ms: int,
    *,
    run: bool = False,
    cancelled: threading.Event | None = None,
    deadline: float | None = None,
) -> str:
    """The plan of a query, a line a node, inputs below and indented.

    step_ms 0 stands for an instant query at start_ms. Selectors tell how many series and samples
    they select at most, as the storage estimates it. With `run` the query is evaluated, and they
    tell beside it how many they did select. What evaluates windows tells how many samples it looked
    at then: one for each window that a sample is in. A node used more than once has a number, and
    is evaluated once. QueryError as Engine.range.
    """
    check = engine.interrupt(cancelled, deadline).check
    plan = engine.plan(query, check)
    steps = Steps.between(start_ms, end_ms, step_ms) if step_ms else Steps.instant(start_ms)
    engine.options.limits.check_steps(steps.count)
    ev = engine.evaluation(plan, QueryRange(start_ms, end_ms, step_ms), check)
    if run:
        ev.storage = cast(Storage, _Recording(ev.storage))
        ev.eval(plan.root, steps)
    return "\n".join(_lines(plan, ev, steps))


class _Selected(NamedTuple):
    """(start_ms, end_ms] of a selection; its series and samples."""

    span: tuple[int, int]
    amount: tuple[int, int]


_Chosen = tuple[tuple[Matcher, ...], TierChoice]


@dataclass(frozen=True)
class _RecordedRollups:
    """Rollups whose series and rows are added up under a key while they are read."""

    rollups: Rollups
    amounts: dict[_Chosen, tuple[int, int]]
    key: _Chosen
    samples: tuple[int, int]
    """Series that samples answer for, and these."""

    def blocks(self, steps: int, check: Check) -> Iterator[RollupRows]:
        series, rows = self.samples
        for block in self.rollups.blocks(steps, check):
            series += len(block.series)
            rows += int((block.ends - block.begins).sum())
            yield block
        self.amounts[self.key] = series, rows


class _Recording:
    """The storage of a query that remembers how much each of its selections had."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._selected: dict[tuple[tuple[Matcher, ...], int, int], tuple[int, int]] = {}
        self._rows: dict[_Chosen, tuple[int, int]] = {}
        self._elsewhere: set[tuple[Matcher, ...]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, hints: SelectHints
    ) -> Selection:
        selection = self._storage.select(matchers, start_ms, end_ms, hints)
        if selection.elsewhere is not None:
            self._elsewhere.add(tuple(matchers))
            return selection
        held = selection.samples.ends - selection.samples.begins
        amount = int(np.count_nonzero(held)), int(held.sum())
        if selection.rollups is not None:
            key = tuple(matchers), cast(TierChoice, hints.choice)
            recorded = _RecordedRollups(selection.rollups, self._rows, key, amount)
            return replace(selection, rollups=recorded)
        self._selected[tuple(matchers), start_ms, end_ms] = amount
        return selection

    def rows(self, selector: Selector, choice: TierChoice) -> tuple[int, int] | None:
        """The series and rows that were read by a choice, None if none were."""
        return self._rows.get((selector.matchers, choice))

    def is_elsewhere(self, selector: Selector) -> bool:
        """Whether executors have computed what was wanted of a selector."""
        return selector.matchers in self._elsewhere

    def selected(self, selector: Selector, start_ms: int, end_ms: int) -> _Selected | None:
        """The least selection that holds this one, None if there was none.

        It is wider than this one where the engine asks for samples around the windows.
        """
        found = [
            (end - start, _Selected((start, end), amount))
            for (matchers, start, end), amount in self._selected.items()
            if matchers == selector.matchers and start <= start_ms and end >= end_ms
        ]
        return min(found, key=itemgetter(0))[1] if found else None


def _lines(plan: Plan, ev: Evaluation, steps: Steps) -> Iterator[str]:
    numbers: dict[int, int] = {}
    stack: list[tuple[Node, Steps, int, str | None]] = [(plan.root, steps, 0, None)]
    while stack:
        node, at, depth, function = stack.pop()
        prefix = _INDENT * min(depth, _DEEPEST)
        if id(node) in plan.shared and node.children():
            if id(node) in numbers:
                yield f"{prefix}the same as #{numbers[id(node)]}"
                continue
            numbers[id(node)] = len(numbers) + 1
            prefix += f"#{numbers[id(node)]} "
        yield prefix + _line(ev, node, at, function)
        function = _function_of(node)
        stack += reversed(
            [(child, inner, depth + 1, function) for child, inner in _inputs(ev, node, at)]
        )


def _function_of(node: Node) -> str | None:
    """The function that a node computes of the windows below it."""
    source = node.source if isinstance(node, nodes.FusedAggregation) else node
    return source.name if isinstance(source, nodes.RangeCall) else None


def _inputs(ev: Evaluation, node: Node, steps: Steps) -> Iterator[tuple[Node, Steps]]:
    """The nodes below, and the steps at which they are evaluated."""
    if isinstance(node, nodes.SubquerySelect):
        yield node.expr, subquery_steps(ev, node, steps)
    elif isinstance(node, nodes.Invariant):
        yield node.expr, Steps(steps.start, steps.step, 1)
    else:
        for child in node.children():
            yield child, steps


def _line(ev: Evaluation, node: Node, steps: Steps, function: str | None) -> str:
    """function: what is computed of the windows of `node`, if it selects any."""
    facts = [_DESCRIPTIONS[type(node)](ev, node)]
    match node:
        case nodes.InstantSelect():
            facts.append(_estimate(ev, node.selector, steps, ev.lookback_ms, ""))
        case nodes.RangeSelect():
            range_ms = length_ms(node.range, ev.query)
            facts.append(_estimate(ev, node.selector, steps, range_ms, function))
        case nodes.FusedAggregation(source=nodes.InstantSelect() as source):
            facts.append(_estimate(ev, source.selector, steps, ev.lookback_ms, ""))
        case nodes.SubquerySelect():
            facts.append(f"{subquery_steps(ev, node, steps).count:,} steps")
    if (actual := ev.node_stats.get(id(node))) is not None:
        facts.append(f"looked at: {_amount(actual.series, actual.samples)} in all windows")
    return "  ".join(facts)


def _estimate(
    ev: Evaluation, selector: Selector, steps: Steps, range_ms: int, function: str | None
) -> str:
    choice, series, rows = expected(ev, selector, steps, range_ms, tiered(selector, function))
    if choice is not None:
        text = f"tier {choice.tier}, {choice.why}  estimated: {_amount(series, rows, 'rows')}"
        read = ev.storage.rows(selector, choice) if isinstance(ev.storage, _Recording) else None
        text += _by_whom(ev, selector)
        return text if read is None else f"{text}  actual: {_amount(*read, 'rows')}"
    span = selected_span(ev, selector, steps, range_ms)
    selected = ev.storage.selected(selector, *span) if isinstance(ev.storage, _Recording) else None
    if selected is None:
        text = f"estimated: {_amount(*ev.counted(selector.matchers, *span))}"
        return text + _by_whom(ev, selector)
    estimated = _amount(*ev.counted(selector.matchers, *selected.span))
    return f"estimated: {estimated}  actual: {_amount(*selected.amount)}"


def _by_whom(ev: Evaluation, selector: Selector) -> str:
    storage = ev.storage
    is_elsewhere = isinstance(storage, _Recording) and storage.is_elsewhere(selector)
    return "  computed by executors" if is_elsewhere else ""


def _amount(series: int, samples: int, what: str = "samples") -> str:
    return f"{series:,} series, {samples:,} {what}"


def selector_text(ev: Evaluation, selector: Selector) -> str:
    """The matchers of a selector in braces, and its modifiers."""
    text = "{" + ", ".join(map(_matcher_text, selector.matchers)) + "}"
    if selector.at is not None:
        at = selector.at.at
        text += f" @ {format_number(at / 1000) if isinstance(at, int) else at + '()'}"
    if selector.offset is not None:
        text += f" offset {_ms_text(offset_ms(selector.offset, ev.query))}"
    flags = {"anchored": "anchored", "smoothed": "smoothed", "stats_only": "without buckets"}
    return text + "".join(f" {text}" for flag, text in flags.items() if getattr(selector, flag))


def _matcher_text(matcher: Matcher) -> str:
    return f"{matcher.name}{matcher.op.value}{quote(matcher.value)}"


def _ms_text(ms: int) -> str:
    return ("-" if ms < 0 else "") + format_duration(abs(ms) / 1000)


def _grouping(node: nodes.Aggregation) -> str:
    names = ", ".join(node.grouping)
    if node.without:
        return f"{node.op} without ({names})"
    return f"{node.op} by ({names})" if names else f"{node.op} of all"


def _fused(ev: Evaluation, node: nodes.FusedAggregation) -> str:
    source = node.source
    if isinstance(source, nodes.InstantSelect):
        inner = f"select {selector_text(ev, source.selector)}"
    else:
        inner = source.name
    return f"in one pass: {_grouping(node.plain)}, {inner}"


def _range_select(ev: Evaluation, node: nodes.RangeSelect) -> str:
    window = _ms_text(length_ms(node.range, ev.query))
    return f"select {selector_text(ev, node.selector)} windows of {window}"


def _subquery(ev: Evaluation, node: nodes.SubquerySelect) -> str:
    step = ev.default_step_ms if node.step is None else length_ms(node.step, ev.query)
    window = _ms_text(length_ms(node.range, ev.query))
    return f"subquery every {_ms_text(step)}, windows of {window}"


_DESCRIPTIONS: dict[type[Node], Callable[..., str]] = {
    nodes.Number: lambda _ev, node: f"number {format_number(node.value)}",
    nodes.Text: lambda _ev, node: f"text {quote(node.value)}",
    nodes.InstantSelect: lambda ev, node: f"select {selector_text(ev, node.selector)}",
    nodes.RangeSelect: _range_select,
    nodes.SubquerySelect: _subquery,
    nodes.RangeCall: lambda _ev, node: node.name,
    nodes.FunctionCall: lambda _ev, node: node.func,
    nodes.Aggregation: lambda _ev, node: _grouping(node),
    nodes.FusedAggregation: _fused,
    nodes.BinaryOperation: lambda _ev, node: f"operator {node.op}",
    nodes.Negation: lambda _ev, _node: "negate",
    nodes.Invariant: lambda _ev, _node: "once for all steps",
}
