"""How old and how far ahead samples may be, by metric: conf/limits.toml, within retention.

A sample of Arrow names its series by id alone, and ids do not tell every metric from every other:
so the series that have bounds of their own are looked up in the table series.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from varve.ingest.limits import Limits, MetricLimits
from varve.model.exceeded import Exceeded
from varve.model.identity import SeriesDefinition, id_range
from varve.model.series_matcher import SeriesMatcher

SURE = (4, 5)
"""The part of a retention within which a sample is taken: older ones might expire before they
surely are in the rollups."""

Ids = npt.NDArray[np.int64]


class AgeLimits:
    """How old and how far ahead the samples of one batch may be: oldest_ms <= ts <= newest_ms."""

    def __init__(self, limits: Limits, now_ms: int, oldest_ms: int, newest_ms: int) -> None:
        """oldest_ms: what retention allows at most. newest_ms: where a metric says nothing."""
        self._now_ms, self._oldest_ms, self._newest_ms = now_ms, oldest_ms, newest_ms
        self.default = self._bounds(limits.default)
        self._of = {
            SeriesMatcher.of_metric(metric): bounds
            for metric, own in limits.metrics.items()
            if (bounds := self._bounds(own)) != self.default
        }
        self._classes = [
            (kept.name, kept.matcher, sure_since(now_ms, kept.kept_ms["samples"]))
            for kept in limits.classes
        ]

    def by_series(
        self,
        ids: Ids,
        members: Callable[[SeriesMatcher], Ids],
        definition_of: Callable[[int], SeriesDefinition | None],
    ) -> tuple[Ids, Ids] | None:
        """The oldest and the newest time for each id; None if all have the default.

        members: gives the ids of the registered series that a matcher means, sorted. definition_of:
        gives the definition of the series at a place of `ids`, if it came with the batch.
        """
        if not self._of and not self._classes:
            return None
        oldest, newest = (np.full(len(ids), bound) for bound in self.default)
        own = False
        for matcher, bounds in self._of.items():
            meant = _meant(matcher, ids, members, definition_of)
            oldest[meant], newest[meant] = bounds
            own |= bool(meant)
        for _, matcher, oldest_ms in self._classes:
            meant = _meant(matcher, ids, members, definition_of)
            oldest[meant] = np.maximum(oldest[meant], oldest_ms)
            own |= bool(meant)
        return (oldest, newest) if own else None

    def oldest_limit(self, oldest_ms: int) -> Exceeded:
        """What a sample is beyond that is older than this bound."""
        if oldest_ms == self._oldest_ms:
            limit = "retention.samples_days"
        elif of_class := [name for name, _, bound in self._classes if bound == oldest_ms]:
            limit = f"retention.{of_class[0]}.samples_days"
        else:
            limit = _key(oldest_ms, self.default[0], "max_age_s")
        return Exceeded(limit, self._now_ms - oldest_ms)

    def newest_limit(self, newest_ms: int) -> Exceeded:
        """What a sample is beyond that is newer than this bound."""
        if newest_ms == self._newest_ms:
            limit = "ingest.max_future_s"
        else:
            limit = _key(newest_ms, self.default[1], "max_future_s")
        return Exceeded(limit, newest_ms - self._now_ms)

    def _bounds(self, limits: MetricLimits) -> tuple[int, int]:
        oldest, newest = self._oldest_ms, self._newest_ms
        if limits.max_age_s is not None:
            oldest = max(oldest, self._now_ms - limits.max_age_s * 1000)
        if limits.max_future_s is not None:
            newest = self._now_ms + limits.max_future_s * 1000
        return oldest, newest


def _key(bound: int, default: int, key: str) -> str:
    """The key of limits.toml that says the bound."""
    return f"{'default' if bound == default else 'metric'}.{key}"


def sure_since(now_ms: int, kept_ms: int) -> int:
    """The oldest time of a sample that is taken, of series whose samples are kept for kept_ms."""
    return now_ms - kept_ms * SURE[0] // SURE[1]


def _meant(
    matcher: SeriesMatcher,
    ids: Ids,
    members: Callable[[SeriesMatcher], Ids],
    definition_of: Callable[[int], SeriesDefinition | None],
) -> list[int]:
    """Places of `ids` whose series a matcher means."""
    near = np.arange(len(ids))
    if matcher.metric is not None:
        first, last = id_range(matcher.metric)
        near = np.flatnonzero((ids >= first) & (ids <= last))
    if not len(near):
        return []
    known = np.isin(ids[near], members(matcher))
    return [
        place
        for place, is_known in zip(near.tolist(), known.tolist(), strict=True)
        if is_known or ((d := definition_of(place)) is not None and matcher.matches(d))
    ]
