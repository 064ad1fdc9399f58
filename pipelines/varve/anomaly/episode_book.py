"""Keeps the episodes of all series: as minutes close, and anew where minutes were repaired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from varve.anomaly.baseline_job import newest_rows
from varve.anomaly.episode_rows import EPISODES, episode_of, named_series, newest_episodes
from varve.anomaly.episodes import (
    IS_OPEN,
    IS_WITHDRAWN,
    OPEN,
    UPDATE_EVERY_MS,
    Deviation,
    Episode,
    Event,
    Track,
    fold,
    grouped,
    restated,
)
from varve.anomaly.minute_values import Ints
from varve.anomaly.rules import Rules
from varve.model.window import HOUR_MS, MINUTE_MS
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

ANOMALIES = "anomalies"

FRESH_MS = HOUR_MS
"""How old an opening may be to be told as an alert."""

LONGEST_REACH_MS = 9 * HOUR_MS
"""The most that deviations in a row are apart: one and a half of the longest interval."""

BySeries = dict[int, tuple[str, list[Deviation]]]
"""Name of the rule and deviations, ascending, by series."""


class EpisodeBook:
    """What is open or may become so. Memory is in proportion to the series that deviate. Not safe
    to share between threads.
    """

    def __init__(self, store: Store, frontier_ms: int | None, rules: Rules) -> None:
        """As the tables have it, which are judged up to the frontier; None for not at all."""
        self._store = store
        self._tracks: dict[int, Track] = {}
        if frontier_ms is None:
            return
        # What is open is told of every hour.
        since = frontier_ms - 2 * UPDATE_EVERY_MS
        told = {
            row["series_id"]: episode_of(row)
            for row in newest_episodes(snapshot(store, EPISODES), since_ms=since)
            if row["state"] == IS_OPEN
        }
        longest = max(rule.windows for rule in rules.all)
        begin = frontier_ms - longest * LONGEST_REACH_MS
        for series_id, (rule, deviations) in self._stored(begin, None).items():
            if series_id not in told:
                _, track = fold(series_id, deviations, frontier_ms, rules.named(rule))
                if track.run:
                    self._tracks[series_id] = Track(series_id, track.run)
        self._reopen(told, frontier_ms, rules)

    def _reopen(self, told: Mapping[int, Episode], frontier_ms: int, rules: Rules) -> None:
        """Takes up open episodes, with the minutes since they were told of."""
        if not told:
            return
        begin = min(episode.starts_at for episode in told.values()) - MINUTE_MS
        stored = self._stored(begin, np.array(sorted(told), np.int64))
        for series_id, episode in told.items():
            rule, deviations = stored.get(series_id, (episode.rule, []))
            later = [d for d in deviations if d.end_ms >= episode.starts_at]
            _, track = fold(series_id, later, frontier_ms, rules.named(rule))
            now = track.episode or episode
            self._tracks[series_id] = Track(series_id, [], _as_told(now, episode))

    def take(
        self,
        found: BySeries,
        fixed: BySeries,
        repaired: Mapping[int, Sequence[int]],
        until_ms: int,
        rules: Rules,
        now_ms: int,
    ) -> list[Event]:
        """What happens to episodes by the minutes up to until_ms, in order.

        found: deviations among minutes that have closed. repaired: ends of the minutes whose
        deviation a repair has changed, by series. fixed: those of these that deviate now.
        """
        events: list[Event] = []
        for series_id in sorted((found.keys() | self._tracks.keys()) - repaired.keys()):
            track = self._tracks.setdefault(series_id, Track(series_id))
            rule, deviations = found.get(series_id, (_rule_of(track), []))
            events += track.advance(deviations, until_ms, rules.named(rule))
            self._keep(track)
        if repaired:
            events += self._restate(found, fixed, repaired, until_ms, rules)
        events.sort(key=lambda event: event.decided_at)
        return self._marked(self._with_groups(events, rules), rules, now_ms)

    def _keep(self, track: Track) -> None:
        if track.is_idle:
            self._tracks.pop(track.series_id, None)
        else:
            self._tracks[track.series_id] = track

    def _restate(
        self,
        found: BySeries,
        fixed: BySeries,
        repaired: Mapping[int, Sequence[int]],
        until_ms: int,
        rules: Rules,
    ) -> list[Event]:
        """Folds the series anew whose minutes were repaired, and compares with what was told."""
        ids = np.array(sorted(repaired), np.int64)
        begin = min(min(ends) for ends in repaired.values()) - HOUR_MS
        told: dict[int, list[Episode]] = defaultdict(list)
        episodes = snapshot(self._store, EPISODES)
        for row in newest_episodes(episodes, since_ms=begin, series=ids):
            if row["state"] != IS_WITHDRAWN:
                told[row["series_id"]].append(episode_of(row))
                begin = min(begin, row["starts_at"])
        stored = self._stored(begin - MINUTE_MS, ids)
        events: list[Event] = []
        for series_id in ids.tolist():
            rule, before = stored.get(series_id, ("", []))
            by_end = {d.end_ms: d for d in before if d.end_ms not in repaired[series_id]}
            for source in (fixed, found):
                if series_id in source:
                    rule, deviations = source[series_id]
                    by_end |= {d.end_ms: d for d in deviations}
            ordered = [by_end[end] for end in sorted(by_end)]
            now, track = fold(series_id, ordered, until_ms, rules.named(rule))
            changes, same = restated(told[series_id], now, until_ms)
            events += changes
            if track.episode is not None and track.episode.episode_id in same:
                held = same[track.episode.episode_id]
                before_it = next(e for e in told[series_id] if e.episode_id == held)
                track.episode = replace(_as_told(track.episode, before_it), told_at=until_ms)
            self._tracks.pop(series_id, None)
            self._keep(track)
        return events

    def _with_groups(self, events: list[Event], rules: Rules) -> list[Event]:
        opened = [event for event in events if event.event == OPEN]
        if len(opened) < min(rule.group_least for rule in rules.all):
            return events
        named = named_series(self._store, (event.episode.series_id for event in opened))
        keys = {
            event.episode.series_id: tuple(
                named[event.episode.series_id][1].get(label, "")
                for label in rules.named(event.episode.rule).group_by
            )
            for event in opened
            if event.episode.series_id in named
        }
        return grouped(events, keys, {rule.name: rule for rule in rules.all})

    def _marked(self, events: Sequence[Event], rules: Rules, now_ms: int) -> list[Event]:
        """With what an opening decides for the whole life of its episode: whether it is an alert,
        as it is while it is fresh, and its group.
        """
        marks: dict[str, tuple[bool, str | None]] = {}
        marked = []
        for event in events:
            episode = event.episode
            if event.event == OPEN:
                is_fresh = now_ms - event.decided_at <= FRESH_MS
                alerts = is_fresh and rules.named(episode.rule).alert
                marks[episode.episode_id] = alerts, episode.group_id
            alerts, group_id = marks.get(episode.episode_id, (episode.is_alert, episode.group_id))
            episode = replace(episode, is_alert=alerts, group_id=group_id)
            marked.append(replace(event, episode=episode))
        for track in self._tracks.values():
            if track.episode is not None and track.episode.episode_id in marks:
                alerts, group_id = marks[track.episode.episode_id]
                track.episode = replace(track.episode, is_alert=alerts, group_id=group_id)
        return marked

    def _stored(self, after_ms: int, ids: Ints | None) -> BySeries:
        """Deviations that are in the table, of minutes after a time."""
        rows = newest_rows(snapshot(self._store, ANOMALIES).scan(Bounds(after_ms, None, ids)))
        rows = rows.filter(rows["is_deviation"])
        return by_series(rows, rows["rule"].to_pylist())


def by_series(rows: pa.Table, rules: Iterable[str]) -> BySeries:
    """Deviations of rows sorted by (series_id, window_end). rules: name of each row's rule."""
    found: BySeries = {}
    for row, rule in zip(rows.to_pylist(), rules, strict=True):
        found.setdefault(row["series_id"], (rule, []))[1].append(deviation(row))
    return found


def deviation(row: Mapping[str, Any]) -> Deviation:
    """The deviation that a row of anomalies, or of scores, is."""
    return Deviation(
        *(row["window_end"], row["value"], row["expected"], row["score"], row["baseline_at"]),
        *(row["opens_beyond"] or 0.0, row["extreme_beyond"] or 0.0),
        row["interval_ms"] or MINUTE_MS,
    )


def _as_told(now: Episode, told: Episode) -> Episode:
    """What an episode is now, under the identity by which it was told."""
    return replace(
        now,
        episode_id=told.episode_id,
        told_at=told.told_at,
        group_id=told.group_id,
        is_alert=told.is_alert,
    )


def _rule_of(track: Track) -> str:
    return "" if track.episode is None else track.episode.rule
