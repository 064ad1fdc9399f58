"""Quantiles of what was observed lately: a sliding window of sparse exponential histograms.

The buckets are those of the rollups' sketch (varve.rollups.sketch), so a quantile is within 1.083 %
of the order statistics it lies between; written without numba, which takes a second to import.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

SLICES = 5
"""Parts of a window. The oldest is dropped as a whole, so the window is four to five of them."""

_PER_OCTAVE = 32
_GROWTH = 2.0 ** (1 / _PER_OCTAVE)
_BOUNDS = [float(Decimal(2) ** (Decimal(j) / _PER_OCTAVE - 1)) for j in range(_PER_OCTAVE + 1)]
# Key of 1.0; keys of positive values are above 0, those of negative ones mirror them.
_OFFSET = 40_000


class SlidingQuantiles:
    """Observations of the last window_ms, at most a fifth of it less. Not for several threads."""

    def __init__(self, window_ms: int) -> None:
        self._slice_ms = max(1, window_ms // SLICES)
        self._slices: dict[int, tuple[Counter[int], list[float]]] = {}

    def observe(self, value: float, ts_ms: int) -> None:
        """value: finite. ts_ms may go backwards."""
        number = ts_ms // self._slice_ms
        part = self._slices.get(number)
        if part is None:
            part = self._slices[number] = (Counter(), [value, value])
            newest = max(self._slices)
            for old in [n for n in self._slices if n <= newest - SLICES]:
                del self._slices[old]
        counts, bounds = part
        counts[key_of(value)] += 1
        if value < bounds[0]:
            bounds[0] = value
        elif value > bounds[1]:
            bounds[1] = value

    def quantiles(self, wanted: Sequence[float], now_ms: int) -> list[float]:
        """The quantiles wanted (0 to 1) as of now_ms; NaN each where nothing was observed.

        Linear between the two order statistics next to rank q * (n - 1).
        """
        first = now_ms // self._slice_ms - SLICES
        parts = [part for number, part in self._slices.items() if number > first]
        if not parts:
            return [math.nan] * len(wanted)
        merged: Counter[int] = Counter()
        for counts, _ in parts:
            merged.update(counts)
        low = min(bounds[0] for _, bounds in parts)
        high = max(bounds[1] for _, bounds in parts)
        keys = sorted(merged)
        values = [min(max(_estimate(key), low), high) for key in keys]
        ends, total = [], 0
        for key in keys:
            total += merged[key]
            ends.append(total)
        found = []
        for q in wanted:
            rank = q * (total - 1)
            below = values[bisect.bisect_right(ends, math.floor(rank))]
            above = values[bisect.bisect_right(ends, math.ceil(rank))]
            share = rank - math.floor(rank)
            found.append(below if below == above else below * (1 - share) + above * share)
        return found


def key_of(value: float) -> int:
    """Key of the bucket of a finite value: 0 for 0, else that of (g^(i-1), g^i], g = 2^(1/32)."""
    if value == 0.0:
        return 0
    mantissa, exponent = math.frexp(abs(value))
    key = _OFFSET + (exponent - 1) * _PER_OCTAVE + bisect.bisect_left(_BOUNDS, mantissa)
    return key if value > 0 else -key


def _estimate(key: int) -> float:
    """The middle of a bucket."""
    if key == 0:
        return 0.0
    octave, bucket = divmod(abs(key) - _OFFSET, _PER_OCTAVE)
    middle = _BOUNDS[bucket] * 2 / (_GROWTH + 1)
    try:
        value = math.ldexp(middle, octave + 1)
    except OverflowError:  # clamped to the greatest value there was
        value = math.inf
    return math.copysign(value, key)
