"""Makes a plan of a syntax tree.

A query text is planned once, so that running it again costs nothing here. What the planner does:
constants are folded; equal subtrees become one node, evaluated once; parts that do not depend
on the step are evaluated once (`Invariant`); matchers on the left of `and` and `unless` narrow
the right; an aggregation of a selector or a range function becomes one kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from typing import TypeVar

from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.interrupt import Check, checked, never
from varve.promql.kernels.float_operators import scalar_operation
from varve.promql.labels.label_table import METRIC_NAME
from varve.promql.plan import nodes
from varve.promql.plan.nodes import Node, Plan, Selector
from varve.promql.signatures import Trait, ValueType
from varve.promql.syntax import ast
from varve.promql.syntax.ast import MatchOp, Span

_STATS_FUNCTIONS = frozenset({"histogram_count", "histogram_sum", "histogram_avg"})
_BUCKET_FUNCTIONS = frozenset({"histogram_quantile", "histogram_quantiles", "histogram_fraction"})

N = TypeVar("N", bound=Node)


def build(query: str, expr: ast.Expr, check: Check = never) -> Plan:
    """Returns the plan of a tree whose types are checked. check: see interrupt.py."""
    builder = _Builder(check)
    root = builder.build(expr)
    if builder.is_invariant(root) and _is_wrappable(root):
        root = builder.invariant(root)
    uses: Counter[int] = Counter()
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        uses[id(node)] += 1
        if id(node) not in seen:
            seen.add(id(node))
            stack.extend(node.children())
    shared = frozenset(key for key, count in uses.items() if count > 1)
    return Plan(query, root, shared)


def _is_wrappable(node: Node) -> bool:
    return not isinstance(
        node, nodes.Number | nodes.Text | nodes.RangeSelect | nodes.SubquerySelect | nodes.Invariant
    )


class _Builder:
    """Makes one node for each distinct subtree."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._made: dict[Hashable, Node] = {}
        self._invariant: dict[int, bool] = {}
        self._stats = False

    def build(self, expr: ast.Expr) -> Node:
        match expr:
            case ast.Paren():
                return self.build(expr.expr)
            case ast.NumberLiteral():
                return self._number(expr.value, expr.span)
            case ast.StringLiteral():
                text = nodes.Text(expr.value, span=expr.span, type=ValueType.STRING)
                return self._unique(text, ("text", expr.value), invariant=True)
            case ast.VectorSelector():
                return self._instant_select(expr)
            case ast.MatrixSelector():
                return self._range_select(expr)
            case ast.Subquery():
                return self._subquery(expr)
            case ast.Call():
                return self._call(expr)
            case ast.Aggregate():
                return self._aggregate(expr)
            case ast.Unary():
                return self._unary(expr)
            case ast.Binary():
                return self._chain(expr)

    def is_invariant(self, node: Node) -> bool:
        """Whether `node` gives the same at every step."""
        return self._invariant[id(node)]

    def invariant(self, node: Node) -> Node:
        """`node`, wrapped so that it is evaluated once if that saves anything."""
        if not _is_wrappable(node) or not self.is_invariant(node):
            return node
        wrapped = nodes.Invariant(node, span=node.span, type=node.type)
        return self._unique(wrapped, ("invariant", id(node)), invariant=True)

    def _unique(self, node: N, key: Hashable, *, invariant: bool) -> Node:
        known = self._made.get(key)
        if known is None:
            known = self._made[key] = node
            self._invariant[id(node)] = invariant
        return known

    def _number(self, value: float, span: Span) -> Node:
        number = nodes.Number(value, span=span, type=ValueType.SCALAR)
        return self._unique(number, ("number", value.hex()), invariant=True)

    def _selector(self, expr: ast.VectorSelector) -> Selector:
        return Selector(
            expr.matchers, expr.offset, expr.at, expr.anchored, expr.smoothed, self._stats
        )

    def _instant_select(self, expr: ast.VectorSelector) -> Node:
        selector = self._selector(expr)
        node = nodes.InstantSelect(selector, span=expr.span)
        return self._unique(node, ("instant", selector), invariant=expr.at is not None)

    def _range_select(self, expr: ast.MatrixSelector) -> Node:
        selector = self._selector(expr.selector)
        node = nodes.RangeSelect(selector, expr.range, span=expr.span, type=ValueType.MATRIX)
        key = ("range", selector, expr.range)
        return self._unique(node, key, invariant=expr.selector.at is not None)

    def _subquery(self, expr: ast.Subquery) -> Node:
        stats, self._stats = self._stats, False
        inner = self.invariant(self.build(expr.expr))
        self._stats = stats
        node = nodes.SubquerySelect(
            inner,
            expr.range,
            expr.step,
            expr.offset,
            expr.at,
            span=expr.span,
            type=ValueType.MATRIX,
        )
        key = ("subquery", id(inner), expr.range, expr.step, expr.offset, expr.at)
        return self._unique(node, key, invariant=expr.at is not None)

    def _call(self, call: ast.Call) -> Node:
        stats = self._stats
        if call.func in _STATS_FUNCTIONS:
            self._stats = True
        elif call.func in _BUCKET_FUNCTIONS:
            self._stats = False
        built = [self.build(arg) for arg in call.args]
        self._stats = stats
        invariant = all(map(self.is_invariant, built))
        invariant &= not FUNCTIONS[call.func].has(Trait.STEP_DEPENDENT)
        args = built if invariant else [self.invariant(arg) for arg in built]
        key = ("call", call.func, *map(id, args))
        return self._unique(_call_node(call, args), key, invariant=invariant)

    def _aggregate(self, expr: ast.Aggregate) -> Node:
        inner = self.build(expr.expr)
        param = None if expr.param is None else self.build(expr.param)
        invariant = self.is_invariant(inner) and (param is None or self.is_invariant(param))
        if not invariant:
            inner = self.invariant(inner)
            param = None if param is None else self.invariant(param)
        grouping = tuple(sorted(set(expr.grouping)))
        plain = nodes.Aggregation(
            expr.op,
            inner,
            param,
            grouping,
            expr.without,
            _inner_span(expr.expr),
            ast.NOWHERE if expr.param is None else _inner_span(expr.param),
            span=expr.span,
        )
        node: Node = plain
        kernel = AGGREGATIONS[expr.op].kernel
        if kernel is not None and (source := _fusible(inner)) is not None:
            node = nodes.FusedAggregation(plain, source, kernel, span=expr.span)
        key = ("aggregate", expr.op, id(inner), id(param), grouping, expr.without)
        return self._unique(node, key, invariant=invariant)

    def _unary(self, expr: ast.Unary) -> Node:
        inner = self.build(expr.expr)
        if expr.op == "+":
            return inner
        if isinstance(inner, nodes.Number):
            return self._number(-inner.value, expr.span)
        node = nodes.Negation(inner, span=expr.span, type=inner.type)
        return self._unique(node, ("negation", id(inner)), invariant=self.is_invariant(inner))

    def _chain(self, expr: ast.Binary) -> Node:
        """Builds operators of one precedence without recursion: they may be thousands deep."""
        chain = [expr]
        while isinstance(chain[-1].lhs, ast.Binary):
            chain.append(chain[-1].lhs)
        left = self.build(chain[-1].lhs)
        for binary in checked(reversed(chain), self._check):
            left = self._binary(binary, left, self.build(binary.rhs))
        return left

    def _binary(self, expr: ast.Binary, lhs: Node, rhs: Node) -> Node:
        if isinstance(lhs, nodes.Number) and isinstance(rhs, nodes.Number):
            return self._number(scalar_operation(expr.op, lhs.value, rhs.value), expr.span)
        if expr.op in ("and", "unless") and expr.matching is not None:
            rhs = self._narrowed(lhs, rhs, expr.matching)
        invariant = self.is_invariant(lhs) and self.is_invariant(rhs)
        if not invariant:
            lhs, rhs = self.invariant(lhs), self.invariant(rhs)
        scalar = lhs.type is rhs.type is ValueType.SCALAR
        node = nodes.BinaryOperation(
            expr.op,
            lhs,
            rhs,
            expr.return_bool,
            expr.matching,
            span=expr.span,
            type=ValueType.SCALAR if scalar else ValueType.VECTOR,
        )
        key = ("binary", expr.op, id(lhs), id(rhs), expr.return_bool, expr.matching)
        return self._unique(node, key, invariant=invariant)

    def _narrowed(self, lhs: Node, rhs: Node, matching: ast.VectorMatching) -> Node:
        """`rhs` narrowed by the equality matchers of `lhs` on labels that both must share."""
        if not isinstance(lhs, nodes.InstantSelect) or not isinstance(rhs, nodes.InstantSelect):
            return rhs
        pushed = tuple(
            m
            for m in lhs.selector.matchers
            if m.op is MatchOp.EQUAL
            and m.name != METRIC_NAME
            and (m.name in matching.labels) == matching.on
            and m not in rhs.selector.matchers
        )
        if not pushed:
            return rhs
        selector = replace(rhs.selector, matchers=rhs.selector.matchers + pushed)
        node = nodes.InstantSelect(selector, span=rhs.span)
        return self._unique(node, ("instant", selector), invariant=self.is_invariant(rhs))


