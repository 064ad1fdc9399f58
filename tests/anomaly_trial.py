"""Judges whole series day by day, each by the baselines as of its begin, as the jobs do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tests.anomaly_series import DAY, Floats
from varve.anomaly.baselines import HISTORY_HOURS, baseline_rows
from varve.anomaly.episodes import CLOSE, OPEN, Deviation, Event, Track
from varve.anomaly.hour_features import as_hours, hour_features
from varve.anomaly.minute_values import Mask, MinuteValues
from varve.anomaly.rules import Rule
from varve.anomaly.scores import Scores, score
from varve.model.baseline_index import BaselineIndex

MINUTE = 60_000
MONDAY = 1_795_392_000_000 - 1_795_392_000_000 % (7 * 86_400_000) + 4 * 86_400_000

Episode = tuple[int, int, int]
"""Minutes: when it was opened, its first and its last."""


def judge(values: Floats, is_rate: Mask, rule: Rule, first: int) -> list[list[Episode]]:
    """Episodes of each series from the minute `first` on, a midnight, each day by the baselines as
    of its begin. values: shape (series, minutes), NaN where there is no number.
    """
    series, length = values.shape
    rates = np.flatnonzero(is_rate)
    features = hour_features(_numbers(values, 0), rates, 0)
    ends = features["window_end"].to_numpy()
    tracks = [Track(n) for n in range(series)]
    events: list[list[Event]] = [[] for _ in tracks]
    for begin in range(first, length, DAY):
        until = MONDAY + begin * MINUTE
        hours = as_hours(features.filter(ends <= until), until, HISTORY_HOURS)
        index = BaselineIndex.of(baseline_rows(hours, is_rate[hours.series_ids], 0))
        minutes = _numbers(values[:, begin : begin + DAY], begin)
        judged = score(minutes, np.zeros(len(minutes.ends), np.int64), (rule,), index)
        far = _deviations(judged.where(judged.is_deviation))
        for n, track in enumerate(tracks):
            events[n] += track.advance(far.get(n, []), until + DAY * MINUTE, rule)
    return [_episodes(told, track) for told, track in zip(events, tracks, strict=True)]


def _numbers(values: Floats, first: int) -> MinuteValues:
    series, count = values.shape
    ends = np.tile(MONDAY + (first + 1 + np.arange(count)) * MINUTE, series)
    ids, flat = np.repeat(np.arange(series), count), values.ravel()
    there = np.isfinite(flat)
    none = np.zeros(int(there.sum()), np.int64)
    return MinuteValues(ids[there], ends[there], flat[there], none)


def _deviations(far: Scores) -> dict[int, list[Deviation]]:
    found: dict[int, list[Deviation]] = defaultdict(list)
    names = ("series_ids", "ends", "values", "expected", "score", "baseline_at")
    columns = [getattr(far, name).tolist() for name in names]
    beyond = [far.opens_beyond.tolist(), far.extreme_beyond.tolist(), far.interval_ms.tolist()]
    for series_id, *rest in zip(*columns, *beyond, strict=True):
        found[series_id].append(Deviation(*rest))
    return found


def _episodes(told: Sequence[Event], track: Track) -> list[Episode]:
    opened = {e.episode.episode_id: e.decided_at for e in told if e.event == OPEN}
    found = [e.episode for e in told if e.event == CLOSE]
    found += [track.episode] if track.episode else []
    return [
        tuple((at - MONDAY) // MINUTE for at in (opened[e.episode_id], e.starts_at, e.last_at))
        for e in found
    ]
