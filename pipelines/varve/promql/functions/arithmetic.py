"""Functions of each float sample: rounding, logarithms, trigonometry, clamping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import numpy as np

from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.kernel_blocks import elementwise
from varve.promql.evaluation.values import Float64s, Matrix, Scalar, Steps
from varve.promql.kernels.float_operators import go_max, go_min
from varve.promql.plan.nodes import FunctionCall

Elementwise = Callable[[Any], Any]

_HALF_OF_EXP: Final = 21.0
"""From here on Go takes half of exp(x) for sinh(x) and cosh(x)."""


def _each(function: Elementwise, ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    matrix = ev.matrix(node.args[0], steps)
    with np.errstate(all="ignore"):
        values = elementwise(ev.check, function, matrix.values)
    return matrix.with_values(values, matrix.float_mask())


def _sign(values: Float64s) -> Float64s:
    """-1 or 1; zeros and NaN stay what they are."""
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


def _sinh(values: Float64s) -> Float64s:
    """Computes sinh as Go's math.Sinh, which overflows where exp does, before the result would."""
    return np.where(
        np.abs(values) > _HALF_OF_EXP, np.copysign(_half_exp(values), values), np.sinh(values)
    )


def _cosh(values: Float64s) -> Float64s:
    """Computes cosh as Go's math.Cosh, which overflows where exp does, before the result would."""
    return np.where(np.abs(values) > _HALF_OF_EXP, _half_exp(values), np.cosh(values))


def _half_exp(values: Float64s) -> Float64s:
    return np.exp(np.abs(values)) * 0.5


def _clamp(values: Float64s, low: Float64s, high: Float64s) -> Any:
    return go_max(low, go_min(high, values))


def _clamped(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    matrix = ev.matrix(node.args[0], steps)
    low = np.full(steps.count, -math.inf)
    high = np.full(steps.count, math.inf)
    if node.func == "clamp":
        low, high = ev.scalar(node.args[1], steps), ev.scalar(node.args[2], steps)
    elif node.func == "clamp_min":
        low = ev.scalar(node.args[1], steps)
    else:
        high = ev.scalar(node.args[1], steps)
    shape = matrix.values.shape
    bounds = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    values = elementwise(ev.check, _clamp, matrix.values, *bounds)
    return matrix.with_values(values, matrix.float_mask() & ~(high < low))


def _round_to(values: Float64s, inverse: Float64s) -> Float64s:
    return np.floor(values * inverse + 0.5) / inverse


def _round(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    """Rounds to the nearest multiple of the second argument; ties go up."""
    matrix = ev.matrix(node.args[0], steps)
    nearest = ev.scalar(node.args[1], steps) if len(node.args) > 1 else np.ones(steps.count)
    with np.errstate(all="ignore"):
        inverse = np.broadcast_to(1.0 / nearest, matrix.values.shape)
        values = elementwise(ev.check, _round_to, matrix.values, inverse)
    return matrix.with_values(values, matrix.float_mask())


def _of_two(ev: Evaluation, node: FunctionCall, steps: Steps) -> Scalar:
    choose = go_max if node.func == "max_of" else go_min
    left, right = ev.scalar(node.args[0], steps), ev.scalar(node.args[1], steps)
    return cast(Scalar, choose(left, right))


_ELEMENTWISE: dict[str, Elementwise] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "sgn": _sign,
    "sqrt": np.sqrt,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "cos": np.cos,
    "cosh": _cosh,
    "sin": np.sin,
    "sinh": _sinh,
    "tan": np.tan,
    "tanh": np.tanh,
    "deg": lambda values: values * 180 / math.pi,
    "rad": lambda values: values * math.pi / 180,
}

IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    **{name: partial(_each, function) for name, function in _ELEMENTWISE.items()},
    "clamp": _clamped,
    "clamp_max": _clamped,
    "clamp_min": _clamped,
    "round": _round,
    "max_of": _of_two,
    "min_of": _of_two,
}
