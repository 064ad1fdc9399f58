"""Which PromQL functions a tier answers, how well, and what the answer is.

A range that is a whole number of windows is one row after `merge`. What is computed here from that
row is what Prometheus computes from the samples; a function that is not here needs them.
docs/tiers.md is written from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from varve.model.window import Window
from varve.rollups import algebra, sketch
from varve.rollups.algebra import Floats, Rows

Present = npt.NDArray[np.bool_]


class Quality(Enum):
    """How an answer from rows compares with that from the samples."""

    EXACT = "exact"
    ROUNDED = "exact up to rounding, 1e-12"
    SKETCHED = "each order statistic within 1.083 %"
    RAW_ONLY = "raw samples only"


@dataclass(frozen=True, slots=True)
class Answer:
    """value: of merged rows, the range they cover and the function's parameter (0 if it has none);
    shape (len(rows),). least: samples without which there is no value.
    """

    quality: Quality
    value: Callable[[Rows, Window, float], Floats]
    reads: str
    """Columns, for the documentation."""
    least: int = 1


def answer(name: str, rows: Rows, window: Window, parameter: float = 0.0) -> tuple[Floats, Present]:
    """Values of a function of a range vector, and which rows have one.

    rows: one a series, of just `window`. KeyError if only raw samples answer the function.
    """
    found = ANSWERS[name]
    with np.errstate(all="ignore"):
        return found.value(rows, window, parameter), rows.count >= found.least


def quality(name: str) -> Quality:
    """Of a function of a range vector."""
    if name == "absent_over_time":
        return ANSWERS["present_over_time"].quality
    return ANSWERS[name].quality if name in ANSWERS else Quality.RAW_ONLY


def _unless_nan(values: Floats, rows: Rows) -> Floats:
    return np.where(rows.nan_count > 0, np.nan, values)


def _variance(rows: Rows) -> Floats:
    count = rows.count.astype(np.float64)
    spread = rows.m2 / count - (algebra.mean(rows) - rows.base) ** 2
    spread = np.where(rows.min == rows.max, 0.0, np.maximum(spread, 0.0))
    return _unless_nan(np.where(np.isfinite(rows.min + rows.max), spread, np.nan), rows)


def _growth(rows: Rows) -> Floats:
    return rows.last_value - rows.first_value + rows.reset_correction


def _extrapolated(grown: Floats, rows: Rows, window: Window, *, counter: bool) -> Floats:
    """Over the whole range what was seen from the first to the last sample.

    Source: Prometheus, promql/functions.go, extrapolatedRate.
    """
    sampled = (rows.last_ts - rows.first_ts) / 1000
    to_start = (rows.first_ts - window.start_ms) / 1000
    to_end = (window.end_ms - rows.last_ts) / 1000
    between = sampled / (rows.count - 1)
    to_start = np.where(to_start >= between * 1.1, between / 2, to_start)
    if counter:
        # A counter is never below zero: it cannot have started before it was there.
        zero = (grown > 0) & (rows.first_value >= 0)
        to_zero = np.where(zero, sampled * (rows.first_value / grown), to_start)
        to_start = np.minimum(to_start, to_zero)
    to_end = np.where(to_end >= between * 1.1, between / 2, to_end)
    return grown * ((sampled + to_start + to_end) / sampled)


def _increase(rows: Rows, window: Window, _: float) -> Floats:
    return _extrapolated(_growth(rows), rows, window, counter=True)


def _rate(rows: Rows, window: Window, _: float) -> Floats:
    return _increase(rows, window, 0.0) / ((window.end_ms - window.start_ms) / 1000)


def _delta(rows: Rows, window: Window, _: float) -> Floats:
    return _extrapolated(rows.last_value - rows.first_value, rows, window, counter=False)


def _irate(rows: Rows, _window: Window, _: float) -> Floats:
    reset = rows.last_value < rows.previous_value
    grown = rows.last_value - np.where(reset, 0.0, rows.previous_value)
    return grown / ((rows.last_ts - rows.previous_ts) / 1000)


def _quantile(rows: Rows, _window: Window, q: float) -> Floats:
    """NaN is less than any number, as Prometheus sorts it."""
    found = np.empty(len(rows))
    for r in range(len(rows)):
        entries = slice(rows.sketch_starts[r], rows.sketch_starts[r + 1])
        keys, counts = rows.sketch_keys[entries], rows.sketch_counts[entries]
        found[r] = _order_statistic(keys, counts, q, rows, r)
    return found


def _order_statistic(
    keys: npt.NDArray[np.int32], counts: algebra.Ints, q: float, rows: Rows, r: int
) -> float:
    if np.isnan(q) or q < 0 or q > 1:
        return q if np.isnan(q) else float(np.copysign(np.inf, q - 0.5))
    nans, count = int(rows.nan_count[r]), int(rows.count[r])
    if not nans:
        return sketch.quantile(keys, counts, q, rows.min[r], rows.max[r])
    rank = q * (count - 1)
    if count == nans or rank < nans:
        return float("nan")
    among_numbers = (rank - nans) / max(count - nans - 1, 1)
    return sketch.quantile(keys, counts, among_numbers, rows.min[r], rows.max[r])


def _seconds(times: algebra.Ints) -> Floats:
    return times / 1000


ANSWERS = {
    "avg_over_time": Answer(
        Quality.ROUNDED, lambda r, _w, _p: _unless_nan(algebra.mean(r), r), "sum, sum_error, count"
    ),
    "changes": Answer(Quality.EXACT, lambda r, _w, _p: r.changes.astype(np.float64), "changes"),
    "count_over_time": Answer(Quality.EXACT, lambda r, _w, _p: r.count.astype(np.float64), "count"),
    "delta": Answer(Quality.EXACT, _delta, "first, last, count", least=2),
    "first_over_time": Answer(Quality.EXACT, lambda r, _w, _p: r.first_value, "first"),
    "idelta": Answer(
        Quality.EXACT, lambda r, _w, _p: r.last_value - r.previous_value, "previous, last", least=2
    ),
    "increase": Answer(Quality.ROUNDED, _increase, "first, last, count, reset_correction", least=2),
    "irate": Answer(Quality.EXACT, _irate, "previous, last", least=2),
    "last_over_time": Answer(Quality.EXACT, lambda r, _w, _p: r.last_value, "last"),
    "max_over_time": Answer(Quality.EXACT, lambda r, _w, _p: r.max, "max"),
    "min_over_time": Answer(Quality.EXACT, lambda r, _w, _p: r.min, "min"),
    "present_over_time": Answer(Quality.EXACT, lambda r, _w, _p: np.ones(len(r)), "count"),
    "quantile_over_time": Answer(Quality.SKETCHED, _quantile, "sketch, min, max, nan_count"),
    "rate": Answer(Quality.ROUNDED, _rate, "first, last, count, reset_correction", least=2),
    "resets": Answer(Quality.EXACT, lambda r, _w, _p: r.resets.astype(np.float64), "resets"),
    "stddev_over_time": Answer(
        Quality.ROUNDED, lambda r, _w, _p: np.sqrt(_variance(r)), "m2, base, sum, count"
    ),
    "stdvar_over_time": Answer(
        Quality.ROUNDED, lambda r, _w, _p: _variance(r), "m2, base, sum, count"
    ),
    "sum_over_time": Answer(
        Quality.ROUNDED, lambda r, _w, _p: _unless_nan(algebra.total(r), r), "sum, sum_error"
    ),
    "ts_of_first_over_time": Answer(Quality.EXACT, lambda r, _w, _p: _seconds(r.first_ts), "first"),
    "ts_of_last_over_time": Answer(Quality.EXACT, lambda r, _w, _p: _seconds(r.last_ts), "last"),
}
"""By the name of the function of a range vector; others but absent_over_time, which is there where
these are not, need raw samples.
"""


def markdown(functions: list[str]) -> str:
    """docs/tiers.md, for all functions of a range vector that there are."""
    lines = [
        _HEAD,
        "| function | from 1m, 5m, 1h, 1d | columns |",
        "|---|---|---|",
    ]
    for name in sorted(functions):
        reads = ANSWERS[name].reads if name in ANSWERS else ""
        lines.append(f"| `{name}` | {quality(name).value} | {reads} |")
    return "\n".join([*lines, "", _TAIL])


_HEAD = """\
# What each tier answers

Written by `python tests/unit/query/test_tier_answers.py` from varve/query/tier_answers.py; a test
keeps it true.

A tier holds one row for each series and window of its width (1m, 5m, 1h, 1d), left-open like a
PromQL range: the window that ends at 10:05 holds the samples after 10:04 up to 10:05. A tier
answers a function of a range if the range, the step, the offset and the ends of the query are
multiples of its width: then the range is a whole number of windows, and their rows merge into the
row of the range. All tiers answer alike, as a row of a wider tier is the merge of rows below it.

Exact means: the value that the raw samples give, in every bit. Up to rounding means: sums are
carried in twice the precision, so where the two differ, the rows are as a rule nearer to the truth.
For sums of both signs 1e-12 is relative to the sum of the absolute values.
"""

_TAIL = """\
An instant selector asks for the newest sample within the lookback: exact at ends that are multiples
of the width if the lookback is one too (5 minutes: 1m and 5m), by `last` and `stale_ts`: a series
whose staleness marker is later than its last sample has ended.

Native histograms have no rollups: raw samples only. So have functions over subqueries, which the
engine evaluates itself on the answers of the inner expression.
"""
