"""Walks through syntax trees, and changes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from varve.promql.syntax.ast import (
    Aggregate,
    At,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    Paren,
    Subquery,
    Unary,
    VectorSelector,
)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly below `expr`, in reading order. Durations are not among them."""
    match expr:
        case Binary():
            return (expr.lhs, expr.rhs)
        case Call():
            return expr.args
        case Aggregate():
            return (expr.expr,) if expr.param is None else (expr.param, expr.expr)
        case Paren() | Unary() | Subquery():
            return (expr.expr,)
        case MatrixSelector():
            return (expr.selector,)
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """`expr` and all below it, each before its children, in reading order."""
    pending = [expr]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(children(node)))


def height(expr: Expr) -> int:
    """How many nodes are on the longest way down. A leaf has 1."""
    deepest, pending = 0, [(expr, 1)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        pending.extend((child, depth + 1) for child in children(node))
    return deepest


def pin_at(expr: Expr, t_ms: int) -> Expr:
    """`expr` changed so that it gives what it does at `t_ms`, whenever it is evaluated.

    Every selector and subquery without @ gets one. What is inside a subquery stays: its steps
    are set by the subquery.
    """
    match expr:
        case VectorSelector():
            return replace(expr, at=At(t_ms)) if expr.at is None else expr
        case MatrixSelector(selector=selector):
            if selector.at is not None:
                return expr
            return replace(expr, selector=replace(selector, at=At(t_ms)))
        case Subquery():
            return replace(expr, at=At(t_ms)) if expr.at is None else expr
        case Binary():
            return _pin_chain(expr, t_ms)
        case Call():
            return replace(expr, args=tuple(pin_at(arg, t_ms) for arg in expr.args))
        case Aggregate():
            param = None if expr.param is None else pin_at(expr.param, t_ms)
            return replace(expr, expr=pin_at(expr.expr, t_ms), param=param)
        case Paren() | Unary():
            return replace(expr, expr=pin_at(expr.expr, t_ms))
    return expr


def _pin_chain(expr: Binary, t_ms: int) -> Expr:
    chain = [expr]
    while isinstance(chain[-1].lhs, Binary):
        chain.append(chain[-1].lhs)
    left = pin_at(chain[-1].lhs, t_ms)
    for binary in reversed(chain):
        left = replace(binary, lhs=left, rhs=pin_at(binary.rhs, t_ms))
    return left
