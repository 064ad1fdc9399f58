"""Forecasts series on Spark: a group each of applyInPandas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from varve.anomaly.minute_values import MinuteValues
from varve.forecast.forecast_job import Fit, FitTask
from varve.forecast.hourly import hourly_of
from varve.forecast.rows import from_json, to_json
from varve.forecast.series_forecast import SeriesForecast, forecast_series
from varve.model.calendar import Calendar

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_PARTS_PER_CORE = 8  # fits take unequally long: who is done takes the next part


def fit_on(spark: SparkSession) -> Fit:
    """What forecasts series on the executors of a session; all tasks have one calendar."""

    def fit(tasks: Sequence[FitTask]) -> Iterator[SeriesForecast]:
        if not tasks:
            return
        parts = min(len(tasks), _PARTS_PER_CORE * spark.sparkContext.defaultParallelism)
        spark.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
        frame = spark.createDataFrame(_frame(tasks))
        calendar = tasks[0].calendar

        def fit_group(rows: pd.DataFrame) -> pd.DataFrame:
            return _fit_group(rows, calendar)

        grouped = frame.repartition(parts, "series_id").groupBy("series_id")
        # Not toLocalIterator(), which runs one part at a time. A task's outcome is some 20 kB.
        for row in grouped.applyInPandas(fit_group, "outcome string").collect():
            yield from_json(row.outcome)

    return fit


def _frame(tasks: Sequence[FitTask]) -> pd.DataFrame:
    """A row for each hour with a number."""
    parts = []
    for task in tasks:
        known = ~np.isnan(task.history.values)
        parts.append(
            pd.DataFrame(
                {
                    "series_id": task.series_id,
                    "ts": task.history.ends[known],
                    "y": task.history.values[known],
                    "floor": np.nan if task.floor is None else task.floor,
                    "cap": np.nan if task.cap is None else task.cap,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _fit_group(rows: pd.DataFrame, calendar: Calendar) -> pd.DataFrame:
    """The outcome of one series, from its hours in any order."""
    rows = rows.sort_values("ts")
    ids, ends = rows["series_id"].to_numpy(np.int64), rows["ts"].to_numpy(np.int64)
    numbers = MinuteValues(ids, ends, rows["y"].to_numpy(np.float64), np.zeros(len(ids), np.int64))
    ((series_id, history),) = hourly_of(numbers).items()
    floor, cap = (None if np.isnan(v := rows[name].iloc[0]) else v for name in ("floor", "cap"))
    outcome = forecast_series(series_id, history, floor=floor, cap=cap, calendar=calendar)
    return pd.DataFrame({"outcome": [to_json(outcome)]})
