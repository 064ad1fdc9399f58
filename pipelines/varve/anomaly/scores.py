"""How far minutes are from their baselines, in standard deviations. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from varve.anomaly.minute_values import Floats, Ints, Mask, MinuteValues
from varve.anomaly.rules import Rule
from varve.model.baseline_index import BaselineIndex

CONSTANT_SCORE = 5.0
"""Score of any other value of a series that was 0 throughout: far, though not extreme."""

MOST = 1e6
"""Scores are cut here: beyond, they say no more."""


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


def _by_rule(rules: tuple[Rule, ...], of: Callable[[Rule], Any], numbers: Ints) -> Any:
    """What `of` says of the rule of each minute."""
    return np.array([of(rule) for rule in rules])[numbers]
