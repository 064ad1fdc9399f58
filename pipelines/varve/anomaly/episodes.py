"""Episodes: stretches of minutes far from the baseline, from their opening to their end. Pure.

One fold says what the deviations of a series amount to, whether they come one by one as minutes
close or all at once after a repair: so what was told is restated by comparing the two.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from varve.anomaly.rules import Rule
from varve.model.window import HOUR_MS, MINUTE_MS

OPEN, UPDATE, CLOSE, RESTATE, WITHDRAW = "open", "update", "close", "restate", "withdraw"
IS_OPEN, IS_CLOSED, IS_WITHDRAWN = "open", "closed", "withdrawn"
WARNING, CRITICAL = "warning", "critical"

UPDATE_EVERY_MS = HOUR_MS
"""How often an episode that goes on is told again."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A minute far from the baseline."""

    end_ms: int
    value: float
    """NaN: the series was silent."""
    expected: float
    score: float
    baseline_at: int
    opens_beyond: float = 0.0
    """Score, without its sign, beyond which it is one of those that open an episode; the threshold
    of the rule if that is greater."""
    extreme_beyond: float = 0.0
    """Beyond which it opens one by itself; extreme of the rule if that is greater."""
    interval_ms: int = MINUTE_MS
    """Time from one number of the series to the next."""

    @property
    def reach_ms(self) -> int:
        """How long after it the next may end to be in a row with it: a whole number of minutes."""
        return max(3 * self.interval_ms // (2 * MINUTE_MS), 1) * MINUTE_MS

    def is_extreme(self, rule: Rule) -> bool:
        """Whether it opens an episode by itself, which is critical."""
        return abs(self.score) > max(rule.extreme, self.extreme_beyond)

    def is_strong(self, rule: Rule) -> bool:
        """Whether it is one of those that open an episode together."""
        return abs(self.score) > max(rule.threshold, self.opens_beyond) or self.is_extreme(rule)


@dataclass(frozen=True, slots=True)
class Episode:
    """What is known of an episode. peak: the minute that was furthest off."""

    episode_id: str
    series_id: int
    rule: str
    starts_at: int
    last_at: int
    windows: int
    peak: Deviation
    severity: str
    state: str = IS_OPEN
    told_at: int = 0
    """Up to which minute it was told of last."""
    group_id: str | None = None
    is_alert: bool = False
    interval_ms: int = MINUTE_MS
    """Time from one number of the series to the next, by its last minute."""

    def differs(self, other: Episode) -> bool:
        """Whether people were told something else of it."""
        return self._told() != other._told()

    def _told(self) -> tuple[object, ...]:
        value = None if math.isnan(self.peak.value) else self.peak.value
        peak = (value, self.peak.expected, self.peak.score)
        return self.starts_at, self.last_at, self.windows, peak, self.state


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an episode, as of the end of the last minute that was known."""

    event: str
    episode: Episode
    decided_at: int

    @property
    def event_id(self) -> str:
        """The same for the same event, however often it is sent."""
        episode = self.episode
        text = f"{episode.episode_id}:{self.event}:{self.decided_at}:{episode.windows}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(slots=True)
class Track:
    """Where one series is: deviations in a row that are no episode yet, or the open episode."""

    series_id: int
    run: list[Deviation] = field(default_factory=list)
    episode: Episode | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to remember."""
        return self.episode is None and not self.run

    def advance(self, deviations: Iterable[Deviation], until_ms: int, rule: Rule) -> list[Event]:
        """Takes in deviations, ascending and later than all before: all that end up to until_ms."""
        events: list[Event] = []
        for deviation in deviations:
            events += self._quiet(deviation.end_ms - MINUTE_MS, rule)
            if self.episode is not None:
                events += self._extend(deviation, rule)
            else:
                events += self._gather(deviation, rule)
        events += self._quiet(until_ms, rule)
        # Of an episode that lasted, one word a look.
        if self.episode is not None and until_ms - self.episode.told_at >= UPDATE_EVERY_MS:
            events.append(self._tell(UPDATE, until_ms))
        return events

    def _gather(self, deviation: Deviation, rule: Rule) -> list[Event]:
        if self.run and (deviation.score > 0) != (self.run[-1].score > 0):
            self.run = []
        if not deviation.is_strong(rule):
            self.run = []
            return []
        self.run.append(deviation)
        if len(self.run) < rule.windows and not deviation.is_extreme(rule):
            return []
        peak = max(self.run, key=lambda d: abs(d.score))
        self.episode = Episode(
            _episode_id(self.series_id, self.run[0].end_ms),
            self.series_id,
            rule.name,
            self.run[0].end_ms,
            deviation.end_ms,
            len(self.run),
            peak,
            CRITICAL if any(d.is_extreme(rule) for d in self.run) else WARNING,
            interval_ms=deviation.interval_ms,
        )
        self.run = []
        return [self._tell(OPEN, deviation.end_ms)]

    def _extend(self, deviation: Deviation, rule: Rule) -> list[Event]:
        before = self.episode
        if before is None:
            return []
        peak = max(before.peak, deviation, key=lambda d: abs(d.score))
        severity = CRITICAL if deviation.is_extreme(rule) else before.severity
        self.episode = replace(
            before,
            last_at=deviation.end_ms,
            windows=before.windows + 1,
            peak=peak,
            severity=severity,
            interval_ms=deviation.interval_ms,
        )
        return [self._tell(UPDATE, deviation.end_ms)] if severity != before.severity else []

    def _quiet(self, until_ms: int, rule: Rule) -> list[Event]:
        """What follows from there being no deviation up to a time."""
        if self.run and until_ms - self.run[-1].end_ms >= self.run[-1].reach_ms:
            self.run = []
        episode = self.episode
        if episode is None:
            return []
        closed_at = episode.last_at + max(rule.close_minutes * MINUTE_MS, 3 * episode.interval_ms)
        if until_ms < closed_at:
            return []
        self.episode = replace(episode, state=IS_CLOSED)
        event = self._tell(CLOSE, closed_at)
        self.episode = None
        return [event]

    def _tell(self, event: str, decided_at: int) -> Event:
        if self.episode is None:
            raise ValueError("there is no episode to tell of")
        self.episode = replace(self.episode, told_at=decided_at)
        return Event(event, self.episode, decided_at)


def fold(
    series_id: int, deviations: Sequence[Deviation], until_ms: int, rule: Rule
) -> tuple[list[Episode], Track]:
    """All episodes of some deviations, ascending, and where the series is then: the last episode,
    if it is open, is the track's.
    """
    track = Track(series_id)
    events = track.advance(deviations, until_ms, rule)
    closed = [event.episode for event in events if event.event == CLOSE]
    return [*closed, *([track.episode] if track.episode else [])], track


def restated(
    told: Sequence[Episode], found: Sequence[Episode], decided_at: int
) -> tuple[list[Event], dict[str, str]]:
    """The events by which what was told becomes what is found, and the told id of each found one.

    An episode is the one told if they overlap; of several told that became one, the first goes on
    and the others are withdrawn, as are those of which nothing is left.
    """
    events: list[Event] = []
    ids: dict[str, str] = {}
    left = sorted(found, key=lambda e: e.starts_at)
    for before in sorted(told, key=lambda e: e.starts_at):
        match = next((e for e in left if _overlap(before, e)), None)
        if match is None:
            gone = replace(before, state=IS_WITHDRAWN, windows=0, told_at=decided_at)
            events.append(Event(WITHDRAW, gone, decided_at))
            continue
        left.remove(match)
        ids[match.episode_id] = before.episode_id
        now = replace(
            match,
            episode_id=before.episode_id,
            told_at=decided_at,
            group_id=before.group_id,
            is_alert=before.is_alert,
        )
        if now.differs(before):
            events.append(Event(RESTATE, now, decided_at))
    for new in left:
        events.append(Event(OPEN, replace(new, state=IS_OPEN, told_at=decided_at), decided_at))
        if new.state == IS_CLOSED:
            events.append(Event(CLOSE, replace(new, told_at=decided_at), decided_at))
    return events, ids


def grouped(
    events: Sequence[Event], keys: dict[int, tuple[str, ...]], rules: dict[str, Rule]
) -> list[Event]:
    """The events with the identity of their group: openings of one minute whose series share a key.

    keys: the values of the rule's group_by labels, by series. Under group_least openings are no
    group.
    """
    together: dict[tuple[int, tuple[str, ...]], list[Event]] = {}
    for event in events:
        if event.event == OPEN and event.episode.series_id in keys:
            together.setdefault((event.decided_at, keys[event.episode.series_id]), []).append(event)
    ids: dict[str, str] = {}
    for (at_ms, key), opened in together.items():
        least = min(rules[event.episode.rule].group_least for event in opened)
        if len(opened) >= max(least, 2):
            text = f"{at_ms}:{key}"
            group_id = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            ids |= {event.episode.episode_id: group_id for event in opened}
    return [
        replace(event, episode=replace(event.episode, group_id=ids[event.episode.episode_id]))
        if event.episode.episode_id in ids
        else event
        for event in events
    ]


def _overlap(one: Episode, other: Episode) -> bool:
    return one.starts_at <= other.last_at and other.starts_at <= one.last_at


def _episode_id(series_id: int, starts_at: int) -> str:
    return hashlib.blake2b(f"{series_id}:{starts_at}".encode(), digest_size=16).hexdigest()
