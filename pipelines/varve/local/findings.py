"""What the jobs have found in what there is: the furthest episode, and what runs out first."""

from __future__ import annotations

import time
from collections.abc import Callable

from varve.anomaly.episode_rows import EPISODES, named_series, newest_episodes
from varve.anomaly.episodes import IS_WITHDRAWN
from varve.forecast.breach import FIRING
from varve.forecast.report import capacity_report
from varve.model.clock import Clock, utc_text
from varve.model.errors import VarveError
from varve.model.identity import canonical
from varve.model.window import DAY_MS
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

_EVERY_S = 5.0
_SINCE_MS = 4 * DAY_MS
"""Of which time episodes count: what the first start of the detector judges, and the day of it."""


class Findings:
    """Says each, once, as soon as it is there."""

    def __init__(self, store: Store, clock: Clock, url: str, say: Callable[[str], None]) -> None:
        """url: of the pages, ending with /. say: tells a person."""
        self._store, self._clock, self._url, self._say = store, clock, url, say
        self._looked_at = -_EVERY_S
        self.episode = ""
        """In words, with the address of the page; empty until one is found."""
        self.breach = ""
        """The same of a forecast that reaches its threshold."""

    @property
    def complete(self) -> bool:
        return bool(self.episode and self.breach)

    def look(self) -> None:
        """Looks for what is not found yet, now and then. What fails is left to the next look."""
        now = time.monotonic()
        if self.complete or now - self._looked_at < _EVERY_S:
            return
        self._looked_at = now
        self.episode = self.episode or self._found("Unusual", self._furthest_episode, "anomalies")
        self.breach = self.breach or self._found("Forecast", self._first_breach, "capacity")

    def _found(self, what: str, find: Callable[[], str], page: str) -> str:
        try:
            found = find()
        except (OSError, VarveError):  # no tables yet, or files that went
            found = ""
        if found:
            found = f"{found}: {self._url}{page}"
            self._say(f"{what}: {found}")
        return found

    def _furthest_episode(self) -> str:
        since_ms = self._clock.now_ms() - _SINCE_MS
        rows = newest_episodes(snapshot(self._store, EPISODES), since_ms=since_ms)
        rows = [row for row in rows if row["state"] != IS_WITHDRAWN]
        if not rows:
            return ""
        row = max(rows, key=lambda row: (abs(row["score"]), row["episode_id"]))
        metric, tags = named_series(self._store, {row["series_id"]})[row["series_id"]]
        side = "above" if row["score"] > 0 else "below"
        return (
            f"{canonical(metric, tags)} was {abs(row['score']):.0f} standard deviations {side} what"
            f" is expected of it from {utc_text(row['starts_at'])} on"
        )

    def _first_breach(self) -> str:
        lines = capacity_report(self._store, self._clock.now_ms())
        if not lines or lines[0].state != FIRING:
            return ""
        days = max(lines[0].days_left or 0.0, 0.0)
        return f"{lines[0].series} runs out in {days:.1f} days"
