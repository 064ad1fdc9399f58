"""Computes deriv, predict_linear and double_exponential_smoothing over one window.

Source: Prometheus, promql/functions.go.
"""

from __future__ import annotations

import math

from varve.model.compiled import inline
from varve.promql.kernels.kahan import kahan_sum
from varve.promql.kernels.types import F64, I64


@inline
def linear_regression(
    ts: I64, values: F64, low: int, high: int, intercept_ms: int
) -> tuple[float, float]:
    """Slope per second and value at intercept_ms of the line through two samples or more."""
    n = float(high - low)
    initial = values[low]
    constant = True
    sum_x = sum_y = sum_xy = sum_x2 = 0.0
    c_x = c_y = c_xy = c_x2 = 0.0
    for i in range(low, high):
        y = values[i]
        if constant and i > low and y != initial:
            constant = False
        x = (ts[i] - intercept_ms) / 1000.0
        sum_x, c_x = kahan_sum(x, sum_x, c_x)
        sum_y, c_y = kahan_sum(y, sum_y, c_y)
        sum_xy, c_xy = kahan_sum(x * y, sum_xy, c_xy)
        sum_x2, c_x2 = kahan_sum(x * x, sum_x2, c_x2)
    if constant:
        if math.isinf(initial):
            return math.nan, math.nan
        return 0.0, initial
    sum_x += c_x
    sum_y += c_y
    sum_xy += c_xy
    sum_x2 += c_x2
    covariance = sum_xy - sum_x * sum_y / n
    variance = sum_x2 - sum_x * sum_x / n
    slope = covariance / variance
    return slope, sum_y / n - slope * sum_x / n


@inline
def smoothed_value(
    values: F64, low: int, high: int, smoothing: float, trend_factor: float
) -> float:
    """The last level of double exponential smoothing; takes two samples at least."""
    level_before = 0.0
    level = values[low]
    trend = values[low + 1] - values[low]
    for i in range(low + 1, high):
        if i > low + 1:
            trend = trend_factor * (level - level_before) + (1.0 - trend_factor) * trend
        x = smoothing * values[i]
        y = (1.0 - smoothing) * (level + trend)
        level_before, level = level, x + y
    return level
