"""What each hour of a series was like: moments of its minutes, which merge exactly.

Mean and standard deviation of any hours follow from those of each, so a baseline over weeks costs
a row an hour to read and the minutes are read once. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from varve.anomaly.minute_values import Floats, Ints, MinuteValues
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS, window_end

HELD_MINUTES = 3
"""As many as open an episode by default."""

RANGES = ("low", "high", "held_low", "held_high")
"""Columns of features that say between what numbers an hour was."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Moments of some series over the same hours; arrays have the shape (series, hours)."""

    series_ids: Ints
    """Sorted, shape (series,)."""
    end_ms: int
    """End of the last hour; hour i ends (hours - 1 - i) hours before."""
    count: Floats
    """Minutes with a number; 0 where there is none."""
    mean: Floats
    """0 where there is no minute."""
    m2: Floats
    """Sum of squared distances from the mean."""
    low: Floats
    """Least number of a minute; NaN where there is none, as in the next three."""
    high: Floats
    """Greatest number of a minute."""
    held_low: Floats
    """Least number that HELD_MINUTES minutes in a row were all at or below."""
    held_high: Floats
    """Greatest number that HELD_MINUTES minutes in a row were all at or above."""
    calendar: Calendar = NO_HOLIDAYS

    def last(self, hours: int, *, before: int = 0) -> Hours:
        """The last hours but `before`; fewer if there are not so many."""
        stop = self.count.shape[1] - before
        part = slice(max(stop - hours, 0), max(stop, 0))
        arrays = {name: getattr(self, name)[:, part] for name in ("count", "mean", "m2", *RANGES)}
        return replace(self, end_ms=self.end_ms - before * HOUR_MS, **arrays)

    @property
    def ends(self) -> Ints:
        """End of each hour, shape (hours,)."""
        return self.end_ms - HOUR_MS * np.arange(self.count.shape[1] - 1, -1, -1)

    @property
    def hours_of_week(self) -> Ints:
        """Which hour of the week each counts as, shape (hours,)."""
        return self.calendar.hour_of_week(self.ends)


@np.errstate(over="ignore", invalid="ignore")  # of what is beyond all numbers there is no row
def hour_features(minutes: MinuteValues, rate_ids: Ints, revision: int) -> pa.Table:
    """Rows of the table features, sorted by (series_id, window_end): one for each hour that has a
    minute with a number. rate_ids: sorted ids of the series whose numbers are rates.
    """
    schema = table_schema("features").arrow
    if not len(minutes.ends):
        return schema.empty_table()
    hours = -(-minutes.ends // HOUR_MS) * HOUR_MS
    ids = minutes.series_ids
    starts = np.flatnonzero(
        np.concatenate([[True], (ids[1:] != ids[:-1]) | (hours[1:] != hours[:-1])])
    )
    counts = np.diff(np.append(starts, len(ids)))
    means = np.add.reduceat(minutes.values, starts) / counts
    # Distances sum to 0 but for rounding; taking their mean once more leaves less than an ulp.
    means += np.add.reduceat(minutes.values - np.repeat(means, counts), starts) / counts
    distances = minutes.values - np.repeat(means, counts)
    columns = [
        ids[starts],
        hours[starts],
        np.isin(ids[starts], rate_ids),
        counts.astype(np.int32),
        means,
        np.add.reduceat(distances * distances, starts),
        np.minimum.reduceat(minutes.values, starts),
        np.maximum.reduceat(minutes.values, starts),
        np.add.reduceat(minutes.resets, starts),
        np.full(len(starts), revision, np.int64),
        -_held(-minutes.values, starts),
        _held(minutes.values, starts),
    ]
    finite = np.isfinite(columns[4]) & np.isfinite(columns[5])  # squares may exceed a double
    arrays = [
        pa.array(column[finite], mask=np.isnan(column[finite]) if field.nullable else None)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def _held(values: Floats, starts: Ints) -> Floats:
    """Of each hour, which begin at `starts`, the greatest number that HELD_MINUTES of its minutes
    in a row were all at or above; NaN with fewer. Minutes without a number are passed over.
    """
    counts = np.diff(np.append(starts, len(values)))
    least = values.copy()
    for ahead in range(1, HELD_MINUTES):
        least[:-ahead] = np.minimum(least[:-ahead], values[ahead:])
    place = np.arange(len(values)) - np.repeat(starts, counts)
    least[place > np.repeat(counts, counts) - HELD_MINUTES] = -np.inf
    found = np.maximum.reduceat(least, starts)
    return np.where(counts >= HELD_MINUTES, found, np.nan)


def empty_hours(keys: Ints, rate_ids: Ints, revision: int) -> pa.Table:
    """Rows of features for hours of which a repair has left nothing. keys: series_id and end, of
    shape (n, 2).
    """
    schema, zeros = table_schema("features").arrow, np.zeros(len(keys))
    columns = {
        "series_id": keys[:, 0],
        "window_end": keys[:, 1],
        "is_rate": np.isin(keys[:, 0], rate_ids),
        "revision": np.full(len(keys), revision),
    }
    arrays = [
        pa.nulls(len(keys), f.type)
        if f.nullable
        else pa.array(columns.get(f.name, zeros.astype(f.type.to_pandas_dtype())))
        for f in schema
    ]
    return pa.table(arrays, schema=schema)


def as_hours(rows: pa.Table, end_ms: int, hours: int, calendar: Calendar = NO_HOLIDAYS) -> Hours:
    """The last `hours` hours up to end_ms of the series in some rows of features, of which each
    hour has one row.
    """
    ids, place = np.unique(rows["series_id"].to_numpy(), return_inverse=True)
    column = hours - 1 - (end_ms - rows["window_end"].to_numpy()) // HOUR_MS
    there = (column >= 0) & (column < hours)
    there &= rows["minutes"].to_numpy() > 0
    found: dict[str, Any] = {}
    for name in ("minutes", "mean", "m2", *RANGES):
        array = np.full((len(ids), hours), np.nan if name in RANGES else 0.0)
        if name in rows.column_names:
            array[place[there], column[there]] = rows[name].to_numpy()[there]
        found["count" if name == "minutes" else name] = array
    return Hours(ids, end_ms, **found, calendar=calendar)


def first_hour_end(ts_ms: int) -> int:
    """End of the hour that holds a time."""
    return window_end(ts_ms, HOUR_MS)
