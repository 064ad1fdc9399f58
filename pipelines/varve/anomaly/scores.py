"""How far minutes are from their baselines, in standard deviations. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from varve.anomaly.hour_features import hour_of_week
from varve.anomaly.minute_values import Floats, Ints, Mask, MinuteValues
from varve.anomaly.rules import Rule

CONSTANT_SCORE = 5.0
"""Score of any other value of a series that was 0 throughout: far, though not extreme."""

MOST = 1e6
"""Scores are cut here: beyond, they say no more."""

_SLOTS = 169  # the reference, and 168 hours
_MODULUS = {"none": 1, "day": 24, "week": 168}


@dataclass(frozen=True, slots=True)
class BaselineIndex:
    """The baselines of some series, to be looked up. Arrays over series are sorted by id."""

    ids: Ints
    modulus: Ints
    """Of the hour of the week, for the slot: 1, 24 or 168."""
    reference: Ints
    """Row of the reference of each series."""
    keys: Ints
    """Place of the series times 169, plus 0 for season none or the slot plus 1; sorted."""
    rows: Ints
    """Row of each key."""
    mean: Floats
    stddev: Floats
    count: Ints
    computed_at: Ints
    is_rate: Mask
    """Of each row."""

    @classmethod
    def of(cls, table: pa.Table) -> BaselineIndex:
        """table: rows of baselines; of several runs the latest of each series counts."""
        newest = _newest_run(table)
        table = table.filter(pa.array(newest)) if not newest.all() else table
        series, slot = (table[c].to_numpy() for c in ("series_id", "hour_of_week"))
        season = np.array(table["season"].to_pylist(), dtype="<U4")
        is_reference = (season == "none") & (
            np.array(table["method"].to_pylist(), dtype="<U6") == "mean"
        )
        ids = np.unique(series)
        place = np.searchsorted(ids, series)
        reference = np.zeros(len(ids), np.int64)
        reference[place[is_reference]] = np.flatnonzero(is_reference)
        chosen = np.flatnonzero(~is_reference)
        modulus = np.ones(len(ids), np.int64)
        for name, hours in _MODULUS.items():
            modulus[place[chosen[season[chosen] == name]]] = hours
        keys = place[chosen] * _SLOTS + np.where(season[chosen] == "none", 0, slot[chosen] + 1)
        order = np.argsort(keys)
        return cls(
            ids,
            modulus,
            reference,
            keys[order],
            chosen[order],
            table["mean"].to_numpy(),
            table["stddev"].to_numpy(),
            table["count"].to_numpy(),
            table["computed_at"].to_numpy(),
            table["is_rate"].to_numpy(zero_copy_only=False),
        )

    def look_up(self, series: Ints, ends: Ints, *, plain: Mask) -> tuple[Ints, Mask]:
        """Row of the baseline of each minute, and whether there is one. plain: minutes for which
        the reference is wanted, whatever was chosen.
        """
        if not len(self.ids):
            return np.zeros(len(series), np.int64), np.zeros(len(series), np.bool_)
        place = np.minimum(np.searchsorted(self.ids, series), len(self.ids) - 1)
        there = self.ids[place] == series
        rows = self.reference[place]
        if len(self.keys):
            modulus = self.modulus[place]
            slot = np.where(modulus == 1, 0, hour_of_week(ends) % modulus + 1)
            wanted = place * _SLOTS + slot
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            rows = np.where((self.keys[at] == wanted) & ~plain, self.rows[at], rows)
        return rows, there


@dataclass(frozen=True, slots=True)
class Scores:
    """Minutes that could be judged, in the order they were given."""

    series_ids: Ints
    ends: Ints
    values: Floats
    expected: Floats
    stddev: Floats
    """Above 0."""
    score: Floats
    is_deviation: Mask
    rule: Ints
    """Number of the rule."""
    baseline_at: Ints

    def where(self, mask: Mask) -> Scores:
        """Those that the mask selects."""
        return Scores(*(getattr(self, name)[mask] for name in self.__slots__))


def score(
    minutes: MinuteValues, rule_of: Ints, rules: tuple[Rule, ...], index: BaselineIndex
) -> Scores:
    """rule_of: number of the rule of each minute. Minutes without a baseline, with too few minutes
    behind it, or of a rule that is not enabled are left out.
    """
    plain = _by_rule(rules, lambda rule: rule.season == "none", rule_of)
    rows, there = index.look_up(minutes.series_ids, minutes.ends, plain=plain)
    least = _by_rule(rules, lambda rule: rule.least_minutes, rule_of)
    enabled = _by_rule(rules, lambda rule: rule.enabled, rule_of)
    judged = there & enabled
    judged[judged] = _enough(index, minutes.series_ids[judged], least[judged])
    minutes, rule_of, rows = minutes.where(judged), rule_of[judged], rows[judged]
    expected = index.mean[rows]
    floor = _by_rule(rules, lambda rule: rule.floor, rule_of) * np.abs(expected)
    apart = minutes.values - expected
    a_minute = _by_rule(rules, lambda rule: rule.counter_floor, rule_of) / 60
    floor = np.maximum(floor, np.where(index.is_rate[rows], a_minute, 0))
    stddev = np.maximum(index.stddev[rows], floor)
    stddev = np.where(stddev > 0, stddev, np.abs(apart) / CONSTANT_SCORE)
    # A series that was 0 and is has no spread at all, and no distance.
    stddev = np.where(stddev > 0, stddev, 1.0)
    distance = np.clip(apart / stddev, -MOST, MOST)
    threshold = _by_rule(rules, lambda rule: rule.threshold, rule_of)
    up = _by_rule(rules, lambda rule: rule.direction != "below", rule_of)
    down = _by_rule(rules, lambda rule: rule.direction != "above", rule_of)
    far = ((distance > threshold) & up) | ((distance < -threshold) & down)
    return Scores(
        minutes.series_ids,
        minutes.ends,
        minutes.values,
        expected,
        stddev,
        distance,
        far,
        rule_of,
        index.computed_at[rows],
    )


def _enough(index: BaselineIndex, series: Ints, least: Ints) -> Mask:
    """Whether the reference of each minute's series is of enough minutes."""
    found: Mask = index.count[index.reference[np.searchsorted(index.ids, series)]] >= least
    return found


def _newest_run(table: pa.Table) -> Mask:
    computed = table["computed_at"].to_numpy()
    if not len(computed) or computed.min() == computed.max():
        return np.ones(len(computed), np.bool_)
    ids, place = np.unique(table["series_id"].to_numpy(), return_inverse=True)
    latest = np.full(len(ids), computed.min())
    np.maximum.at(latest, place, computed)
    found: Mask = computed == latest[place]
    return found


def _by_rule(rules: tuple[Rule, ...], of: Callable[[Rule], Any], numbers: Ints) -> Any:
    """What `of` says of the rule of each minute."""
    return np.array([of(rule) for rule in rules])[numbers]