def _fusible(node: Node) -> nodes.InstantSelect | nodes.RangeCall | None:
    """`node` if a kernel can take the samples under it straight to groups."""
    if isinstance(node, nodes.InstantSelect):
        return None if node.selector.smoothed else node
    if not isinstance(node, nodes.RangeCall) or not isinstance(node.source, nodes.RangeSelect):
        return None
    if node.name == "absent_over_time":
        return None
    extended = node.source.selector.anchored or node.source.selector.smoothed
    return None if extended else node


def _inner_span(expr: ast.Expr) -> Span:
    """Where `expr` stands, without its parentheses."""
    while isinstance(expr, ast.Paren):
        expr = expr.expr
    return expr.span


def _call_node(call: ast.Call, args: list[Node]) -> Node:
    spans = tuple(map(_inner_span, call.args))
    for i, arg in enumerate(args):
        source = arg.expr if isinstance(arg, nodes.Invariant) else arg
        if isinstance(source, nodes.RangeSelect | nodes.SubquerySelect):
            # Upstream knows no position of a subquery that is evaluated.
            is_subquery = i == 0 and isinstance(source, nodes.SubquerySelect)
            return nodes.RangeCall(
                FUNCTIONS[call.func],
                source,
                (*args[:i], *args[i + 1 :]),
                ast.NOWHERE if is_subquery else spans[0],
                span=call.span,
            )
    return nodes.FunctionCall(
        call.func, tuple(args), spans, span=call.span, type=FUNCTIONS[call.func].returns
    )
