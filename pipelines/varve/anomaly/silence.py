"""Minutes in which a series that should have had a number had none, of rules that judge silence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from varve.anomaly.baseline_job import newest_rows
from varve.anomaly.judge_task import JudgeTask, Subjects
from varve.anomaly.minute_values import Ints, Mask
from varve.anomaly.rules import Rule
from varve.anomaly.scores import Scores
from varve.model.window import MINUTE_MS
from varve.rollups.window_keys import isin, unique_keys
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Silence:
    """Minutes without a number, sorted by (series_id, end)."""

    series_ids: Ints
    ends: Ints
    is_over: Mask
    """Whether a minute is without a number, but too soon after one to be judged: a repair may have
    made it so."""

    def restated(self, scores: Scores) -> Scores:
        """The scores, of which those of minutes that are over deviate no longer."""
        if not self.is_over.any():
            return scores
        over = np.stack([self.series_ids, self.ends], axis=1)[self.is_over]
        mask = isin(scores.series_ids, scores.ends, np.ascontiguousarray(over))
        return replace(
            scores,
            score=np.where(mask, 0.0, scores.score),
            is_deviation=scores.is_deviation & ~mask,
        )


def silent_minutes(task: JudgeTask, source: Snapshot) -> Silence:
    """Those of the minutes to judge that came silent_minutes or longer after the last number; with
    keys, the others without a number, too, as over. Raises what reading a snapshot raises.
    """
    subjects, after = _judged(task.subjects, task.rules)
    none = np.empty(0, np.int64)
    if not len(subjects.ids):
        return Silence(none, none, np.empty(0, np.bool_))
    window = task.window
    longest = int(after.max())
    bounds = Bounds(window.start_ms - longest * MINUTE_MS, window.end_ms, subjects.ids)
    columns = ("series_id", "window_end", "count", "nan_count", "revision")
    rows = newest_rows(source.scan(bounds, columns, threads=1))
    there = rows["count"].to_numpy() > rows["nan_count"].to_numpy()
    place = np.searchsorted(subjects.ids, rows["series_id"].to_numpy()[there])
    first = window.start_ms // MINUTE_MS - longest
    minutes = window.end_ms // MINUTE_MS - first
    at = rows["window_end"].to_numpy()[there] // MINUTE_MS - first - 1
    has = np.zeros((len(subjects.ids), minutes), np.bool_)
    has[place, at] = True
    # Minutes since the last number; before the first one that was read it is long ago.
    number = np.arange(minutes)
    last = np.maximum.accumulate(np.where(has, number, -longest), axis=1)
    age = number - last
    wanted = ~has
    wanted[:, :longest] = False
    is_over = age < after[:, None]
    if task.keys is None:
        wanted &= ~is_over
    series, column = np.nonzero(wanted)
    ids, ends = subjects.ids[series], (first + 1 + column) * MINUTE_MS
    found = Silence(ids, ends, is_over[series, column])
    if task.keys is None:
        return found
    mask = isin(ids, ends, task.keys)
    return Silence(ids[mask], ends[mask], found.is_over[mask])


def with_following(keys: Ints, subjects: Subjects, rules: tuple[Rule, ...]) -> Ints:
    """Repaired windows, and those after them whose silence they may have ended. keys: series_id and
    end, shape (n, 2), sorted.
    """
    judged, after = _judged(subjects, rules)
    if not len(judged.ids) or not len(keys):
        return keys
    mine = keys[np.isin(keys[:, 0], judged.ids)]
    if not len(mine):
        return keys
    minutes = after[np.searchsorted(judged.ids, mine[:, 0])]
    repeated = np.repeat(mine, minutes, axis=0)
    ahead = np.arange(len(repeated)) - np.repeat(np.cumsum(minutes) - minutes, minutes)
    repeated[:, 1] += ahead * MINUTE_MS
    return unique_keys(np.concatenate([keys, repeated]))


def _judged(subjects: Subjects, rules: tuple[Rule, ...]) -> tuple[Subjects, Ints]:
    """The series whose silence is judged, and after how many minutes."""
    after = np.array([rule.silent_minutes if rule.enabled else 0 for rule in rules])[subjects.rule]
    mask = after > 0
    return Subjects(subjects.ids[mask], subjects.is_rate[mask], subjects.rule[mask]), after[mask]
