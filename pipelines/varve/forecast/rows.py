"""Rows of the tables forecasts and forecast_fits. Pure, but for reading a snapshot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from varve.anomaly.minute_values import Ints
from varve.forecast.backtest import COVERAGE, Backtest
from varve.forecast.hourly import HORIZON
from varve.forecast.series_forecast import FORECAST, SeriesForecast
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot

FORECASTS, FITS = "forecasts", "forecast_fits"

_STEPS = HOUR_MS * np.arange(1, HORIZON + 1)
_ARRAYS = ("value", "lower", "upper")


def forecast_rows(outcomes: Sequence[SeriesForecast]) -> pa.Table:
    """HORIZON rows of forecasts for each series that has one, in the order given."""
    schema = table_schema(FORECASTS).arrow
    there = [outcome for outcome in outcomes if outcome.status == FORECAST]
    if not there:
        return schema.empty_table()
    columns = {
        "series_id": np.repeat([o.series_id for o in there], HORIZON),
        "ts": np.concatenate([o.trained_until + _STEPS for o in there]),
        "value": np.concatenate([o.value for o in there]),
        "lower": np.concatenate([o.lower for o in there]),
        "upper": np.concatenate([o.upper for o in there]),
        "coverage": np.full(len(there) * HORIZON, COVERAGE),
        "model": np.repeat([o.model for o in there], HORIZON),
        "trained_until": np.repeat([o.trained_until for o in there], HORIZON),
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def fit_rows(outcomes: Sequence[SeriesForecast], fitted_at: int) -> pa.Table:
    """A row of forecast_fits for each series."""
    rows = []
    for outcome in outcomes:
        chosen = outcome.chosen
        rows.append(
            {
                "series_id": outcome.series_id,
                "trained_until": outcome.trained_until,
                "fitted_at": fitted_at,
                "status": outcome.status,
                "reason": outcome.reason,
                "model": outcome.model,
                "hours": outcome.hours,
                "mae": None if chosen is None else chosen.mae,
                "mase": _mase(chosen),
                "mape": None if chosen is None else chosen.mape,
                "coverage": None if chosen is None else chosen.coverage,
                "naive_mase": _mase(outcome.naive),
                "prophet_mase": _mase(outcome.prophet),
                "seconds": outcome.seconds,
            }
        )
    return pa.Table.from_pylist(rows, table_schema(FITS).arrow)


def newest_fits(fits: Snapshot, ids: Ints) -> pa.Table:
    """The last row of each of some series, by series_id; columns series_id, fitted_at, status,
    hours.
    """
    rows = fits.scan(Bounds(series_ids=ids), ("series_id", "fitted_at", "status", "hours"))
    rows = rows.sort_by([("series_id", "ascending"), ("fitted_at", "descending")])
    _, first = np.unique(rows["series_id"].to_numpy(), return_index=True)
    return rows.take(first)


def to_json(outcome: SeriesForecast) -> str:
    """For the way back from a task; floats come back as they are."""
    return json.dumps(asdict(outcome), default=lambda array: array.tolist())


def from_json(text: str) -> SeriesForecast:
    """The inverse of `to_json`."""
    fields: dict[str, Any] = json.loads(text)
    for name in ("naive", "prophet"):
        if fields[name] is not None:
            widths = np.array(fields[name].pop("half_widths"))
            fields[name] = Backtest(**fields[name], half_widths=widths)
    return SeriesForecast(**fields | {name: np.array(fields[name]) for name in _ARRAYS})


def _mase(backtest: Backtest | None) -> float | None:
    return None if backtest is None or not math.isfinite(backtest.mase) else backtest.mase
