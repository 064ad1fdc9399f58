"""The aggregate by definition: rational numbers, no state, one window at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from varve.model.window import window_end

Sample = tuple[int, int, float | None]
"""series_id, ts, value; None is the staleness marker."""


def distinct(samples: Sequence[Sample]) -> list[Sample]:
    """Sorted, each (series_id, ts) once: a number beats NaN beats the marker, greater wins."""
    best: dict[tuple[int, int], float | None] = {}
    for series, ts, value in samples:
        key = (series, ts)
        if key not in best or _rank(value) > _rank(best[key]):
            best[key] = value
    return [(*key, best[key]) for key in sorted(best)]


def windows(samples: Sequence[Sample], width_ms: int) -> dict[tuple[int, int], list[Sample]]:
    """Distinct samples by (series_id, window_end)."""
    found: dict[tuple[int, int], list[Sample]] = {}
    for sample in distinct(samples):
        found.setdefault((sample[0], window_end(sample[1], width_ms)), []).append(sample)
    return found


def aggregate(window: Sequence[Sample]) -> dict[str, Any]:
    """Of the sorted samples of a window. sum, magnitude, m2: Fraction, None with infinities."""
    valued = [(ts, value) for _, ts, value in window if value is not None]
    numbers = [value for _, value in valued if not math.isnan(value)]
    finite = all(map(math.isfinite, numbers))
    exact = [Fraction(v) for v in numbers] if finite else []
    pairs = list(pairwise(valued))
    drops = [a[1] for a, b in pairs if b[1] < a[1]]
    stale = [ts for _, ts, value in window if value is None]
    return {
        "count": len(valued),
        "nan_count": len(valued) - len(numbers),
        "sum": sum(exact) if finite else None,
        "magnitude": sum(map(abs, exact)) if finite else None,
        "m2": sum((v - exact[0]) ** 2 for v in exact) if finite else None,
        "min": min(numbers, default=math.nan if valued else None),
        "max": max(numbers, default=math.nan if valued else None),
        "first": valued[0] if valued else None,
        "previous": valued[-2] if len(valued) > 1 else None,
        "last": valued[-1] if valued else None,
        "resets": len(drops),
        "drops": drops,
        "changes": sum(not _same(a[1], b[1]) for a, b in pairs),
        "stale_ts": stale[-1] if stale else None,
        "numbers": sorted(numbers),
    }


def _rank(value: float | None) -> tuple[int, float]:
    if value is None:
        return (0, 0.0)
    return (1, 0.0) if math.isnan(value) else (2, value)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
