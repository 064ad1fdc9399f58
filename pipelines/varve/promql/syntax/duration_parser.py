"""Parses durations: in brackets, where they are arithmetic, and after offset.

After offset, arithmetic needs parentheses: `foo offset 5m + 1` adds 1 to foo, and
`foo offset (5m + 1)` has the offset 5m1s. What starts with a parenthesis, or with two signs, is
read on, as upstream's grammar has it: `foo offset (5m) + 1` has that offset, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from varve.promql.syntax.ast import Duration, DurationExpr, NumberLiteral, Span
from varve.promql.syntax.cursor import Cursor, ParseError
from varve.promql.syntax.literals import MAX_DURATION_S, parse_duration, parse_number
from varve.promql.syntax.tokens import DURATION, NUMBER

EXPECTED = "number, duration, step(), or range()"

_T = TypeVar("_T")
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3}
_POWER = 3
_SIGNS = ("+", "-")
_OPERATIONS = {"step": "step", "range": "range", "min_of": "min", "max_of": "max"}


def literal(c: Cursor) -> NumberLiteral:
    """Reads a number or duration without a sign."""
    span, text = c.span, c.text
    try:
        if c.kind == DURATION:
            number = NumberLiteral(parse_duration(text), span, is_duration=True)
        else:
            number = NumberLiteral(parse_number(text), span)
    except ValueError as error:
        prefix = "" if c.kind == DURATION else "error parsing number: "
        raise c.error(f"{prefix}{error}", span) from None
    c.advance()
    return number


def signed_number(c: Cursor) -> float:
    """Reads a number, or a duration in seconds, with or without a sign."""
    sign = c.kind
    if sign in ("+", "-"):
        c.advance()
    if c.kind not in (NUMBER, DURATION):
        raise c.unexpected()
    return signed(sign, literal(c).value)


def signed(sign: str, value: float) -> float:
    """The value with its sign. NaN stays the one object, which trees take for equal to itself."""
    return -value if sign == "-" and not math.isnan(value) else value


def within(c: Cursor, rule: Callable[[Cursor], _T], context: str, expected: str) -> _T:
    """Reads a duration by `rule`. The error for an unexpected token names `context`."""
    try:
        return rule(c)
    except ParseError as error:
        if error.placed:
            raise
        raise c.unexpected(context, expected) from None


def positive(c: Cursor) -> Duration:
    """Reads the duration of a range or step. A literal must be above 0."""
    duration = expression(c)
    if isinstance(duration, NumberLiteral) and not duration.value > 0:
        raise c.error("duration must be greater than 0", duration.span)
    return written_as_duration(duration)


def offset(c: Cursor) -> Duration | None:
    """Reads what follows `offset`; None stands for a literal 0."""
    duration = _offset(c)
    if isinstance(duration, NumberLiteral) and not round(duration.value * 1e9):
        return None
    return written_as_duration(duration)


def written_as_duration(duration: Duration) -> Duration:
    """The duration, a literal marked as one: `[300]` and `[5m]` are equal."""
    if isinstance(duration, NumberLiteral) and not duration.is_duration:
        return NumberLiteral(duration.value, duration.span, is_duration=True)
    return duration


def _offset(c: Cursor) -> Duration:
    sign, start = c.kind, c.start
    if sign == "(" or (sign in _SIGNS and c.follower() in _SIGNS):
        duration = expression(c)
        if isinstance(duration, DurationExpr) and duration.op in _BINDING:
            # It is printed in parentheses, so that it means the same wherever it stands.
            return replace(duration, wrapped=duration.wrapped or duration.lhs is not None)
        return duration
    if sign not in _SIGNS:
        return _operand(c)
    c.advance()
    return _signed(c, sign, start, _operand(c))


def expression(c: Cursor, least: int = 1) -> Duration:
    c.descend()
    left = _operand(c)
    while (binding := _BINDING.get(c.kind, 0)) >= least:
        op, span = c.kind, c.span
        c.advance()
        right = expression(c, binding if op == "^" else binding + 1)
        if op in "/%" and isinstance(right, NumberLiteral) and right.value == 0:
            raise c.error("division by zero" if op == "/" else "modulo by zero", span)
        left = DurationExpr(op, left, right, span=Span(left.span.start, right.span.end))
    c.ascend()
    return left


def _operand(c: Cursor) -> Duration:
    kind, start = c.kind, c.start
    if kind in (NUMBER, DURATION):
        return _in_range(c, literal(c), start)
    if kind in ("+", "-"):
        c.advance()
        return _signed(c, kind, start, expression(c, _POWER))
    if kind == "(":
        c.advance()
        inner = expression(c)
        c.expect(")")
        if isinstance(inner, NumberLiteral):
            return inner
        return DurationExpr(inner.op, inner.lhs, inner.rhs, True, Span(start, c.read_to))
    if kind in _OPERATIONS:
        c.advance()
        c.expect("(")
        low = high = None
        if kind in ("min_of", "max_of"):
            low = expression(c)
            c.expect(",")
            high = expression(c)
        c.expect(")")
        return DurationExpr(_OPERATIONS[kind], low, high, span=Span(start, c.read_to))
    raise c.unexpected()


def _signed(c: Cursor, sign: str, start: int, duration: Duration) -> Duration:
    span = Span(start, duration.span.end)
    if isinstance(duration, NumberLiteral):
        value = signed(sign, duration.value)
        return _in_range(c, NumberLiteral(value, span, duration.is_duration), start)
    return DurationExpr("-", None, duration, span=span) if sign == "-" else duration


def _in_range(c: Cursor, number: NumberLiteral, start: int) -> NumberLiteral:
    if math.isnan(number.value) or abs(number.value) > MAX_DURATION_S:
        raise c.error("duration out of range", Span(start, number.span.end))
    return number
