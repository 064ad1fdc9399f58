"""Every sample there ever was, in plain lists, and what tables and queries have to say of a range.

By definition and in pandas: it shares nothing with the code that rolls up, stores, moves and reads.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter

import numpy as np
import pandas as pd

KEYS = ["series_id", "window_end"]
_SLOTS = 32
"""Of the sketch: as many keys as there are from a power of two to the next."""


class AllSamples:
    """Samples by series and time; None is a staleness marker. No sample comes twice."""

    def __init__(self) -> None:
        self._points: dict[int, list[tuple[int, float | None]]] = defaultdict(list)

    def add(self, new: Mapping[tuple[int, int], float | None]) -> None:
        """new: by series_id and ts, ms."""
        for (series_id, ts), value in new.items():
            insort(self._points[series_id], (ts, value), key=itemgetter(0))

    def points(self, series_id: int, start_ms: int, end_ms: int) -> list[tuple[int, float | None]]:
        """Those of one series in (start_ms, end_ms], by time."""
        points = self._points[series_id]
        begin, end = (bisect_right(points, t, key=itemgetter(0)) for t in (start_ms, end_ms))
        return points[begin:end]

    def samples(self, series_ids: Iterable[int], start_ms: int, end_ms: int) -> pd.DataFrame:
        """The same of several series, sorted, as the table samples has them; a marker is a NaN
        with `stale`.
        """
        flat = [
            (series_id, ts, math.nan if value is None else value, value is None)
            for series_id in sorted(series_ids)
            for ts, value in self.points(series_id, start_ms, end_ms)
        ]
        ids, times, values, stale = zip(*flat, strict=True) if flat else ((), (), (), ())
        return pd.DataFrame(
            {
                "series_id": np.array(ids, np.int64),
                "ts": np.array(times, np.int64),
                "value": np.array(values, np.float64),
                "stale": np.array(stale, np.bool_),
            }
        )

    def windows(
        self, series_ids: Iterable[int], width_ms: int, start_ms: int, end_ms: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows of the rollup of that width as schemas/tables/rollup.sql describes them, of windows
        that lie in (start_ms, end_ms], both multiples of it, and the entries of their sketches.

        Both are sorted by their keys. `total` is sum and sum_error in one; NULL is NaN.
        """
        rows = self.samples(series_ids, start_ms, end_ms)
        rows["window_end"] = -(-rows["ts"] // width_ms) * width_ms
        found = rows[KEYS].drop_duplicates().set_index(KEYS)
        found["stale_ts"] = rows[rows["stale"]].groupby(KEYS)["ts"].last()
        valued = rows[~rows["stale"]].drop(columns="stale")
        numbers = valued[valued["value"].notna()]
        found["count"] = valued.groupby(KEYS).size()
        found["count"] = found["count"].fillna(0)
        of_numbers = numbers.groupby(KEYS)["value"]
        found["nan_count"] = found["count"] - of_numbers.size().reindex(found.index).fillna(0)
        found["total"] = of_numbers.sum()
        found["min"], found["max"], found["base"] = (
            of_numbers.min(),
            of_numbers.max(),
            of_numbers.first(),
        )
        away = numbers["value"] - of_numbers.transform("first")
        found["m2"] = (away**2).groupby([numbers[key] for key in KEYS]).sum()
        # Not `first` and `last` of pandas, which pass over NaN.
        by_window = valued.groupby(KEYS)
        for name, place in (("first", 0), ("previous", -2), ("last", -1)):
            one = valued[
                by_window.cumcount(ascending=place >= 0) == (place if place >= 0 else ~place)
            ]
            one = one.set_index(KEYS)
            found[f"{name}_ts"], found[f"{name}_value"] = one["ts"], one["value"]
        before = by_window["value"].shift()
        follows = by_window.cumcount() > 0
        drops = follows & (valued["value"] < before)
        same = (valued["value"] == before) | (valued["value"].isna() & before.isna())
        for name, column in (
            ("reset_correction", before.where(drops, 0.0)),
            ("resets", drops),
            ("changes", follows & ~same),
        ):
            found[name] = column.groupby([valued[key] for key in KEYS]).sum()
        blank = ["total", "m2", "reset_correction", "resets", "changes"]
        found[blank] = found[blank].fillna(0)
        sketch = numbers[KEYS].assign(key=_sketch_keys(numbers["value"]))
        entries = sketch.groupby([*KEYS, "key"]).size().rename("entries").reset_index()
        return found.astype(np.float64).reset_index(), entries


def _sketch_keys(values: pd.Series[float]) -> pd.Series[int]:
    sizes = np.abs(values)
    with np.errstate(divide="ignore"):
        slots = np.ceil(_SLOTS * np.log2(sizes))
    return (np.sign(values) * (40_000 + slots)).where(sizes > 0, 0).astype(np.int64)


def _sum(values: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else math.fsum(values)


def _steps(values: Sequence[float], is_one: Callable[[float, float], bool]) -> float:
    return float(sum(is_one(a, b) for a, b in pairwise(values)))


def _differ(a: float, b: float) -> bool:
    return not (a == b or (math.isnan(a) and math.isnan(b)))


def _numbers(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


OVER_TIME: Mapping[str, Callable[[Sequence[float]], float]] = {
    "count_over_time": lambda values: float(len(values)),
    "sum_over_time": _sum,
    "avg_over_time": lambda values: _sum(values) / len(values),
    "min_over_time": lambda values: min(_numbers(values), default=math.nan),
    "max_over_time": lambda values: max(_numbers(values), default=math.nan),
    "first_over_time": lambda values: values[0],
    "last_over_time": lambda values: values[-1],
    "resets": lambda values: _steps(values, lambda a, b: b < a),
    "changes": lambda values: _steps(values, _differ),
}
"""What functions of PromQL make of the values in a range, of which there is at least one."""
