"""Lays a tree out over lines no longer than 100 characters, for people to read.

Source: Prometheus 3, promql/parser/prettier.go.
"""

from __future__ import annotations

from itertools import islice

from varve.promql.syntax.ast import Aggregate, Binary, Call, Expr, Paren, Subquery, Unary
from varve.promql.syntax.printer import aggregate_head, operator_text, subquery_suffix, to_text
from varve.promql.syntax.tree import walk

LINE_WIDTH = 100
INDENT = "  "
MAX_LEVEL = 64
"""The deepest indentation, in levels, so that the text of a long chain of operators stays short."""


def pretty(expr: Expr) -> str:
    """`expr` as PromQL. What fits a line is on one line, and the rest is split at its parts."""
    return _layout(expr, 0)


def _layout(expr: Expr, level: int, *, followed: bool = False) -> str:
    """`expr` at a level of indentation. followed: an operator may come on the next line."""
    if isinstance(expr, Unary):
        inner = _layout(expr.expr, level, followed=followed)
        return f"{_indent(level)}{expr.op}{inner.strip()}"
    if _fits(expr):
        return _indent(level) + to_text(expr, followed=followed)
    match expr:
        case Binary():
            return _chain(expr, level, followed=followed)
        case Aggregate():
            parts = [expr.expr] if expr.param is None else [expr.param, expr.expr]
            return _split(aggregate_head(expr), parts, level)
        case Call() if expr.args:
            return _split(expr.func, list(expr.args), level)
        case Paren():
            return _split("", [expr.expr], level)
        case Subquery():
            return _layout(expr.expr, level) + subquery_suffix(expr, followed=followed)
    return _indent(level) + to_text(expr, followed=followed)


def _indent(level: int) -> str:
    return INDENT * min(level, MAX_LEVEL)


def _fits(expr: Expr) -> bool:
    # Each node takes a character or more: a long text need not be made to see that it is long.
    if next(islice(walk(expr), LINE_WIDTH, None), None) is not None:
        return False
    return len(to_text(expr).encode("utf-8", "surrogateescape")) <= LINE_WIDTH


def _chain(expr: Binary, level: int, *, followed: bool) -> str:
    """Puts the left side, the operator and the right side on lines of their own, level by level."""
    spine = [expr]
    while isinstance(spine[-1].lhs, Binary):
        spine.append(spine[-1].lhs)
    # Each operator takes two characters or more, so only the innermost can fit.
    first = max(0, len(spine) - LINE_WIDTH // 2)
    split = next((i for i in range(first, len(spine)) if _fits(spine[i])), len(spine))
    left = spine[split] if split < len(spine) else spine[-1].lhs
    del spine[split:]
    lines = [_layout(left, level + len(spine), followed=True)]
    for depth in range(len(spine) - 1, -1, -1):
        lines.append(_indent(level + depth) + operator_text(spine[depth]))
        is_last = depth == 0 and not followed
        lines.append(_layout(spine[depth].rhs, level + depth + 1, followed=not is_last))
    return "\n".join(lines)


def _split(head: str, parts: list[Expr], level: int) -> str:
    indent = _indent(level)
    body = ",\n".join(_layout(part, level + 1) for part in parts)
    return f"{indent}{head}(\n{body}\n{indent})"
