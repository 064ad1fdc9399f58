"""Applies binary operators to floats, elementwise, as Go computes them.

Source: Prometheus, promql/engine.go, scalarBinop and vectorElemBinop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from varve.promql.errors import QueryError

Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SET_OPERATORS: Final = frozenset({"and", "or", "unless"})
TRIM_OPERATORS: Final = frozenset({"</", ">/"})

ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.float_power,
    "atan2": np.arctan2,
}
"""Operators that give a new value, without the name, type and unit of the operand."""

COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
"""Operators that keep or drop a sample, or with `bool` give 1 or 0."""


def go_max(left: Any, right: Any) -> Any:
    """The greater as Go's math.Max has it: NaN beats numbers, +Inf beats NaN, 0 is above -0."""
    with np.errstate(invalid="ignore"):
        found = np.maximum(left, right)
    zeros = (left == 0) & (right == 0)
    found = np.where(zeros & ~(np.signbit(left) & np.signbit(right)), 0.0, found)
    return np.where((left == np.inf) | (right == np.inf), np.inf, found)


def go_min(left: Any, right: Any) -> Any:
    """The lesser as Go's math.Min has it: NaN beats numbers, -Inf beats NaN, -0 is below 0."""
    return -go_max(np.negative(left), np.negative(right))


def scalar_operation(op: str, left: float, right: float) -> float:
    """`left op right` for two scalars; a comparison gives 1 or 0. QueryError if it trims."""
    return float(scalar_operations(op, np.float64(left), np.float64(right)))


def scalar_operations(op: str, left: Any, right: Any) -> Any:
    """`scalar_operation` on arrays."""
    if op in TRIM_OPERATORS:
        raise QueryError(f'operator "{op}" not allowed for Scalar operations')
    with np.errstate(all="ignore"):
        if op in COMPARISONS:
            return COMPARISONS[op](left, right).astype(np.float64)
        return ARITHMETIC[op](left, right)
