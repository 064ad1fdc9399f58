"""How far minutes are from their baselines, in standard deviations. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from varve.anomaly.minute_values import Floats, Ints, Mask, MinuteValues
from varve.anomaly.rules import Rule
from varve.model.baseline_index import BaselineIndex
from varve.model.window import MINUTE_MS

CONSTANT_SCORE = 5.0
"""Score of any other value of a series that was 0 throughout, and at least that of 0 for a series
that never was: far, though not extreme."""

LEAST_NUMBERS = 24
"""Numbers behind a baseline without which nothing is judged, however much time they cover."""

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
    opens_beyond: Floats
    """Score, without its sign, beyond which minutes in a row open an episode."""
    extreme_beyond: Floats
    """The same of a single minute."""
    interval_ms: Ints
    """Time from one number of the series to the next."""

    def where(self, mask: Mask) -> Scores:
        """Those that the mask selects."""
        return Scores(*(getattr(self, name)[mask] for name in self.__slots__))


@np.errstate(over="ignore", invalid="ignore")  # of values beyond all numbers
def score(
    minutes: MinuteValues, rule_of: Ints, rules: tuple[Rule, ...], index: BaselineIndex
) -> Scores:
    """rule_of: number of the rule of each minute. Minutes without a baseline, with too few minutes
    behind it, or of a rule that is not enabled are left out. NaN is a minute of silence: as far
    below what is expected as a constant 0 is from another value.
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
    adaptive = _by_rule(rules, lambda rule: rule.adaptive, rule_of)
    # What never was 0 and is has stopped, however wide its spread.
    stopped = adaptive & (minutes.values == 0) & ~index.spans_zero[rows]
    stddev = np.where(stopped, np.minimum(stddev, np.abs(apart) / CONSTANT_SCORE), stddev)
    silent = np.isnan(minutes.values)
    distance = np.clip(np.where(silent, -CONSTANT_SCORE, apart / stddev), -MOST, MOST)
    threshold = _by_rule(rules, lambda rule: rule.threshold, rule_of)
    up = _by_rule(rules, lambda rule: rule.direction != "below", rule_of)
    down = _by_rule(rules, lambda rule: rule.direction != "above", rule_of)
    far = ((distance > threshold) & up) | (((distance < -threshold) | silent) & down)
    extreme = _by_rule(rules, lambda rule: rule.extreme, rule_of)
    held, single = (
        np.where(adaptive, _of_side(index, kind, rows, distance), np.nan)
        for kind in ("held", "extreme")
    )
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
        np.fmax(threshold, np.where(stopped | silent, np.nan, held)),
        np.fmax(extreme, single),
        index.interval_ms[rows],
    )


def _of_side(index: BaselineIndex, kind: str, rows: Ints, distance: Floats) -> Floats:
    """How far minutes are once in a long time, on the side that each is on; NaN where unknown."""
    above, below = (index.beyond[f"{kind}_{side}"][rows] for side in ("above", "below"))
    found: Floats = np.where(distance > 0, above, below)
    return found


def _enough(index: BaselineIndex, series: Ints, least: Ints) -> Mask:
    """Whether the reference of each minute's series is of enough minutes: numbers count for the
    time from one to the next.
    """
    row = index.reference[np.searchsorted(index.ids, series)]
    covered = index.count[row] * index.interval_ms[row] / MINUTE_MS
    found: Mask = (covered >= least) & (index.count[row] >= np.minimum(least, LEAST_NUMBERS))
    return found


def _by_rule(rules: tuple[Rule, ...], of: Callable[[Rule], Any], numbers: Ints) -> Any:
    """What `of` says of the rule of each minute."""
    return np.array([of(rule) for rule in rules])[numbers]
