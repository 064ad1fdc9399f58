"""Compensated sums, which keep what rounding cuts off."""

from __future__ import annotations

import math

from varve.model.compiled import inline


@inline
def kahan_sum(increment: float, total: float, compensation: float) -> tuple[float, float]:
    """(total, compensation) after adding `increment`, by Neumaier's variant of Kahan's sum."""
    t = total + increment
    if math.isinf(t):
        return t, 0.0
    if abs(total) >= abs(increment):
        return t, compensation + ((total - t) + increment)
    return t, compensation + ((increment - t) + total)
