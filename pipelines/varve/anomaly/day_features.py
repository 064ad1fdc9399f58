"""What each day of a series was like, by its hours and those of the week before. Pure.

Nothing that comes after a day is in its row, so that a day may be joined to what was known before
it. Source: rows of the table features.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from varve.anomaly.hour_features import Hours, as_hours
from varve.anomaly.minute_values import Floats, Mask
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, HOUR_MS

TABLE = "day_features"

DAYS_BEFORE = 7
"""Days from which the season of a day is taken."""

_HOURS = 24
_MINUTES = 1_440


def day_rows(rows: pa.Table, day_end_ms: int, revision: int) -> pa.Table:
    """Rows of day_features of one day, by series_id: of the series that have an hour in it. rows:
    of features, each hour once, of the day and DAYS_BEFORE.
    """
    schema = table_schema(TABLE).arrow
    hours = as_hours(rows, day_end_ms, (DAYS_BEFORE + 1) * _HOURS)
    day = hours.last(_HOURS)
    minutes = day.count.sum(axis=1)
    alive = minutes > 0
    if not alive.any():
        return schema.empty_table()
    there = day.count > 0
    with np.errstate(all="ignore"):
        level = (day.count * day.mean).sum(axis=1) / minutes
        volatility = np.sqrt(day.m2.sum(axis=1) / minutes)
    columns = {
        "series_id": hours.series_ids,
        "day_end": np.full(len(minutes), day_end_ms),
        "is_rate": _is_rate(rows, hours),
        "minutes": minutes.astype(np.int32),
        "level": level,
        "trend": _HOURS * _slope(day.mean, there),
        "volatility": volatility,
        "gap_rate": 1 - minutes / _MINUTES,
        "resets": _resets(rows, hours, day_end_ms),
        "season_strength": _season_strength(hours, there),
        "revision": np.full(len(minutes), revision),
    }
    arrays = [_array(columns[f.name][alive], f) for f in schema]
    return pa.table(arrays, schema=schema)


def _array(values: np.ndarray, field: pa.Field) -> pa.Array:
    """NaN is NULL where there may be one."""
    mask = np.isnan(values) if field.nullable else None
    return pa.array(values, field.type, mask=mask)


def _slope(means: Floats, there: Mask) -> Floats:
    """Change an hour of the least-squares line through the hours that are there; NaN for one."""
    at = np.where(there, np.arange(_HOURS), 0.0)
    count = there.sum(axis=1)
    with np.errstate(all="ignore"):
        middle = at.sum(axis=1) / count
        apart = np.where(there, np.arange(_HOURS) - middle[:, None], 0.0)
        level = np.where(there, means, 0.0).sum(axis=1) / count
        rise = (apart * np.where(there, means - level[:, None], 0.0)).sum(axis=1)
        spread = (apart * apart).sum(axis=1)
        found: Floats = np.where(spread > 0, rise / spread, np.nan)
    return found


def _season_strength(hours: Hours, there: Mask) -> Floats:
    """Of the last day, by the mean of the means of each hour on the days before."""
    before = hours.last(DAYS_BEFORE * _HOURS, before=_HOURS)
    shape = (len(hours.series_ids), DAYS_BEFORE, _HOURS)
    known = (before.count > 0).reshape(shape)
    means = before.mean.reshape(shape)
    today = hours.last(_HOURS).mean
    with np.errstate(all="ignore"):
        expected = np.where(known, means, 0.0).sum(axis=1) / known.sum(axis=1)
        rest = _variance(today - expected, there & known.any(axis=1))
        whole = _variance(today, there)
        found: Floats = np.where(whole > 0, 1 - rest / whole, np.nan)
    return found


def _variance(values: Floats, there: Mask) -> Floats:
    """Population variance along the last axis of what is there; NaN for nothing."""
    count = there.sum(axis=1)
    with np.errstate(all="ignore"):
        middle = np.where(there, values, 0.0).sum(axis=1) / count
        apart = np.where(there, values - middle[:, None], 0.0)
        found: Floats = np.where(count > 0, (apart * apart).sum(axis=1) / count, np.nan)
    return found


def _is_rate(rows: pa.Table, hours: Hours) -> Mask:
    first = np.searchsorted(rows["series_id"].to_numpy(), hours.series_ids)
    found: Mask = rows["is_rate"].to_numpy(zero_copy_only=False)[first]
    return found


def _resets(rows: pa.Table, hours: Hours, day_end_ms: int) -> np.ndarray:
    ends = rows["window_end"].to_numpy()
    today = (ends > day_end_ms - DAY_MS) & (ends <= day_end_ms)
    place = np.searchsorted(hours.series_ids, rows["series_id"].to_numpy()[today])
    found = np.zeros(len(hours.series_ids), np.int64)
    np.add.at(found, place, rows["resets"].to_numpy()[today])
    return found


def days_of(hour_ends: np.ndarray) -> np.ndarray:
    """Ends of the days that some hours are in."""
    return -(-hour_ends // DAY_MS) * DAY_MS


HOURS_READ_MS = (DAYS_BEFORE + 1) * _HOURS * HOUR_MS
"""How far before the end of a day its row looks."""
