"""Parses what may follow an operand: a range or subquery, offset, @, anchored, smoothed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, cast

from varve.promql.syntax import duration_parser
from varve.promql.syntax.ast import (
    At,
    Duration,
    Expr,
    MatrixSelector,
    Span,
    StartOrEnd,
    Subquery,
    VectorSelector,
)
from varve.promql.syntax.cursor import Cursor, ParseError
from varve.promql.syntax.literals import format_number

_PRECEDED = (
    "modifier must be preceded by an instant vector selector or range vector selector or a subquery"
)


def _brackets(c: Cursor, expr: Expr) -> Expr:
    start = c.start
    c.advance()
    context = "subquery or range selector"
    duration = duration_parser.within(
        c, duration_parser.positive, context, duration_parser.EXPECTED
    )
    if not c.accept(":"):
        if not c.accept("]"):
            raise c.unexpected("subquery or range", '":" or "]"')
        return _with_range(c, expr, duration, Span(start, c.read_to))
    step, expected = None, 'number, duration, step(), range(), or "]"'
    if c.kind != "]":
        step = duration_parser.within(c, duration_parser.positive, "subquery selector", expected)
    if not c.accept("]"):
        raise c.unexpected("subquery selector", '"]"')
    span = Span(expr.span.start, c.read_to)
    if isinstance(expr, Subquery | MatrixSelector):
        # The type check would come too late: nothing else bounds how deep these are nested.
        raise c.error("subquery is only allowed on instant vector, got matrix instead", span)
    return Subquery(expr, duration, step, span=span)


def _offset(c: Cursor, expr: Expr) -> Expr:
    c.advance()
    return _with_offset(
        c,
        expr,
        duration_parser.within(c, duration_parser.offset, "offset", duration_parser.EXPECTED),
    )


def _at(c: Cursor, expr: Expr) -> Expr:
    c.advance()
    try:
        at = _time(c, expr)
    except ParseError as error:
        if error.placed:
            raise
        raise c.unexpected("@", "timestamp") from None
    return _with_at(c, expr, at)


def _time(c: Cursor, expr: Expr) -> At:
    if c.kind in ("start", "end"):
        word = cast("StartOrEnd", c.kind)
        c.advance()
        c.expect("(")
        c.expect(")")
        return At(word)
    seconds = duration_parser.signed_number(c)
    if not abs(seconds) < 2**63:
        shown = f"{seconds:f}" if math.isfinite(seconds) else format_number(seconds)
        raise c.error(f"timestamp out of bounds for @ modifier: {shown}", expr.span)
    return At(_round_half_away(seconds * 1000))


def _round_half_away(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _extension(c: Cursor, expr: Expr) -> Expr:
    word = c.kind
    c.advance()
    return _with_extension(c, expr, word)


def _with_range(c: Cursor, expr: Expr, duration: Duration, brackets: Span) -> MatrixSelector:
    if not isinstance(expr, VectorSelector):
        raise c.error("ranges only allowed for vector selectors", brackets)
    if expr.offset is not None:
        raise c.error("no offset modifiers allowed before range", brackets)
    if expr.at is not None:
        raise c.error("no @ modifiers allowed before range", brackets)
    return MatrixSelector(expr, duration, Span(expr.span.start, brackets.end))


def _with_offset(c: Cursor, expr: Expr, offset: Duration | None) -> Expr:
    target = _target(expr)
    if target is None:
        raise c.error(f"offset {_PRECEDED}", expr.span)
    if target.offset is not None:
        raise c.error("offset may not be set multiple times", expr.span)
    return _changed(c, expr, offset=offset, at=target.at)


def _with_at(c: Cursor, expr: Expr, at: At) -> Expr:
    target = _target(expr)
    if target is None:
        raise c.error(f"@ {_PRECEDED}", expr.span)
    if target.at is not None:
        raise c.error("@ <timestamp> may not be set multiple times", expr.span)
    return _changed(c, expr, offset=target.offset, at=at)


def _target(expr: Expr) -> VectorSelector | Subquery | None:
    """The node that holds the modifiers of `expr`."""
    if isinstance(expr, MatrixSelector):
        return expr.selector
    return expr if isinstance(expr, VectorSelector | Subquery) else None


def _changed(c: Cursor, expr: Expr, *, offset: Duration | None, at: At | None) -> Expr:
    span = Span(expr.span.start, c.read_to)
    match expr:
        case Subquery():
            return Subquery(expr.expr, expr.range, expr.step, offset, at, span)
        case MatrixSelector(selector=inner):
            return MatrixSelector(_selector(inner, offset, at, inner.span), expr.range, span)
        case VectorSelector():
            return _selector(expr, offset, at, span)
    raise TypeError(f"holds no modifiers: {expr!r}")


def _selector(
    old: VectorSelector, offset: Duration | None, at: At | None, span: Span
) -> VectorSelector:
    return VectorSelector(old.name, old.matchers, offset, at, old.anchored, old.smoothed, span)


def _with_extension(c: Cursor, expr: Expr, word: str) -> Expr:
    """Applies `anchored` or `smoothed`, which leave the positions as they are."""
    if isinstance(expr, Subquery):
        raise c.error(f"{word} modifier is not supported for subqueries", expr.span)
    if isinstance(expr, MatrixSelector):
        return MatrixSelector(_extended(c, expr, expr.selector, word), expr.range, expr.span)
    if isinstance(expr, VectorSelector):
        return _extended(c, expr, expr, word)
    raise c.error(f"{word} modifier not implemented", expr.span)


def _extended(c: Cursor, expr: Expr, old: VectorSelector, word: str) -> VectorSelector:
    anchored, smoothed = old.anchored or word == "anchored", old.smoothed or word == "smoothed"
    if anchored and smoothed:
        raise c.error("anchored and smoothed modifiers cannot be used together", expr.span)
    return VectorSelector(old.name, old.matchers, old.offset, old.at, anchored, smoothed, old.span)


MODIFIERS: Final[dict[str, Callable[[Cursor, Expr], Expr]]] = {
    "[": _brackets,
    "offset": _offset,
    "@": _at,
    "anchored": _extension,
    "smoothed": _extension,
}
"""What applies a modifier to the operand before it, by the kind of the token that starts it."""
