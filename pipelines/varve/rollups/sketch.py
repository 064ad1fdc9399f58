"""The sketch, a sparse exponential histogram of growth 2^(1/32): its keys and its quantiles.

Key 0 is the value 0. Key 40000 + i holds (g^(i-1), g^i], g = 2^(1/32), the buckets of schema 5 of
OpenTelemetry and Prometheus; -(40000 + i) mirrors it; 100000 and -100000 are the infinities.
Keys ascend with the values, so a sorted sketch is a sorted list of values. A value is estimated by
the middle of its bucket, 2 g^i / (g + 1): within (g - 1) / (g + 1), 1.083 %. Doubles below 2^-1022
are a grid of step 2^-1074: there half a step comes on top.

The client's summaries use it too, so nothing here imports numba, which takes a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

BUCKETS_PER_OCTAVE = 32
GROWTH = 2.0 ** (1 / BUCKETS_PER_OCTAVE)
ERROR = (GROWTH - 1) / (GROWTH + 1)
"""Bound of |estimate - value| / |value|."""
OFFSET = 40_000
INFINITE = 100_000

BOUNDS = tuple(
    float(Decimal(2) ** (Decimal(j) / BUCKETS_PER_OCTAVE - 1))
    for j in range(BUCKETS_PER_OCTAVE + 1)
)
"""Upper bounds, inclusive, of the buckets of [0.5, 1]. It is a table, as log() misplaces powers of
two, made of decimals, as the last bit of pow() differs between C libraries."""


def key_of(value: float, bounds: Sequence[float] | npt.NDArray[np.float64] = BOUNDS) -> int:
    """Key of a value that is not NaN.

    bounds: BOUNDS, as a tuple for Python and as an array for a kernel that compiles this function.
    """
    if value == 0.0:
        return 0
    size = abs(value)
    if size == math.inf:
        return INFINITE if value > 0 else -INFINITE
    mantissa, exponent = math.frexp(size)
    # The first bound that is not less.
    bucket, high = 0, BUCKETS_PER_OCTAVE
    while bucket < high:
        middle = (bucket + high) // 2
        if bounds[middle] < mantissa:
            bucket = middle + 1
        else:
            high = middle
    key = OFFSET + (exponent - 1) * BUCKETS_PER_OCTAVE + bucket
    return key if value > 0 else -key


def estimate_of(key: int, bounds: Sequence[float] | npt.NDArray[np.float64] = BOUNDS) -> float:
    """The value that a key stands for; unclamped. bounds: as in `key_of`."""
    if key == 0:
        return 0.0
    size = abs(key)
    if size == INFINITE:
        return math.inf if key > 0 else -math.inf
    finite = size - OFFSET
    octave = finite // BUCKETS_PER_OCTAVE
    # Below 1 and scaled last: the last bucket's bound is no double, the first ones' are rounded.
    middle = bounds[finite - octave * BUCKETS_PER_OCTAVE] * 2 / (GROWTH + 1)
    value = math.ldexp(middle, octave + 1)
    return value if key > 0 else -value


def estimate(keys: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """The value each key stands for; unclamped."""
    return np.array([estimate_of(key) for key in keys.tolist()], dtype=np.float64)


def quantile(
    keys: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int64],
    q: float,
    minimum: float,
    maximum: float,
) -> float:
    """The q-quantile, 0 <= q <= 1, of the values in a sketch (or several concatenated ones).

    Interpolates linearly between the two order statistics next to rank q * (n - 1), each
    clamped to [minimum, maximum]. NaN for an empty sketch.
    """
    if not len(keys):
        return math.nan
    order = np.argsort(keys, kind="stable")
    cumulative = np.cumsum(counts[order])
    rank = q * (cumulative[-1] - 1)
    low, high = math.floor(rank), math.ceil(rank)
    at = np.searchsorted(cumulative, [low, high], side="right")
    below, above = np.clip(estimate(keys[order][at]), minimum, maximum).tolist()
    share = rank - low
    # Weighted, not by the difference, which overflows between the greatest doubles.
    return below if low == high or below == above else below * (1 - share) + above * share
