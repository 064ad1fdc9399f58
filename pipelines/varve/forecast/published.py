"""Forecasts as series, for PromQL: what was expected of a time ahead, and when. Pure.

A sample stands at the hour it was known at and never changes, as any other: so rules and dashboards
use forecasts like what was measured, and an old forecast can be laid over what came. docs/adr/0035.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from varve.client import Sample
from varve.model.identity import define
from varve.model.window import DAY_MS

FORECAST = "varve_forecast"
DAYS_LEFT = "varve_capacity_days_left"
PROBABILITY = "varve_capacity_probability"

AHEAD_DAYS = (1, 2, 3, 4, 5, 6, 7)

_QUANTILES = (("0.1", "lower"), ("0.5", "value"), ("0.9", "upper"))
_HELP = {
    FORECAST: "What a series is forecast to be so long after the sample's time, by quantile.",
    DAYS_LEFT: "Days until a resource is forecast to run out; +Inf if not within a week.",
    PROBABILITY: "Probability that a resource runs out within a week.",
}

Series = tuple[str, dict[str, str]]
"""Metric and tags."""


def forecast_samples(
    forecasts: Mapping[int, pa.Table], named: Mapping[int, Series], at_ms: int
) -> Iterable[Sample]:
    """Yields for each series and each of AHEAD_DAYS the three quantiles, at at_ms. forecasts: by
    series, rows after at_ms in their order.
    """
    for series_id, rows in sorted(forecasts.items()):
        if series_id not in named:
            continue
        by_ts = {row["ts"]: row for row in rows.to_pylist()}
        for days in AHEAD_DAYS:
            row = by_ts.get(at_ms + days * DAY_MS)
            if row is not None:
                for quantile, column in _QUANTILES:
                    labels = {"ahead": f"{days}d", "quantile": quantile}
                    yield _sample(FORECAST, named[series_id], labels, at_ms, row[column])


def capacity_samples(
    rows: Iterable[Mapping[str, Any]], named: Mapping[int, Series], at_ms: int
) -> Iterable[Sample]:
    """Yields for each row of capacity how long is left and how likely it runs out, at at_ms."""
    for row in rows:
        if row["series_id"] not in named:
            continue
        labels = {"resource": row["resource"]}
        left = math.inf
        if row["reaches_at"] is not None:
            left = max(row["reaches_at"] - at_ms, 0) / DAY_MS
        series = named[row["series_id"]]
        yield _sample(DAYS_LEFT, series, labels, at_ms, left)
        yield _sample(PROBABILITY, series, labels, at_ms, row["probability"])


def _sample(
    name: str, series: Series, labels: Mapping[str, str], at_ms: int, value: float
) -> Sample:
    """With the labels of the series it is about, and its metric as a label."""
    metric, tags = series
    everything = {**tags, "metric": metric, **labels}
    definition = define(name, everything, metric_type="gauge", help_text=_HELP[name])
    return Sample(definition, at_ms, float(value))
