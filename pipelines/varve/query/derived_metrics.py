"""Metrics that are computed from other tables than samples when a query asks for them. Pure.

Forecasts, baselines, scores and what is left of resources are rows of tables of their own. Each
metric here says which series it has and what points: one a minute, so that plain selectors meet
them, in the future too where the table says something of it. docs/adr/0036.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from varve.model.baseline_index import BaselineIndex
from varve.model.calendar import Calendar
from varve.model.staleness import STALE_NAN
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS
from varve.promql.kernels.types import F64, I64

METRIC_LABEL: Final = "metric"
"""Label of a derived series with the metric of the series it is about."""

AHEAD_DAYS: Final = (1, 2, 3, 4, 5, 6)
"""How far ahead forecasts are told of by when they were made: they are a day old at most."""

_QUANTILES: Final = (("0.1", "lower"), ("0.5", "value"), ("0.9", "upper"))
_HELD_MS: Final = 2 * HOUR_MS
"""How long what was judged of a resource counts: it is judged each hour."""
_MINUTES: Final = 60


@dataclass(frozen=True, slots=True)
class Points:
    """Points of some derived series that share the labels `extra`, beside those of the series they
    are about: the first counts[0] are of series_ids[0], and so on; times ascend in a series.
    """

    extra: Mapping[str, str]
    series_ids: I64
    """Sorted, each once."""
    counts: I64
    ts: I64
    values: F64
    has_stale: bool = False


@dataclass(frozen=True, slots=True)
class DerivedMetric:
    """One of them. table: where its rows are; columns: what is read of them. reach: ms before and
    after a range of time within which rows may have points in it.

    points: from the rows, the range (start_ms, end_ms] and the calendar of the baselines.
    """

    name: str
    type: str
    help: str
    table: str
    columns: tuple[str, ...]
    reach: tuple[int, int]
    points: Callable[[pa.Table, int, int, Calendar], list[Points]]
    is_timeless: bool = False
    """Whether all rows of the table count, whenever they were written."""


def _forecast(rows: pa.Table, start_ms: int, end_ms: int, _: Calendar) -> list[Points]:
    """By quantile; of an hour that several forecasts are about, the last one."""
    newest = _newest(rows, "ts", "trained_until")
    return [
        _by_minute(newest, rows, column, 0, start_ms, end_ms, {"quantile": quantile})
        for quantile, column in _QUANTILES
    ]


def _forecast_ahead(rows: pa.Table, start_ms: int, end_ms: int, _: Calendar) -> list[Points]:
    """By quantile and days ahead, as it was known at the time of the point."""
    found = []
    known = rows["ts"].to_numpy() - rows["trained_until"].to_numpy()
    for days in AHEAD_DAYS:
        then = rows.filter(pa.array(known >= days * DAY_MS))
        newest = _newest(then, "ts", "trained_until")
        for quantile, column in _QUANTILES:
            extra = {"ahead": f"{days}d", "quantile": quantile}
            found.append(_by_minute(newest, then, column, days * DAY_MS, start_ms, end_ms, extra))
    return found


def _baseline(column: str) -> Callable[[pa.Table, int, int, Calendar], list[Points]]:
    def points(rows: pa.Table, start_ms: int, end_ms: int, calendar: Calendar) -> list[Points]:
        """What is expected of each minute by the baselines as they are now."""
        index = BaselineIndex.of(rows, calendar)
        times = _minutes(start_ms, end_ms)
        series = np.repeat(index.ids, len(times))
        ends = np.tile(times, len(index.ids))
        at, _ = index.look_up(series, ends, plain=np.zeros(len(series), np.bool_))
        counts = np.full(len(index.ids), len(times))
        return [Points({}, index.ids, counts, ends, getattr(index, column)[at])]

    return points


def _score(rows: pa.Table, start_ms: int, end_ms: int, _: Calendar) -> list[Points]:
    """The score of minutes that were far off, and a stale marker behind each stretch of them."""
    newest = _newest(rows, "window_end", "revision")
    rows = rows.take(pa.array(newest))
    rows = rows.filter(rows["is_deviation"])
    ids, ends, score = (rows[c].to_numpy() for c in ("series_id", "window_end", "score"))
    is_last = np.append((ids[1:] != ids[:-1]) | (ends[1:] != ends[:-1] + MINUTE_MS), True)
    is_last = is_last[: len(ids)]
    ids, ends = np.append(ids, ids[is_last]), np.append(ends, ends[is_last] + MINUTE_MS)
    values = np.append(score, np.full(int(is_last.sum()), STALE_NAN))
    order = np.lexsort((ends, ids))
    return [_kept({}, ids[order], ends[order], values[order], start_ms, end_ms, has_stale=True)]


def _days_left(rows: pa.Table, start_ms: int, end_ms: int, _: Calendar) -> list[Points]:
    reaches = rows["reaches_at"].fill_null(0).to_numpy()
    never = rows["reaches_at"].is_null().to_numpy(zero_copy_only=False)

    def value(row: I64, ts: I64) -> F64:
        left = np.maximum(reaches[row] - ts, 0) / DAY_MS
        found: F64 = np.where(never[row], np.inf, left)
        return found

    return _held(rows, value, start_ms, end_ms)


def _probability(rows: pa.Table, start_ms: int, end_ms: int, _: Calendar) -> list[Points]:
    given = rows["probability"].to_numpy()
    return _held(rows, lambda row, _: given[row], start_ms, end_ms)


def _newest(rows: pa.Table, time: str, revision: str) -> I64:
    """Places of the rows with the greatest revision of each series and time, sorted by both."""
    ids, ts, of = (rows[name].to_numpy() for name in ("series_id", time, revision))
    order = np.lexsort((of, ts, ids))
    ids, ts = ids[order], ts[order]
    is_last = np.append((ids[1:] != ids[:-1]) | (ts[1:] != ts[:-1]), True)[: len(ids)]
    found: I64 = order[is_last]
    return found


def _minutes(start_ms: int, end_ms: int) -> I64:
    """All full minutes in (start_ms, end_ms]."""
    first = start_ms // MINUTE_MS + 1
    return np.arange(first, end_ms // MINUTE_MS + 1, dtype=np.int64) * MINUTE_MS


def _by_minute(
    places: I64,
    rows: pa.Table,
    column: str,
    earlier_ms: int,
    start_ms: int,
    end_ms: int,
    extra: Mapping[str, str],
) -> Points:
    """A point each minute between hours, on the line from one to the next; earlier_ms: by which
    they stand before the hour that they are about. An hour without one before it counts throughout.
    """
    ts = rows["ts"].to_numpy()[places] - earlier_ms
    places = places[(ts > start_ms - HOUR_MS) & (ts < end_ms + HOUR_MS)]
    ids, ts, values = (rows[c].to_numpy()[places] for c in ("series_id", "ts", column))
    follows = (ids[1:] == ids[:-1]) & (ts[1:] == ts[:-1] + HOUR_MS)
    before = values.copy()
    before[1:][follows] = values[:-1][follows]
    steps = np.arange(1, _MINUTES + 1)
    share = steps / _MINUTES
    points = before[:, None] * (1 - share) + values[:, None] * share
    times = ts[:, None] - HOUR_MS - earlier_ms + steps * MINUTE_MS
    owners = np.repeat(ids, _MINUTES)
    return _kept(extra, owners, times.ravel(), points.ravel(), start_ms, end_ms)


def _held(
    rows: pa.Table, value: Callable[[I64, I64], F64], start_ms: int, end_ms: int
) -> list[Points]:
    """By resource: a point each minute from each row on until the next one, or for _HELD_MS."""
    found = []
    resources = np.array(rows["resource"].to_pylist(), dtype=object)
    ids, at = (rows[name].to_numpy() for name in ("series_id", "evaluated_at"))
    for resource in sorted(set(resources.tolist())):
        own = np.flatnonzero(resources == resource)
        own = own[np.lexsort((at[own], ids[own]))]
        until = at[own] + _HELD_MS
        same = ids[own][1:] == ids[own][:-1]
        until[:-1][same] = np.minimum(until[:-1][same], at[own][1:][same])
        steps = np.arange(_HELD_MS // MINUTE_MS)
        times = at[own][:, None] + steps * MINUTE_MS
        there = (times < until[:, None]).ravel()
        row, ts = np.repeat(own, len(steps))[there], times.ravel()[there]
        extra = {"resource": resource}
        found.append(_kept(extra, ids[row], ts, value(row, ts), start_ms, end_ms))
    return found


def _kept(
    extra: Mapping[str, str],
    owners: I64,
    ts: I64,
    values: F64,
    start_ms: int,
    end_ms: int,
    *,
    has_stale: bool = False,
) -> Points:
    """Those in the range. owners: the series of each, in their order."""
    inside = (ts > start_ms) & (ts <= end_ms)
    ids, counts = np.unique(owners[inside], return_counts=True)
    return Points(extra, ids, counts, ts[inside], values[inside], has_stale)


_FORECASTS = ("series_id", "ts", "trained_until", "lower", "value", "upper")
_BASELINES = (
    *("series_id", "hour_of_week", "mean", "stddev", "count", "computed_at"),
    *("season", "method", "is_rate"),
)
_WEEK_MS: Final = 7 * DAY_MS

METRICS: Final = {
    metric.name: metric
    for metric in (
        DerivedMetric(
            "varve_forecast",
            "gauge",
            "What a series is forecast to be at the time of the point, by quantile.",
            "forecasts",
            _FORECASTS,
            (HOUR_MS, HOUR_MS),
            _forecast,
        ),
        DerivedMetric(
            "varve_forecast_ahead",
            "gauge",
            "What a series was forecast to be so many days after the time of the point.",
            "forecasts",
            _FORECASTS,
            (HOUR_MS, _WEEK_MS),
            _forecast_ahead,
        ),
        DerivedMetric(
            "varve_baseline_mean",
            "gauge",
            "What is expected of a minute of a series, a counter's growth per second.",
            "baselines",
            _BASELINES,
            (0, 0),
            _baseline("mean"),
            is_timeless=True,
        ),
        DerivedMetric(
            "varve_baseline_stddev",
            "gauge",
            "How far the minutes of a series stray from what is expected of them.",
            "baselines",
            _BASELINES,
            (0, 0),
            _baseline("stddev"),
            is_timeless=True,
        ),
        DerivedMetric(
            "varve_anomaly_score",
            "gauge",
            "Standard deviations between a minute and its baseline, where that is too many.",
            "anomalies",
            ("series_id", "window_end", "score", "is_deviation", "revision"),
            (MINUTE_MS, 0),
            _score,
        ),
        DerivedMetric(
            "varve_capacity_days_left",
            "gauge",
            "Days until a resource is forecast to run out; +Inf if not within a week.",
            "capacity",
            ("series_id", "resource", "evaluated_at", "reaches_at"),
            (_HELD_MS, 0),
            _days_left,
        ),
        DerivedMetric(
            "varve_capacity_probability",
            "gauge",
            "Probability that a resource runs out within a week.",
            "capacity",
            ("series_id", "resource", "evaluated_at", "probability"),
            (_HELD_MS, 0),
            _probability,
        ),
    )
}
"""By name."""

TABLES: Final = tuple(sorted({metric.table for metric in METRICS.values()}))

EXTRA_LABELS: Final = ("ahead", "quantile", "resource")
"""Labels that a derived series has beside those of the series it is about, and METRIC_LABEL."""
