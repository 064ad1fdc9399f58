"""What the jobs have found in what there is: the furthest episode, and what runs out first."""

from __future__ import annotations

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

_SINCE_MS = 4 * DAY_MS
"""Of which time episodes count: what the first start of the detector judges, and the day of it."""


class Findings:
    """Says each, once, as soon as it is there."""

    def __init__(self, store: Store, clock: Clock, url: str, say: Callable[[str], None]) -> None:
        """url: of the pages, ending with /. say: tells a person."""
        self._store, self._clock, self._url, self._say = store, clock, url, say
        self.episode = ""
        """In words, with the address of the page; empty until one is found."""
        self.breach = ""
        """The same of a forecast that reaches its threshold."""

    @property
    def complete(self) -> bool:
        return bool(self.episode and self.breach)

    def look(self) -> None:
        """Looks for what is not found yet. What fails is left to the next look."""
        try:
            if not self.episode and (found := self._furthest_episode()):
                self.episode = f"{found}: {self._url}anomalies"
                self._say(f"Unusual: {self.episode}")
            if not self.breach and (found := self._first_breach()):
                self.breach = f"{found}: {self._url}capacity"
                self._say(f"Forecast: {self.breach}")
        except (OSError, VarveError):  # tables that are not there yet, or files that went
            return

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
