"""Baselines: what is expected of a series, over all hours or by the hour of the day or the week.

The reference is the mean and the population standard deviation of the minutes of the last seven
days; every series has it. Beside it stands a seasonal baseline where one predicts hours it has not
seen better by a tenth, and a robust one where a few hours would poison the moments. Pure; all
arrays are of the shape (series, hours) or (series, slots).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from varve.anomaly.hour_features import Hours
from varve.anomaly.minute_values import Floats, Ints, Mask
from varve.model.schema import table_schema

DAY, WEEK = 24, 168
HISTORY_HOURS = 4 * WEEK
"""Hours that are read: four weeks, the least from which an hour of the week has a spread."""

NONE_SEASON, DAY_SEASON, WEEK_SEASON = "none", "day", "week"
MEAN, MEDIAN = "mean", "median"

_SLOTS = {NONE_SEASON: 1, DAY_SEASON: DAY, WEEK_SEASON: WEEK}
_SPAN = {NONE_SEASON: WEEK, DAY_SEASON: WEEK, WEEK_SEASON: HISTORY_HOURS}
_GAIN = 0.9
_LEAST_HOURS = 2 * DAY
_LEAST_WEEKLY_HOURS = 2 * WEEK
_LEAST_MINUTES = 30
_POISON = 2.0
_MAD_TO_STDDEV = 1.4826
_LEAST_ROBUST_HOURS = 5


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the slots of some series, shape (series, slots): 1, 24 or 168 of them."""

    count: Floats
    mean: Floats
    stddev: Floats


def pooled(hours: Hours, slots: int) -> Moments:
    """Moments of all minutes of the hours that share a slot: hour of the week modulo `slots`.

    Where there is no minute, count, mean and stddev are 0.
    """
    count, mean, m2 = (_by_slot(hours, values, slots) for values in _moments(hours))
    total = count.sum(axis=2)
    with np.errstate(all="ignore"):
        middle = np.where(total > 0, (count * mean).sum(axis=2) / total, 0.0)
        apart = mean - middle[:, :, None]
        middle = middle + np.where(total > 0, (count * apart).sum(axis=2) / total, 0.0)
        apart = mean - middle[:, :, None]
        spread = m2.sum(axis=2) + (count * apart * apart).sum(axis=2)
        stddev = np.where(total > 0, np.sqrt(spread / total), 0.0)
    return Moments(total, middle, stddev)


def robust(hours: Hours, slots: int) -> Moments:
    """The same from medians: mean is the median of the hours' means; stddev has their median
    absolute deviation, as if they were normal, and the median spread inside an hour.

    Half of the hours of a slot may be anything. A slot of seven hours says little of its spread, so
    it is at least that of the hours of all slots about their medians.
    """
    count, mean, m2 = (_by_slot(hours, values, slots) for values in _moments(hours))
    there = count > 0
    means = np.where(there, mean, np.nan)
    with np.errstate(all="ignore"):
        inside = np.where(there, m2 / count, np.nan)
    middle = _median(means)
    apart = np.abs(means - middle[:, :, None])
    overall = _median(apart.reshape(len(apart), 1, -1))
    between = _MAD_TO_STDDEV * np.fmax(_median(apart), overall)
    stddev = np.sqrt(between * between + _median(inside))
    return Moments(count.sum(axis=2), np.nan_to_num(middle), np.nan_to_num(stddev))


def baseline_rows(hours: Hours, is_rate: Mask, revision: int) -> pa.Table:
    """Rows of the table baselines for the series that have a minute within the last week.

    hours: up to HISTORY_HOURS of them. is_rate: shape (series,). revision: version of features.
    """
    errors = season_errors(hours)
    season = _chosen_season(errors)
    reference = pooled(hours.last(WEEK), 1)
    alive = reference.count[:, 0] > 0
    parts = [_rows(hours, is_rate, reference, errors, NONE_SEASON, MEAN, alive, revision)]
    for name, slots in _SLOTS.items():
        here = alive & (season == name)
        if not here.any():
            continue
        span = hours.last(_SPAN[name])
        plain, steady = pooled(span, slots), robust(span, slots)
        if name == WEEK_SEASON:  # four hours of a slot are too few for medians
            poisoned = np.zeros(len(here), np.bool_)
        else:
            poisoned = _is_poisoned(span, plain, steady)
        parts.append(_rows(hours, is_rate, steady, errors, name, MEDIAN, here & poisoned, revision))
        if name != NONE_SEASON:
            parts.append(
                _rows(hours, is_rate, plain, errors, name, MEAN, here & ~poisoned, revision)
            )
    rows = pa.concat_tables(parts)
    return rows.sort_by([("series_id", "ascending"), ("hour_of_week", "ascending")])


