"""Writes syntax trees in the shape of Prometheus' /api/v1/parse_query.

Source: Prometheus 3, web/api/v1/translate_ast.go.
"""

from __future__ import annotations

from typing import Any

from varve.promql.errors import BadQueryError
from varve.promql.function_table import FUNCTIONS
from varve.promql.syntax.ast import (
    Aggregate,
    At,
    Binary,
    Call,
    Duration,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
)
from varve.promql.syntax.literals import duration_ms, format_number
from varve.promql.syntax.tree import height

Json = dict[str, Any]

MAX_HEIGHT = 300
"""The highest tree. json.dumps can recurse over two levels of JSON for each of its levels."""

_DURATION_FUNCTIONS = {"min": "min_of", "max": "max_of"}


def to_json(expr: Expr) -> Json:
    """`expr` in what json.dumps takes. Durations and times are in ms.

    A string's bytes that are no UTF-8 become U+FFFD, and a fill of NaN or infinity a string,
    since JSON has neither. Raises BadQueryError above MAX_HEIGHT, because encoders recurse.
    """
    if (found := height(expr)) > MAX_HEIGHT:
        raise BadQueryError(f"the tree is {found} levels high; at most {MAX_HEIGHT} are shown")
    return _node(expr)


def _node(expr: Expr) -> Json:
    spine: list[Binary] = []
    while isinstance(expr, Binary):
        spine.append(expr)
        expr = expr.lhs
    found = _operand(expr)
    for binary in reversed(spine):
        found = {
            "type": "binaryExpr",
            "op": binary.op,
            "lhs": found,
            "rhs": _node(binary.rhs),
            "matching": None if binary.matching is None else _matching(binary.matching),
            "bool": binary.return_bool,
        }
    return found


def _operand(expr: Expr) -> Json:
    match expr:
        case VectorSelector():
            return {"type": "vectorSelector", **_selector(expr)}
        case MatrixSelector():
            return {
                "type": "matrixSelector",
                **_duration("range", expr.range),
                **_selector(expr.selector),
            }
        case Subquery():
            return {
                "type": "subquery",
                "expr": _node(expr.expr),
                **_duration("range", expr.range),
                **_duration("offset", expr.offset),
                **_duration("step", expr.step),
                **_at(expr.at),
            }
        case Call():
            signature = FUNCTIONS[expr.func]
            return {
                "type": "call",
                "func": {
                    "name": signature.name,
                    "argTypes": [arg.value for arg in signature.args],
                    "variadic": signature.variadic,
                    "returnType": signature.returns.value,
                },
                "args": [_node(arg) for arg in expr.args],
            }
        case Aggregate():
            return {
                "type": "aggregation",
                "op": expr.op,
                "expr": _node(expr.expr),
                "param": None if expr.param is None else _node(expr.param),
                "grouping": [_text(label) for label in expr.grouping],
                "without": expr.without,
            }
        case Paren():
            return {"type": "parenExpr", "expr": _node(expr.expr)}
        case Unary():
            return {"type": "unaryExpr", "op": expr.op, "expr": _node(expr.expr)}
        case NumberLiteral():
            return {"type": "numberLiteral", "val": format_number(expr.value)}
        case StringLiteral():
            return {"type": "stringLiteral", "val": _text(expr.value)}
    raise TypeError(f"no expression: {expr!r}")


def _selector(selector: VectorSelector) -> Json:
    return {
        "name": selector.name,
        **_duration("offset", selector.offset),
        "matchers": [
            {"name": _text(matcher.name), "value": _text(matcher.value), "type": matcher.op.value}
            for matcher in selector.matchers
        ],
        **_at(selector.at),
        "anchored": selector.anchored,
        "smoothed": selector.smoothed,
    }


def _at(at: At | None) -> Json:
    fixed = at is not None and isinstance(at.at, int)
    return {
        "timestamp": at.at if at is not None and fixed else None,
        "startOrEnd": None if at is None or fixed else at.at,
    }


def _duration(key: str, duration: Duration | None) -> Json:
    """A literal's value under `key`, or 0 and the expression beside it."""
    if isinstance(duration, DurationExpr):
        return {key: 0, f"{key}Expr": _duration_expr(duration)}
    return {key: 0 if duration is None else duration_ms(duration.value), f"{key}Expr": None}


def _duration_expr(duration: Duration | None) -> Json | None:
    if duration is None:
        return None
    if isinstance(duration, NumberLiteral):
        value = format_number(duration.value)
        return {"type": "numberLiteral", "val": value, "duration": duration.is_duration}
    return {
        "type": "durationExpr",
        "op": _DURATION_FUNCTIONS.get(duration.op, duration.op),
        "lhs": _duration_expr(duration.lhs),
        "rhs": _duration_expr(duration.rhs),
        "wrapped": duration.wrapped,
    }


def _matching(matching: VectorMatching) -> Json:
    return {
        "card": matching.cardinality.value,
        "labels": [_text(label) for label in matching.labels],
        "on": matching.on,
        "include": [_text(label) for label in matching.include],
        "fillValues": {"lhs": _fill(matching.fill_lhs), "rhs": _fill(matching.fill_rhs)},
    }


def _fill(value: float | None) -> float | str | None:
    if value is None or abs(value) < float("inf"):
        return value
    return format_number(value)


def _text(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
