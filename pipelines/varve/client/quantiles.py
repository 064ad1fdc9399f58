"""Quantiles of recent observations: a sliding window of sketches.

The sketch is that of the rollups (varve.rollups.sketch), so a quantile lies between order
statistics that are each within 1.083 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from varve.rollups import sketch

SLICES = 5
"""Slices of a window. The oldest is dropped as a whole, so the window is four to five of them."""


class SlidingQuantiles:
    """Observations of the last window_ms, at most a fifth of it less. Not to be shared by threads.

    State: for each slice, by its number since the epoch, the count of each key of the sketch, and
    the least and the greatest value.
    """

    def __init__(self, window_ms: int) -> None:
        self._slice_ms = max(1, window_ms // SLICES)
        self._slices: dict[int, tuple[Counter[int], list[float]]] = {}

    def observe(self, value: float, ts_ms: int) -> None:
        """Adds an observation. value: finite. ts_ms may be lower than that of the one before."""
        number = ts_ms // self._slice_ms
        part = self._slices.get(number)
        if part is None:
            part = self._slices[number] = (Counter(), [value, value])
            newest = max(self._slices)
            for old in [n for n in self._slices if n <= newest - SLICES]:
                del self._slices[old]
        counts, bounds = part
        counts[sketch.key_of(value)] += 1
        if value < bounds[0]:
            bounds[0] = value
        elif value > bounds[1]:
            bounds[1] = value

    def quantiles(self, wanted: Sequence[float], now_ms: int) -> list[float]:
        """The quantiles wanted (0 to 1) as of now_ms; each is NaN where nothing was observed."""
        first = now_ms // self._slice_ms - SLICES
        parts = [part for number, part in self._slices.items() if number > first]
        if not parts:
            return [math.nan] * len(wanted)
        merged: Counter[int] = Counter()
        for counts, _ in parts:
            merged.update(counts)
        keys = np.fromiter(merged.keys(), np.int32, len(merged))
        counts_of_keys = np.fromiter(merged.values(), np.int64, len(merged))
        low = min(bounds[0] for _, bounds in parts)
        high = max(bounds[1] for _, bounds in parts)
        return [sketch.quantile(keys, counts_of_keys, q, low, high) for q in wanted]