def season_errors(hours: Hours) -> dict[str, Floats]:
    """Mean absolute error of each season's baseline on hours held out of it, shape (series,).

    Held out is the last day; from two weeks of history on the last week, so that every day of a
    week counts. Infinite where it cannot be told.
    """
    old = _age(hours)
    long = old >= _LEAST_WEEKLY_HOURS
    found = {}
    for name, slots in _SLOTS.items():
        by_day = _held_out(hours, DAY, _SPAN[name], slots)
        by_week = _held_out(hours, WEEK, _SPAN[name], slots)
        error = np.where(long, by_week, by_day)
        least = _LEAST_WEEKLY_HOURS if name == WEEK_SEASON else _LEAST_HOURS
        found[name] = np.where(old >= least, error, np.inf)
    return found


def _chosen_season(errors: dict[str, Floats]) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """The season of each series: a finer one has to be better by a tenth."""
    best = errors[NONE_SEASON]
    chosen = np.full(len(best), NONE_SEASON, dtype="<U4")
    for name in (DAY_SEASON, WEEK_SEASON):
        with np.errstate(invalid="ignore"):
            better = np.isfinite(errors[name]) & (errors[name] < _GAIN * best)
        chosen[better], best = name, np.where(better, errors[name], best)
    return chosen


def _held_out(hours: Hours, held: int, span: int, slots: int) -> Floats:
    """Error of a baseline from `span` hours on the `held` hours after them."""
    test, train = hours.last(held), hours.last(span, before=held)
    if not train.count.shape[1]:
        return np.full(len(hours.series_ids), np.inf)
    found = pooled(train, slots)
    slot = test.hours_of_week % slots
    usable = (test.count > 0) & (found.count[:, slot] > 0)
    with np.errstate(all="ignore"):
        error = np.where(usable, np.abs(test.mean - found.mean[:, slot]), 0).sum(axis=1)
        # A season that says nothing of most hours is none.
        enough = usable.sum(axis=1) * 2 > (test.count > 0).sum(axis=1)
        result: Floats = np.where(enough, error / usable.sum(axis=1), np.inf)
    return result


def _age(hours: Hours) -> Ints:
    """Hours since the first that has a minute; 0 for none."""
    there = hours.count > 0
    first = there.argmax(axis=1)
    return np.where(there.any(axis=1), hours.count.shape[1] - first, 0)


def _is_poisoned(hours: Hours, plain: Moments, steady: Moments) -> Mask:
    """Whether a few hours make the spread of a series what it is."""
    enough = (hours.count > 0).sum(axis=1) >= _LEAST_ROBUST_HOURS * plain.count.shape[1]
    known = plain.count > 0
    with np.errstate(all="ignore"):
        # The worst slot counts: an incident is in a few.
        ratio = np.where(known & (steady.stddev > 0), plain.stddev / steady.stddev, 0).max(axis=1)
    found: Mask = enough & (ratio > _POISON)
    return found


def _rows(
    hours: Hours,
    is_rate: Mask,
    moments: Moments,
    errors: dict[str, Floats],
    season: str,
    method: str,
    chosen: Mask,
    revision: int,
) -> pa.Table:
    least = 1 if season == NONE_SEASON else _LEAST_MINUTES
    row, slot = np.nonzero((moments.count >= least) & chosen[:, None])
    error = errors[season][row]
    count = len(row)
    columns = [
        hours.series_ids[row],
        np.where(season == NONE_SEASON, -1, slot).astype(np.int32),
        moments.mean[row, slot],
        moments.stddev[row, slot],
        moments.count[row, slot].astype(np.int64),
        np.full(count, hours.end_ms, np.int64),
        [season] * count,
        [method] * count,
        is_rate[row],
        pa.array(error, mask=~np.isfinite(error)),
        np.full(count, revision, np.int64),
    ]
    schema = table_schema("baselines").arrow
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _moments(hours: Hours) -> tuple[Floats, Floats, Floats]:
    return hours.count, hours.mean, hours.m2


def _by_slot(hours: Hours, values: Floats, slots: int) -> Floats:
    """Values by slot: shape (series, slots, hours of a slot), 0 where there are fewer."""
    slot = hours.hours_of_week % slots
    order = np.argsort(slot, kind="stable")
    sorted_slots = slot[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_slots, sorted_slots)
    depth = int(place.max()) + 1 if len(place) else 1
    found = np.zeros((len(values), slots, depth))
    found[:, sorted_slots, place] = values[:, order]
    return found


def _median(values: Floats) -> Floats:
    """Of what is not NaN along the last axis; NaN if all is."""
    ordered = np.sort(values, axis=2)  # NaN goes last
    there = (~np.isnan(values)).sum(axis=2)
    low, high = np.maximum(there - 1, 0) // 2, there // 2
    high = np.minimum(high, np.maximum(there - 1, 0))
    pick = np.take_along_axis(ordered, np.stack([low, high], axis=2), axis=2)
    found: Floats = pick.mean(axis=2)
    return found
