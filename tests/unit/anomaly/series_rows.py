"""Series and their samples for tests of baselines, and an obvious recomputation with pandas."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

MINUTE_MS, HOUR_MS, WEEK_MS = 60_000, 3_600_000, 7 * 24 * 3_600_000


def naive_minutes(samples, *, is_rate):
    """The number of each minute of one series, by its end: samples are (ts, value or None)."""
    newest = dict(sorted(samples))
    by_end = {}
    for ts, value in sorted(newest.items()):
        by_end.setdefault(-(-ts // MINUTE_MS) * MINUTE_MS, []).append((ts, value))
    found = {}
    before = None  # (ts, value) of the last sample, None after an end
    for end, pairs in by_end.items():
        there = [(ts, v) for ts, v in pairs if v is not None]
        if there and not is_rate:
            found[end] = float(np.mean([v for _, v in there]))
        if there and is_rate:
            start = before
            if start is not None and start[0] <= end - MINUTE_MS - 5 * MINUTE_MS:
                start = None
            chain = [start, *there] if start else there
            if len(chain) > 1:
                grown = sum(b - a if b >= a else b for (_, a), (_, b) in pairwise(chain))
                found[end] = grown / (chain[-1][0] - chain[0][0]) * 1000
        if there:
            before = there[-1]
        stales = [ts for ts, v in pairs if v is None]
        if stales and (before is None or max(stales) > before[0]):
            before = None
    return found


def naive_reference(minutes, end_ms):
    """Count, mean and population standard deviation of the minutes of the last seven days."""
    values = pd.Series(
        [v for end, v in minutes.items() if end_ms - WEEK_MS < end <= end_ms], dtype=float
    )
    return len(values), values.mean(), values.std(ddof=0)
