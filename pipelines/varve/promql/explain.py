"""A plan as text, with what each node is expected to read and, if it was run, what it read."""

from __future__ import annotations

from collections.abc import Callable

from varve.promql.ast import Matcher
from varve.promql.context import Evaluation
from varve.promql.engine import Engine
from varve.promql.literals import format_duration, format_number, quote
from varve.promql.plan import nodes
from varve.promql.plan.durations import QueryRange, length_ms, offset_ms
from varve.promql.plan.nodes import Node, Plan, Selector
from varve.promql.selecting import at_ms
from varve.promql.values import Steps

_INDENT = "  "


def explain(
    engine: Engine, query: str, start_ms: int, end_ms: int, step_ms: int, *, run: bool = False
) -> str:
    """The plan of a query, a line a node, inputs below and indented.

    step_ms 0 stands for an instant query at start_ms. Selectors tell how many series and samples
    they are expected to select at most. With `run` the query is evaluated, and nodes that read
    samples tell how many series and samples there were; windows that overlap count a sample
    each. QueryError as Engine.range.
    """
    plan = engine.plan(query)
    ev = engine.evaluation(plan, QueryRange(start_ms, end_ms, step_ms))
    steps = Steps.between(start_ms, end_ms, step_ms) if step_ms else Steps.instant(start_ms)
    if run:
        ev.eval(plan.root, steps)
    lines: list[str] = []
    _write(_Writer(plan, ev, steps, run=run), plan.root, 0, lines)
    return "\n".join(lines)


class _Writer:
    """Says in a line what a node does."""

    def __init__(self, plan: Plan, ev: Evaluation, steps: Steps, *, run: bool) -> None:
        self.plan = plan
        self.ev = ev
        self.steps = steps
        self.run = run
        self.numbers: dict[int, int] = {}

    def line(self, node: Node) -> str:
        text = self._describe(node)
        if isinstance(node, nodes.InstantSelect):
            text += self._estimate(node.selector, self.ev.lookback_ms)
        elif isinstance(node, nodes.RangeSelect):
            text += self._estimate(node.selector, length_ms(node.range, self.ev.query))
        elif isinstance(node, nodes.FusedAggregation) and isinstance(
            node.source, nodes.InstantSelect
        ):
            text += self._estimate(node.source.selector, self.ev.lookback_ms)
        if self.run and id(node) in self.ev.actual:
            series, samples = self.ev.actual[id(node)]
            text += f"  actual: {series:,} series, {samples:,} samples"
        return text

    def _estimate(self, selector: Selector, range_ms: int) -> str:
        start, end = self.steps.start, self.steps.end
        if selector.at is not None:
            start = end = at_ms(self.ev, selector.at)
        offset = offset_ms(selector.offset, self.ev.query)
        series, samples = self.ev.storage.count(
            selector.matchers, start - offset - range_ms, end - offset
        )
        return f"  estimated: {series:,} series, {samples:,} samples"

    def _describe(self, node: Node) -> str:
        describe: Callable[[Node], str] | None = _DESCRIPTIONS.get(type(node))
        return type(node).__name__ if describe is None else describe(node)


def _write(writer: _Writer, node: Node, depth: int, lines: list[str]) -> None:
    prefix = _INDENT * depth
    if id(node) in writer.plan.shared:
        if id(node) in writer.numbers:
            lines.append(f"{prefix}as #{writer.numbers[id(node)]}")
            return
        writer.numbers[id(node)] = len(writer.numbers) + 1
        prefix += f"#{writer.numbers[id(node)]} "
    lines.append(prefix + writer.line(node))
    for child in node.children():
        _write(writer, child, depth + 1, lines)


def selector_text(selector: Selector) -> str:
    """Matchers in braces, and the modifiers."""
    text = "{" + ", ".join(map(_matcher_text, selector.matchers)) + "}"
    if selector.at is not None:
        text += f" @ {selector.at.at}"
    if selector.offset is not None:
        text += " offset"
    flags = ("anchored", "smoothed", "stats_only")
    return text + "".join(f" {flag}" for flag in flags if getattr(selector, flag))


def _matcher_text(matcher: Matcher) -> str:
    return f"{matcher.name}{matcher.op.value}{quote(matcher.value)}"


def _grouping(node: nodes.Aggregation) -> str:
    kind = "without" if node.without else "by"
    return f"{node.op} {kind} ({', '.join(node.grouping)})"


def _duration(duration: object) -> str:
    seconds = getattr(duration, "value", None)
    return "expression" if seconds is None else format_duration(seconds)


def _fused(node: nodes.FusedAggregation) -> str:
    source = node.source
    if isinstance(source, nodes.InstantSelect):
        what = selector_text(source.selector)
    else:
        what = source.func
    return f"fused {_grouping(node.plain)} of {what}"


_DESCRIPTIONS: dict[type[Node], Callable[..., str]] = {
    nodes.Number: lambda node: f"number {format_number(node.value)}",
    nodes.Text: lambda node: f"text {quote(node.value)}",
    nodes.QueryContext: lambda node: f"{node.func}()",
    nodes.InstantSelect: lambda node: f"select {selector_text(node.selector)}",
    nodes.RangeSelect: lambda node: (
        f"select {selector_text(node.selector)} range {_duration(node.range)}"
    ),
    nodes.SubquerySelect: lambda node: f"subquery range {_duration(node.range)}",
    nodes.RangeCall: lambda node: f"{node.func} over windows",
    nodes.FunctionCall: lambda node: f"{node.func}",
    nodes.Aggregation: _grouping,
    nodes.FusedAggregation: _fused,
    nodes.BinaryOperation: lambda node: f"operator {node.op}",
    nodes.Negation: lambda _node: "negate",
    nodes.Invariant: lambda _node: "once for all steps",
}
