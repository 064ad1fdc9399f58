"""What each hour of a series was like: moments of its minutes, which merge exactly.

Mean and standard deviation of any hours follow from those of each, so a baseline over weeks costs
a row an hour to read and the minutes are read once. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from varve.anomaly.minute_values import Floats, Ints, MinuteValues
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS, window_end


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
    calendar: Calendar = NO_HOLIDAYS

    def last(self, hours: int, *, before: int = 0) -> Hours:
        """The last hours but `before`; fewer if there are not so many."""
        stop = self.count.shape[1] - before
        part = slice(max(stop - hours, 0), max(stop, 0))
        return Hours(
            self.series_ids,
            self.end_ms - before * HOUR_MS,
            self.count[:, part],
            self.mean[:, part],
            self.m2[:, part],
            self.calendar,
        )

    @property
    def ends(self) -> Ints:
        """End of each hour, shape (hours,)."""
        return self.end_ms - HOUR_MS * np.arange(self.count.shape[1] - 1, -1, -1)

    @property
    def hours_of_week(self) -> Ints:
        """Which hour of the week each counts as, shape (hours,)."""
        return self.calendar.hour_of_week(self.ends)


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
    ]
    finite = np.isfinite(columns[4]) & np.isfinite(columns[5])  # squares may exceed a double
    return pa.table([pa.array(column[finite]) for column in columns], schema=schema)


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
    arrays = [pa.array(columns.get(f.name, zeros.astype(f.type.to_pandas_dtype()))) for f in schema]
    return pa.table(arrays, schema=schema)


def as_hours(rows: pa.Table, end_ms: int, hours: int, calendar: Calendar = NO_HOLIDAYS) -> Hours:
    """The last `hours` hours up to end_ms of the series in some rows of features, of which each
    hour has one row.
    """
    ids, place = np.unique(rows["series_id"].to_numpy(), return_inverse=True)
    column = hours - 1 - (end_ms - rows["window_end"].to_numpy()) // HOUR_MS
    there = (column >= 0) & (column < hours)
    found = [np.zeros((len(ids), hours)) for _ in range(3)]
    for array, name in zip(found, ("minutes", "mean", "m2"), strict=True):
        array[place[there], column[there]] = rows[name].to_numpy()[there]
    count, mean, m2 = found
    return Hours(ids, end_ms, count, mean, m2, calendar)


def first_hour_end(ts_ms: int) -> int:
    """End of the hour that holds a time."""
    return window_end(ts_ms, HOUR_MS)
