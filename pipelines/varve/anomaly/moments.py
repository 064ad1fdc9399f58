"""Moments of the minutes of some hours, by the slot of the season that each hour is in. Pure.

All arrays are of the shape (series, hours) or (series, slots).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from varve.anomaly.hour_features import Hours
from varve.anomaly.minute_values import Floats

PRIOR_HOURS = 3.0
"""Hours of its own that the spread between all hours counts as in a slot. Seven hours of a slot say
little of how far its hours are apart from day to day, four say less."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the slots of some series, shape (series, slots): 1, 24 or 168 of them."""

    count: Floats
    mean: Floats
    stddev: Floats


@dataclass(frozen=True, slots=True)
class Sums:
    """What moments of slots follow from, shape (series, slots); all is 0 where there is no hour."""

    count: Floats
    """Minutes."""
    mean: Floats
    inside: Floats
    """Squared distances of minutes from the mean of their hour."""
    between: Floats
    """Squared distances of the means of hours from that of the slot, each as often as it has
    minutes."""
    hours: Floats

    @property
    def moments(self) -> Moments:
        """With the population standard deviation of one slot; of several, that between the days of
        a slot is drawn to that of all.
        """
        spread = np.sqrt(_variance(self, _shared(self)))
        return Moments(self.count, self.mean, spread)


@np.errstate(over="ignore", invalid="ignore")  # of one series, which then has no tail
def sums(hours: Hours, slots: int) -> Sums:
    """Of all minutes of the hours that share a slot: hour of the week modulo `slots`."""
    count, mean, m2 = (by_slot(hours, v, slots) for v in (hours.count, hours.mean, hours.m2))
    total = count.sum(axis=2)
    with np.errstate(all="ignore"):
        middle = np.where(total > 0, (count * mean).sum(axis=2) / total, 0.0)
        apart = mean - middle[:, :, None]
        middle = middle + np.where(total > 0, (count * apart).sum(axis=2) / total, 0.0)
    apart = mean - middle[:, :, None]
    between = (count * apart * apart).sum(axis=2)
    return Sums(total, middle, m2.sum(axis=2), between, (count > 0).sum(axis=2).astype(float))


def left_out(hours: Hours, slots: int) -> Moments:
    """For each hour, shape (series, hours), the moments of its slot as they would be without it;
    count is 0 where nothing would be left.
    """
    whole = sums(hours, slots)
    slot = hours.hours_of_week % slots
    count, mean, inside, between, number = (
        getattr(whole, name)[:, slot] for name in ("count", "mean", "inside", "between", "hours")
    )
    left = np.where(hours.count > 0, count - hours.count, 0.0)
    with np.errstate(all="ignore"):
        apart = hours.mean - mean
        middle = mean - hours.count * apart / left
        between = np.maximum(between - hours.count * apart * apart * count / left, 0.0)
        rest = Sums(left, middle, inside - hours.m2, between, number - 1)
        stddev = np.sqrt(np.maximum(_variance(rest, _shared(whole), is_one=slots == 1), 0.0))
    return Moments(left, middle, stddev)


def by_slot(hours: Hours, values: Floats, slots: int) -> Floats:
    """Values by slot: shape (series, slots, hours of a slot), 0 where there are fewer."""
    slot = hours.hours_of_week % slots
    order = np.argsort(slot, kind="stable")
    sorted_slots = slot[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_slots, sorted_slots)
    depth = int(place.max()) + 1 if len(place) else 1
    found = np.zeros((len(values), slots, depth))
    found[:, sorted_slots, place] = values[:, order]
    return found


def _shared(of: Sums) -> Floats:
    """The variance between the hours of a slot, over all slots, shape (series, 1)."""
    freedom = np.maximum(of.hours - 1, 0).sum(axis=1)
    with np.errstate(all="ignore"):
        minutes = of.count.sum(axis=1) / of.hours.sum(axis=1)
        found = of.between.sum(axis=1) / minutes / freedom
    return np.where(freedom > 0, found, 0.0)[:, None]


def _variance(of: Sums, shared: Floats, *, is_one: bool | None = None) -> Floats:
    """is_one: whether all hours are of one slot, whose variance is that of its minutes."""
    is_one = of.count.shape[1] == 1 if is_one is None else is_one
    with np.errstate(all="ignore"):
        between = of.between / of.count
        if not is_one:
            own = np.where(of.hours > 1, between * of.hours, 0.0)  # its variance times (hours - 1)
            freedom = np.maximum(of.hours - 1, 0)
            between = (own + PRIOR_HOURS * shared) / (freedom + PRIOR_HOURS)
        found: Floats = np.where(of.count > 0, of.inside / of.count + between, 0.0)
    return found
