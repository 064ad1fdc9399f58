"""Arithmetic of the sums in rollup rows, for kernels that merge them.

Sums: Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", 1974; the
product in the shift of m2 by Dekker, "A floating-point technique for extending the available
precision", 1971.
"""

from __future__ import annotations

import math

from varve.model.compiled import inline
from varve.rollups.algebra import WIDE

# Beyond it the square of the distance to the next double is infinite.
_HUGE = 1e300


@inline
def add(total: float, error: float, value: float) -> tuple[float, float]:
    """Neumaier: total + error grows by value. An infinite total has no error."""
    new = total + value
    if not math.isfinite(new):
        return new, 0.0
    if abs(total) >= abs(value):
        return new, error + ((total - new) + value)
    return new, error + ((value - new) + total)


@inline
def widened(total: float, error: float) -> tuple[float, float]:
    """The columns sum and sum_error of a total that was taken of values times WIDE."""
    whole = total / WIDE
    if math.isinf(whole):
        return whole, total + error
    return whole, error / WIDE


@inline
def infinite(low: float, high: float) -> float:
    """Sum of values of which one at least is infinite."""
    if low == -math.inf:
        return math.nan if high == math.inf else -math.inf
    return math.inf


@inline
def shifted(m2: float, count: int, total: float, error: float, base: float, to: float) -> float:
    """Sum of (v - to)^2 from the sum of (v - base)^2: m2 + 2 d S + n d^2, d = base - to and
    S the sum of (v - base), which cancels and so is taken in twice the precision.
    """
    d = base - to
    if d == 0.0:
        return m2
    if abs(base) > _HUGE or abs(to) > _HUGE or math.isinf(m2):
        return math.inf
    n = float(count)
    product = n * base
    # Dekker's split of both into halves whose products are exact.
    c = 134217729.0 * base
    high = c - (c - base)
    low = base - high
    c = 134217729.0 * n
    n_high = c - (c - n)
    n_low = n - n_high
    rest = ((n_high * high - product) + n_high * low + n_low * high) + n_low * low
    deviation = (total - product) + (error - rest)
    moved = m2 + d * (2.0 * deviation + n * d)
    if math.isnan(moved):
        return math.inf
    # base is one of the values, so no less is possible: rounding must not make it so.
    return max(moved, d * d)
