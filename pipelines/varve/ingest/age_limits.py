"""How old and how far ahead samples may be, by metric: conf/limits.toml, within retention.

A sample of Arrow names its series by id alone, and ids do not tell every metric from every other:
so the series of the metrics that have bounds of their own are looked up in the table series.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.dataset as ds

from varve.ingest.limits import Limits, MetricLimits
from varve.model.exceeded import Exceeded
from varve.model.identity import id_range
from varve.storage.log import LiveFile
from varve.storage.snapshot import live_files
from varve.storage.store import Store
from varve.storage.table import Table

Ids = npt.NDArray[np.int64]


class MetricSeriesIds:
    """Ids of the registered series of the metrics asked for. A process keeps one for each root."""

    def __init__(self, store: Store) -> None:
        self._table = Table(store, "series")
        self._ids: dict[str, Ids] = {}

    def of(self, metric: str, version: int) -> Ids:
        """Ids of the metric's series, sorted, as of `version` of the table series or later."""
        if version > self._table.version:
            fresh = self._table.refresh()
            if fresh is None:
                self._ids = {}
            else:
                added = [file for entry in fresh for file in entry.adds]
                for name, ids in self._ids.items():
                    self._ids[name] = np.union1d(ids, self._read(name, added))
        if metric not in self._ids:
            self._ids[metric] = np.unique(self._read(metric, live_files(self._table)))
        return self._ids[metric]

    def _read(self, metric: str, files: Sequence[LiveFile]) -> Ids:
        first, last = id_range(metric)
        paths = [
            file.path
            for file in files
            if file.minimum["series_id"] <= last and file.maximum["series_id"] >= first
        ]
        if not paths:
            return np.empty(0, np.int64)
        series_id = pc.field("series_id")
        wanted = (series_id >= first) & (series_id <= last) & (pc.field("metric") == metric)
        filesystem = self._table.store.filesystem("series")
        dataset = ds.dataset(paths, format="parquet", filesystem=filesystem)
        ids: Ids = dataset.to_table(columns=["series_id"], filter=wanted)["series_id"].to_numpy()
        return ids


class AgeLimits:
    """How old and how far ahead the samples of one batch may be: oldest_ms <= ts <= newest_ms."""

    def __init__(self, limits: Limits, now_ms: int, oldest_ms: int, newest_ms: int) -> None:
        """oldest_ms: what retention allows at most. newest_ms: where a metric says nothing."""
        self._now_ms, self._oldest_ms, self._newest_ms = now_ms, oldest_ms, newest_ms
        self.default = self._bounds(limits.default)
        of = {metric: self._bounds(own) for metric, own in limits.metrics.items()}
        self._of = {metric: bounds for metric, bounds in of.items() if bounds != self.default}

    def by_series(
        self, ids: Ids, members: Callable[[str], Ids], metric_of: Callable[[int], str | None]
    ) -> tuple[Ids, Ids] | None:
        """The oldest and the newest time for each id; None if all have the default.

        members: gives the ids of a metric's registered series, sorted. metric_of: gives the metric
        of the series at a place of `ids`, if its definition came with the batch.
        """
        if not self._of:
            return None
        oldest, newest = (np.full(len(ids), bound) for bound in self.default)
        own = False
        for metric, bounds in self._of.items():
            first, last = id_range(metric)
            near = np.flatnonzero((ids >= first) & (ids <= last))
            if not len(near):
                continue
            known = np.isin(ids[near], members(metric))
            of_metric = [
                n for n, k in zip(near.tolist(), known, strict=True) if k or metric_of(n) == metric
            ]
            oldest[of_metric], newest[of_metric] = bounds
            own |= bool(of_metric)
        return (oldest, newest) if own else None

    def oldest_limit(self, oldest_ms: int) -> Exceeded:
        """What a sample is beyond that is older than this bound."""
        if oldest_ms == self._oldest_ms:
            limit = "retention.samples_days"
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
