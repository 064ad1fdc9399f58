"""Prints trees as PromQL. What is printed parses to an equal tree.

The form is upstream's Expr.String(): matchers sorted, modifiers in the order range, extension, @,
offset. Source: Prometheus 3, promql/parser/printer.go. Where upstream's text would not parse back
to the same tree, this one differs: `ignoring ()` before a group modifier, labels called inf,
nan or without in quotes, durations of no whole number of milliseconds as numbers, U+FFFD escaped.
"""

from __future__ import annotations

import math
import re

from varve.promql.syntax.ast import (
    Aggregate,
    At,
    Binary,
    Call,
    Cardinality,
    Duration,
    DurationExpr,
    Expr,
    Matcher,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
)
from varve.promql.syntax.literals import duration_ms, format_duration, format_number, quote

METRIC_LABEL = "__name__"

_PLAIN_LABEL = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_PLAIN_MATCHED = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_INFINITY = NumberLiteral(math.inf)
_DURATION_FUNCTIONS = {"step": "step", "range": "range", "min": "min_of", "max": "max_of"}


def to_text(expr: Expr, *, followed: bool = False) -> str:
    """`expr` on one line. followed: an operator may come after it."""
    parts: list[str] = []
    _write(expr, parts, followed=followed)
    return "".join(parts)


def _write(expr: Expr, out: list[str], *, followed: bool = False) -> None:
    match expr:
        case Binary():
            _write_chain(expr, out, followed=followed)
        case VectorSelector():
            out.append(_bare_selector(expr) + at_text(expr.at))
            out.append(_extension(expr) + offset_text(expr.offset, followed=followed))
        case MatrixSelector(selector=selector):
            out.append(f"{_bare_selector(selector)}[{duration_text(expr.range)}]")
            out.append(_extension(selector) + at_text(selector.at))
            out.append(offset_text(selector.offset, followed=followed))
        case Call():
            out.append(f"{expr.func}(")
            _write_list(expr.args, out)
        case Aggregate():
            out.append(f"{aggregate_head(expr)}(")
            _write_list((expr.expr,) if expr.param is None else (expr.param, expr.expr), out)
        case Paren():
            out.append("(")
            _write_list((expr.expr,), out)
        case Unary():
            out.append(expr.op)
            _write(expr.expr, out, followed=followed)
        case Subquery():
            _write(expr.expr, out)
            out.append(subquery_suffix(expr, followed=followed))
        case NumberLiteral():
            out.append(_number(expr))
        case StringLiteral():
            out.append(_quoted(expr.value))


def _write_list(exprs: tuple[Expr, ...], out: list[str]) -> None:
    """Writes `exprs` and the closing parenthesis."""
    for place, expr in enumerate(exprs):
        if place:
            out.append(", ")
        _write(expr, out)
    out.append(")")


def _write_chain(expr: Binary, out: list[str], *, followed: bool) -> None:
    chain = [expr]
    while isinstance(chain[-1].lhs, Binary):
        chain.append(chain[-1].lhs)
    if chain[-1].op == "^" and chain[-1].lhs == _INFINITY:
        out.append("Inf")  # +Inf ^ 2 would be +(Inf ^ 2)
    else:
        _write(chain[-1].lhs, out, followed=True)
    for binary in reversed(chain):
        out.append(f" {operator_text(binary)} ")
        _write(binary.rhs, out, followed=followed or binary is not expr)


def operator_text(expr: Binary) -> str:
    """The operator and what stands between it and the right side."""
    text = f"{expr.op} bool" if expr.return_bool else expr.op
    return text if expr.matching is None else text + _matching(expr.matching)


def _matching(matching: VectorMatching) -> str:
    text = ""
    grouped = matching.cardinality in (Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY)
    if matching.labels or matching.on or grouped:
        text = f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if grouped:
        side = "left" if matching.cardinality is Cardinality.MANY_TO_ONE else "right"
        text += f" group_{side} ({_labels(matching.include)})"
    left, right = matching.fill_lhs, matching.fill_rhs
    if left is not None and (left is right or left == right):
        return f"{text} fill ({format_number(left)})"
    if left is not None:
        text += f" fill_left ({format_number(left)})"
    if right is not None:
        text += f" fill_right ({format_number(right)})"
    return text


def aggregate_head(expr: Aggregate) -> str:
    """The operator and its grouping."""
    if expr.without:
        return f"{expr.op} without ({_labels(expr.grouping)}) "
    return f"{expr.op} by ({_labels(expr.grouping)}) " if expr.grouping else expr.op


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(map(_label, names))


def _label(name: str) -> str:
    if _PLAIN_LABEL.fullmatch(name) and name.lower() not in ("inf", "nan", "without"):
        return name
    return _quoted(name)


def matcher_text(matcher: Matcher) -> str:
    name = matcher.name
    if not _PLAIN_MATCHED.fullmatch(name):
        name = _quoted(name)
    return f"{name}{matcher.op.value}{_quoted(matcher.value)}"


def _quoted(text: str) -> str:
    return quote(text).replace("\ufffd", "\\ufffd")


def _bare_selector(selector: VectorSelector) -> str:
    matchers = selector.matchers
    if selector.name:
        own = Matcher(METRIC_LABEL, MatchOp.EQUAL, selector.name)
        matchers = tuple(matcher for matcher in matchers if matcher != own)
        if not matchers:
            return selector.name
    return f"{selector.name}{{{','.join(sorted(map(matcher_text, matchers)))}}}"


def _extension(selector: VectorSelector) -> str:
    if selector.anchored:
        return " anchored"
    return " smoothed" if selector.smoothed else ""


def at_text(at: At | None) -> str:
    if at is None:
        return ""
    if isinstance(at.at, str):
        return f" @ {at.at}()"
    seconds, ms = divmod(abs(at.at), 1000)
    return f" @ {'-' if at.at < 0 else ''}{seconds}.{ms:03d}"


def offset_text(offset: Duration | None, *, followed: bool = False) -> str:
    """` offset d`, or "". A sign keeps an operator after it out of its arithmetic."""
    if offset is None:
        return ""
    text = duration_text(offset)
    return f" offset {'+' if followed and text.startswith('(') else ''}{text}"


def subquery_suffix(expr: Subquery, *, followed: bool = False) -> str:
    """The brackets and modifiers of a subquery."""
    step = "" if expr.step is None else duration_text(expr.step)
    brackets = f"[{duration_text(expr.range)}:{step}]"
    return brackets + at_text(expr.at) + offset_text(expr.offset, followed=followed)


def duration_text(duration: Duration) -> str:
    """A duration as it stands in brackets or after offset."""
    if isinstance(duration, NumberLiteral):
        return _number(duration)
    text = _duration_operation(duration)
    return f"({text})" if duration.wrapped else text


def _duration_operation(duration: DurationExpr) -> str:
    op, lhs, rhs = duration.op, duration.lhs, duration.rhs
    if op in _DURATION_FUNCTIONS:
        args = ", ".join(duration_text(arg) for arg in (lhs, rhs) if arg is not None)
        return f"{_DURATION_FUNCTIONS[op]}({args})"
    right = "" if rhs is None else duration_text(rhs)
    return op + right if lhs is None else f"{duration_text(lhs)} {op} {right}"


def _number(number: NumberLiteral) -> str:
    if number.is_duration and duration_ms(number.value) / 1000 == number.value:
        return format_duration(number.value)
    return format_number(number.value)
