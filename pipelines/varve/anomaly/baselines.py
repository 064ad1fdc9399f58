"""Baselines: what is expected of a series, over all hours or by the hour of the day or the week.

The reference is the mean and the population standard deviation of the minutes of the last seven
days; every series has it. Beside it stands a seasonal baseline where one predicts hours it has not
seen better by a tenth, and a robust one where a few hours would poison the moments. Pure; all
arrays are of the shape (series, hours) or (series, slots).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from varve.anomaly.hour_features import Hours
from varve.anomaly.minute_values import Floats, Ints, Mask
from varve.anomaly.moments import Moments, by_slot, left_out, sums
from varve.anomaly.tails import Tails, tails
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS, MINUTE_MS

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
_LEAST_ROBUST_HOURS, _LEAST_ROBUST_WEEKS = 5, 3
_LEAST_NUMBERS = 4
_LONGEST_MS = 6 * HOUR_MS

EVENT_A_MINUTE = 1 / 60
"""Least standard deviation of a rate, one event a minute, in saying how far a counter strays."""


def robust(hours: Hours, slots: int) -> Moments:
    """The same from medians: mean is the median of the hours' means; stddev has their median
    absolute deviation, as if they were normal, and the median spread inside an hour.

    Half of the hours of a slot may be anything. A slot of seven hours says little of its spread, so
    it is at least that of the hours of all slots about their medians.
    """
    count, mean, m2 = (by_slot(hours, v, slots) for v in (hours.count, hours.mean, hours.m2))
    there = count > 0
    means = np.where(there, mean, np.nan)
    with np.errstate(all="ignore"):
        inside = np.where(there, m2 / count, np.nan)
    middle = _median(means)
    apart = np.abs(means - middle[:, :, None])
    overall = _median(apart.reshape(len(apart), 1, -1))
    own = _median(apart)
    if slots == WEEK:  # of four hours an incident is one, which half of them does not outvote
        own = np.fmin(own, 2 * overall)
    between = _MAD_TO_STDDEV * np.fmax(own, overall)
    stddev = np.sqrt(between * between + _median(inside))
    return Moments(count.sum(axis=2), np.nan_to_num(middle), np.nan_to_num(stddev))


def baseline_rows(hours: Hours, is_rate: Mask, revision: int) -> pa.Table:
    """Rows of the table baselines for the series that have a minute within the last week.

    hours: up to HISTORY_HOURS of them. is_rate: shape (series,). revision: version of features.
    """
    errors = season_errors(hours)
    season = _chosen_season(errors)
    week = hours.last(WEEK)
    facts = _Facts(hours, is_rate, errors, _interval_ms(week), _spans_zero(week), revision)
    floor = np.where(is_rate, EVENT_A_MINUTE, 0.0)
    reference = sums(week, 1).moments
    alive = reference.count[:, 0] > 0
    plain_tails = _history_tails(hours, NONE_SEASON, floor)
    parts = [_rows(facts, reference, plain_tails, NONE_SEASON, MEAN, alive)]
    for name, slots in _SLOTS.items():
        here = alive & (season == name)
        if not here.any():
            continue
        span = hours.last(_SPAN[name])
        plain, steady = sums(span, slots).moments, robust(span, slots)
        poisoned = here & _is_poisoned(span, plain, steady, floor)
        if poisoned.any():
            found = _history_tails(hours, name, floor, steady=True)
            parts.append(_rows(facts, steady, found, name, MEDIAN, poisoned))
        if name != NONE_SEASON:
            found = _history_tails(hours, name, floor)
            parts.append(_rows(facts, plain, found, name, MEAN, here & ~poisoned))
    rows = pa.concat_tables(parts)
    return rows.sort_by([("series_id", "ascending"), ("hour_of_week", "ascending")])


def _history_tails(hours: Hours, season: str, floor: Floats, *, steady: bool = False) -> Tails:
    """How far the hours of a history strayed from what the others made expected of them, in parts
    as long as a baseline of the season is from. steady: by medians, which one hour does not move.

    Of a part that began before the series, its days say less of a week than they seem to: none
    counts but the last.
    """
    span, slots, age = _SPAN[season], _SLOTS[season], _age(hours)
    parts = []
    for before in reversed(range(0, hours.count.shape[1], span)):
        part = hours.last(span, before=before)
        found = _of_each_hour(part, robust(part, slots), slots) if steady else left_out(part, slots)
        whole = (age >= before + span) | (before == 0)
        parts.append((part, replace(found, count=np.where(whole[:, None], found.count, 0.0))))
    return tails(parts, floor)


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
    found = sums(train, slots)
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


def _is_poisoned(hours: Hours, plain: Moments, steady: Moments, floor: Floats) -> Mask:
    """Whether a few hours make the spread of a series what it is. floor: of its spread."""
    slots = plain.count.shape[1]
    least = _LEAST_ROBUST_WEEKS if slots == WEEK else _LEAST_ROBUST_HOURS
    enough = (hours.count > 0).sum(axis=1) >= least * slots
    spread = np.maximum(steady.stddev, floor[:, None])
    with np.errstate(all="ignore"):
        # The worst slot counts: an incident is in a few.
        ratio = np.where((plain.count > 0) & (spread > 0), plain.stddev / spread, 0).max(axis=1)
    found: Mask = enough & (ratio > _POISON)
    return found


def _of_each_hour(hours: Hours, moments: Moments, slots: int) -> Moments:
    """Those of the slot of each hour, shape (series, hours)."""
    slot = hours.hours_of_week % slots
    return Moments(moments.count[:, slot], moments.mean[:, slot], moments.stddev[:, slot])


def _interval_ms(hours: Hours) -> Ints:
    """Time from one number to the next, shape (series,): a minute or more."""
    there = hours.count > 0
    present = np.maximum(there.sum(axis=1), 1)
    numbers = np.maximum(hours.count.sum(axis=1), 1)
    last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    span = np.where(there.any(axis=1), last - there.argmax(axis=1) + 1, 1)
    # Of several numbers an hour, hours without any are gaps.
    covered = np.where(numbers > present, present, span)
    return np.rint(np.clip(covered * HOUR_MS / numbers, MINUTE_MS, _LONGEST_MS)).astype(np.int64)


def _spans_zero(hours: Hours) -> Mask:
    """Whether 0 is between the least and the greatest number, or one of them."""
    there = hours.count > 0
    low = np.where(there, hours.low, np.inf).min(axis=1, initial=np.inf)
    high = np.where(there, hours.high, -np.inf).max(axis=1, initial=-np.inf)
    found: Mask = (low <= 0) & (high >= 0)
    return found


@dataclass(frozen=True, slots=True)
class _Facts:
    """Of some series, whatever the season: arrays have one entry for each."""

    hours: Hours
    is_rate: Mask
    errors: dict[str, Floats]
    interval_ms: Ints
    spans_zero: Mask
    revision: int


def _rows(
    facts: _Facts, moments: Moments, beyond: Tails, season: str, method: str, chosen: Mask
) -> pa.Table:
    # A slot of a series with few numbers has as much time behind it, and some numbers.
    least = np.maximum(_LEAST_MINUTES * MINUTE_MS / facts.interval_ms, _LEAST_NUMBERS)
    enough = moments.count >= (1 if season == NONE_SEASON else least[:, None])
    row, slot = np.nonzero(enough & chosen[:, None])
    count = len(row)
    columns = {
        "series_id": facts.hours.series_ids[row],
        "hour_of_week": np.where(season == NONE_SEASON, -1, slot).astype(np.int32),
        "mean": moments.mean[row, slot],
        "stddev": moments.stddev[row, slot],
        "count": moments.count[row, slot].astype(np.int64),
        "computed_at": np.full(count, facts.hours.end_ms, np.int64),
        "season": [season] * count,
        "method": [method] * count,
        "is_rate": facts.is_rate[row],
        "error": _known(facts.errors[season][row]),
        "revision": np.full(count, facts.revision, np.int64),
        "interval_ms": facts.interval_ms[row],
        "spans_zero": facts.spans_zero[row],
        "held_above": _known(beyond.held_above[row]),
        "held_below": _known(beyond.held_below[row]),
        "extreme_above": _known(beyond.extreme_above[row]),
        "extreme_below": _known(beyond.extreme_below[row]),
    }
    schema = table_schema("baselines").arrow
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def _known(values: Floats) -> pa.Array:
    """NULL for what is not finite."""
    return pa.array(values, mask=~np.isfinite(values))


def _median(values: Floats) -> Floats:
    """Of what is not NaN along the last axis; NaN if all is."""
    ordered = np.sort(values, axis=2)  # NaN goes last
    there = (~np.isnan(values)).sum(axis=2)
    low, high = np.maximum(there - 1, 0) // 2, there // 2
    high = np.minimum(high, np.maximum(there - 1, 0))
    pick = np.take_along_axis(ordered, np.stack([low, high], axis=2), axis=2)
    found: Floats = pick.mean(axis=2)
    return found
