"""Turns durations into milliseconds. They may depend on the query's step and range.

Source: Prometheus, promql/durations.go.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from varve.promql.errors import QueryError
from varve.promql.syntax.ast import Duration, NumberLiteral
from varve.promql.syntax.literals import MAX_DURATION_S


@dataclass(frozen=True, slots=True)
class QueryRange:
    """Start, end and step of the whole query in Unix ms; an instant query has step 0."""

    start: int
    end: int
    step: int


def offset_ms(duration: Duration | None, query: QueryRange) -> int:
    """An offset in milliseconds, which may have either sign. None stands for 0."""
    return 0 if duration is None else _milliseconds(_seconds(duration, query))


def length_ms(duration: Duration, query: QueryRange) -> int:
    """A range or step in milliseconds. Raises QueryError if it is not above zero."""
    seconds = _seconds(duration, query)
    if seconds <= 0:
        raise QueryError("duration must be greater than 0")
    return _milliseconds(seconds)


def _milliseconds(seconds: float) -> int:
    if math.isnan(seconds) or abs(seconds) > MAX_DURATION_S:
        raise QueryError("duration is out of range")
    return int(round(seconds * 1e9) / 1e6)


def _seconds(duration: Duration, query: QueryRange) -> float:
    if isinstance(duration, NumberLiteral):
        return duration.value
    op = duration.op
    if op == "step":
        return query.step / 1000
    if op == "range":
        return (query.end - query.start) / 1000
    left = 0.0 if duration.lhs is None else _seconds(duration.lhs, query)
    right = 0.0 if duration.rhs is None else _seconds(duration.rhs, query)
    return _operate(op, left, right)


def _operate(op: str, left: float, right: float) -> float:
    if op in ("/", "%") and right == 0:
        raise QueryError("division by zero" if op == "/" else "modulo by zero")
    try:
        return _OPERATIONS[op](left, right)
    except (OverflowError, ZeroDivisionError, ValueError):
        return math.inf


_OPERATIONS: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
    "^": math.pow,
    "min": min,
    "max": max,
}
