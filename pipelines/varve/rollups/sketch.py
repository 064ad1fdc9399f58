"""Keys of the sketch: a sparse exponential histogram of growth 2^(1/32).

Key 0 is the value 0. Key 40000 + i holds (g^(i-1), g^i], g = 2^(1/32), the buckets of schema 5 of
OpenTelemetry and Prometheus; -(40000 + i) mirrors it; 100000 and -100000 are the infinities.
Keys ascend with the values, so a sorted sketch is a sorted list of values. A value is estimated by
the middle of its bucket, 2 g^i / (g + 1): within (g - 1) / (g + 1), 1.083 %. Doubles below 2^-1022
are a grid of step 2^-1074: there half a step comes on top.
"""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from varve.model.compiled import inline

BUCKETS_PER_OCTAVE = 32
GROWTH = 2.0 ** (1 / BUCKETS_PER_OCTAVE)
ERROR = (GROWTH - 1) / (GROWTH + 1)
"""Bound of |estimate - value| / |value|."""
OFFSET = 40_000
INFINITE = 100_000

# Upper bounds, inclusive, of the buckets of [0.5, 1]: a table, as log() misplaces powers of two,
# and by decimals, as the last bit of pow() differs between C libraries.
_BOUNDS = np.array(
    [
        float(Decimal(2) ** (Decimal(j) / BUCKETS_PER_OCTAVE - 1))
        for j in range(BUCKETS_PER_OCTAVE + 1)
    ]
)


@inline
def key_of(value: float) -> int:
    """Key of a value that is not NaN."""
    if value == 0.0:
        return 0
    size = abs(value)
    if size == math.inf:
        return INFINITE if value > 0 else -INFINITE
    mantissa, exponent = math.frexp(size)
    bucket = np.searchsorted(_BOUNDS, mantissa)
    key = OFFSET + (exponent - 1) * BUCKETS_PER_OCTAVE + int(bucket)
    return key if value > 0 else -key


def estimate(keys: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """The value each key stands for; unclamped."""
    size = np.abs(keys).astype(np.int64)
    finite = np.where((keys == 0) | (size == INFINITE), OFFSET, size) - OFFSET
    octave, bucket = np.divmod(finite, BUCKETS_PER_OCTAVE)
    # Below 1 and scaled last: the last bucket's bound is no double, the first ones' are rounded.
    middle = _BOUNDS[bucket] * 2 / (GROWTH + 1)
    value = np.ldexp(middle, octave + 1)
    value = np.where(size == INFINITE, np.inf, np.where(keys == 0, 0.0, value))
    return np.copysign(value, keys)


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
