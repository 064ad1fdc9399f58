"""What a rollup tier answers a function of a range vector with.

A range that is a whole number of windows is one row after `merge`. What is computed here from that
row is what Prometheus computes from the samples. How well it does, and which columns it reads, is
in varve.promql.function_table; docs/tiers.md is written from both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.model.window import Window
from varve.rollups import algebra, sketch
from varve.rollups.algebra import Floats, Rows

Present = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Formula:
    """A function of a range vector in terms of rollup rows.

    value: takes merged rows, the range that they cover, and the function's parameter, 0 if it has
    none; the result has the shape (len(rows),). least: samples without which there is no value.
    """

    value: Callable[[Rows, Window, float], Floats]
    least: int = 1


def answer(name: str, rows: Rows, window: Window, parameter: float = 0.0) -> tuple[Floats, Present]:
    """The values of a function of a range vector, and which rows have one.

    rows: one a series, each of the whole `window`. Raises KeyError if only raw samples answer the
    function.
    """
    formula = FORMULAS[name]
    with np.errstate(all="ignore"):
        return formula.value(rows, window, parameter), rows.count >= formula.least


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
    """Extrapolates what was seen from the first to the last sample to the whole range.

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


FORMULAS: Final[Mapping[str, Formula]] = {
    "avg_over_time": Formula(lambda r, _w, _p: _unless_nan(algebra.mean(r), r)),
    "changes": Formula(lambda r, _w, _p: r.changes.astype(np.float64)),
    "count_over_time": Formula(lambda r, _w, _p: r.count.astype(np.float64)),
    "delta": Formula(_delta, least=2),
    "first_over_time": Formula(lambda r, _w, _p: r.first_value),
    "idelta": Formula(lambda r, _w, _p: r.last_value - r.previous_value, least=2),
    "increase": Formula(_increase, least=2),
    "irate": Formula(_irate, least=2),
    "last_over_time": Formula(lambda r, _w, _p: r.last_value),
    "max_over_time": Formula(lambda r, _w, _p: r.max),
    "min_over_time": Formula(lambda r, _w, _p: r.min),
    "present_over_time": Formula(lambda r, _w, _p: np.ones(len(r))),
    "quantile_over_time": Formula(_quantile),
    "rate": Formula(_rate, least=2),
    "resets": Formula(lambda r, _w, _p: r.resets.astype(np.float64)),
    "stddev_over_time": Formula(lambda r, _w, _p: np.sqrt(_variance(r))),
    "stdvar_over_time": Formula(lambda r, _w, _p: _variance(r)),
    "sum_over_time": Formula(lambda r, _w, _p: _unless_nan(algebra.total(r), r)),
    "ts_of_first_over_time": Formula(lambda r, _w, _p: _seconds(r.first_ts)),
    "ts_of_last_over_time": Formula(lambda r, _w, _p: _seconds(r.last_ts)),
}
"""The formulas by the name of the function. absent_over_time has none: it is there where no series
has a value of present_over_time."""
