"""What the engine asks: samples of the tables, and derived metrics where they are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from varve.model.window import HOUR_MS, MINUTE_MS
from varve.promql.errors import LimitError
from varve.promql.interrupt import Check, never
from varve.promql.kernels.types import I64
from varve.promql.labels.label_table import METRIC_NAME, Column, Interned, LabelTable
from varve.promql.labels.postings import Postings
from varve.promql.storage import (
    Samples,
    SelectHints,
    Selection,
    Storage,
    TierChoice,
    WindowFunction,
    no_samples,
)
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.cold_files import reading
from varve.query.derived_metrics import EXTRA_LABELS, METRIC_LABEL, METRICS, DerivedMetric, Points
from varve.query.reader import Reader
from varve.query.view import View
from varve.storage.bounds import Bounds

_POINT_BYTES: Final = 64
"""What a point takes while it is computed, about."""

Lists = Sequence[Sequence[Matcher]]


def derived_metric(matchers: Sequence[Matcher]) -> DerivedMetric | None:
    """The derived metric that some matchers name. It has to be named in full: what a regex or no
    name selects are the series of samples.
    """
    for matcher in matchers:
        if matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL:
            return METRICS.get(matcher.value)
    return None


def storage_of(reader: Reader, samples: Storage | None = None) -> Storage:
    """A view as a storage, derived metrics included where it has their tables. samples: what
    selectors of samples are answered from, if not by the reader.
    """
    below = reader if samples is None else samples
    return DerivedStorage(reader, below) if reader.view.derived.snapshots else below


@dataclass(frozen=True)
class DerivedStorage:
    """Implements promql.storage.Storage for one query; its threads may share it."""

    reader: Reader
    below: Storage
    _known: dict[tuple[tuple[Matcher, ...], int, int], Selection] = field(default_factory=dict)

    @property
    def view(self) -> View:
        return self.reader.view

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, hints: SelectHints
    ) -> Selection:
        metric = derived_metric(matchers)
        if metric is None:
            return self.below.select(matchers, start_ms, end_ms, hints)
        found = self._select(metric, matchers, start_ms, end_ms)
        hints.admit(len(found.samples.ts))
        return found

    def choose(
        self, matchers: Sequence[Matcher], windows: WindowFunction, check: Check = never
    ) -> TierChoice | None:
        """Of derived metrics there are no tiers."""
        if derived_metric(matchers) is not None:
            return None
        return self.below.choose(matchers, windows, check)

    def count(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, check: Check = never
    ) -> tuple[int, int]:
        metric = derived_metric(matchers)
        if metric is None:
            return self.below.count(matchers, start_ms, end_ms, check)
        found = self._select(metric, matchers, start_ms, end_ms)
        return found.samples.series, len(found.samples.ts)

    def label_names(self, matchers: Lists, start_ms: int, end_ms: int) -> list[str]:
        below, derived = _apart(matchers)
        ask = below or not derived
        names = set(self.below.label_names(below, start_ms, end_ms) if ask else ())
        for metric, one in derived:
            names |= {*self._labels(metric, one, start_ms, end_ms).columns}
        return sorted(names)

    def label_values(self, name: str, matchers: Lists, start_ms: int, end_ms: int) -> list[str]:
        """Without matchers, names of metrics include those of the derived ones that have rows."""
        below, derived = _apart(matchers)
        ask = below or not derived
        values = set(self.below.label_values(name, below, start_ms, end_ms) if ask else ())
        for metric, one in derived:
            values |= {*self._labels(metric, one, start_ms, end_ms).values_of(name)} - {""}
        if name == METRIC_NAME and not matchers:
            has_rows = self.view.derived.has_rows
            values |= {metric.name for metric in METRICS.values() if has_rows(metric.table)}
        return sorted(values)

    def series(self, matchers: Lists, start_ms: int, end_ms: int) -> LabelTable:
        below, derived = _apart(matchers)
        if not derived:
            return self.below.series(matchers, start_ms, end_ms)
        rows = {*self.below.series(below, start_ms, end_ms).labels()} if below else set()
        for metric, one in derived:
            rows |= {*self._labels(metric, one, start_ms, end_ms).labels()}
        return LabelTable.of([dict(row) for row in sorted(rows)])

    def _labels(
        self, metric: DerivedMetric, matchers: Sequence[Matcher], start_ms: int, end_ms: int
    ) -> LabelTable:
        """The label sets that have a point in a range, of a long one in what the table is about."""
        first, last = self._extent(metric, start_ms, end_ms)
        if first >= last:
            return LabelTable.of([])
        return self._select(metric, matchers, first, last).labels

    def _extent(self, metric: DerivedMetric, start_ms: int, end_ms: int) -> tuple[int, int]:
        """The part of a range that rows of a metric can have points in."""
        found = self.view.derived.snapshots.get(metric.table)
        if found is None or not found.files:
            return 0, 0
        if metric.is_timeless:  # one minute has the label sets of all
            return end_ms - MINUTE_MS, end_ms
        before, after = metric.reach
        first, last = int(found.zones.first_ms.min()), int(found.zones.last_ms.max())
        return max(start_ms, first - after - HOUR_MS), min(end_ms, last + before)

    def _select(
        self, metric: DerivedMetric, matchers: Sequence[Matcher], start_ms: int, end_ms: int
    ) -> Selection:
        key = tuple(matchers), start_ms, end_ms
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._computed(metric, matchers, start_ms, end_ms)
        return known

    def _computed(
        self, metric: DerivedMetric, matchers: Sequence[Matcher], start_ms: int, end_ms: int
    ) -> Selection:
        nothing = Selection(LabelTable.of([]), no_samples(0))
        found = self.view.derived.snapshots.get(metric.table)
        if found is None:
            return nothing
        ids = self._series_ids(matchers)
        if ids is not None and not len(ids):
            return nothing
        before, after = metric.reach
        bounds = Bounds(start_ms - before, end_ms + after, ids)
        if metric.is_timeless:
            bounds = Bounds(series_ids=ids)
        with reading():
            rows = found.scan(bounds, metric.columns)
        self.reader.check()
        self._require_room(metric, rows.num_rows, start_ms, end_ms)
        parts = metric.points(rows, start_ms, end_ms, self.view.derived.calendar)
        return self._arranged(metric, matchers, parts)

    def _series_ids(self, matchers: Sequence[Matcher]) -> I64 | None:
        """Ids, sorted, of series that derived ones may be about; None for all."""
        about = [
            replace(matcher, name=METRIC_NAME) if matcher.name == METRIC_LABEL else matcher
            for matcher in matchers
            if matcher.name != METRIC_NAME and matcher.name not in EXTRA_LABELS
        ]
        if not about:
            return None
        found = self.view.index.find(about, self.reader.check)
        return found.series_ids[found.by_id]

    def _require_room(self, metric: DerivedMetric, rows: int, start_ms: int, end_ms: int) -> None:
        """Raises LimitError if points would be too many, before they are made."""
        minutes = max(1, (end_ms - start_ms) // MINUTE_MS)
        # A row of hours has sixty points at a time; of baselines a series has one a minute.
        points = rows * (minutes if metric.is_timeless else 60)
        most = self.reader.max_samples
        if most is not None and points > most:
            raise LimitError(
                f"query processing would compute up to {points:,} points of {metric.name}:"
                f" name fewer series or a shorter range (query.max_samples = {most:,})"
            )
        self.reader.memory.take(_POINT_BYTES * points)

    def _arranged(
        self, metric: DerivedMetric, matchers: Sequence[Matcher], parts: Sequence[Points]
    ) -> Selection:
        """The series that the matchers select, sorted by labels, with their points."""
        index = self.view.index
        nobody = np.empty(0, np.int64)
        ids = np.unique(np.concatenate([nobody, *(part.series_ids for part in parts)]))
        rows = index.rows_of(ids)
        ids, rows = ids[rows >= 0], rows[rows >= 0]
        order = np.argsort(rows)
        about = index.labels.take(rows[order])
        place_of = np.empty(len(ids), np.int64)
        place_of[order] = np.arange(len(ids))
        places, owners, begins, ends = [], [], [], []
        done = 0
        for number, part in enumerate(parts):
            upto = np.cumsum(part.counts) + done
            known = np.isin(part.series_ids, ids)
            places.append(place_of[np.searchsorted(ids, part.series_ids[known])])
            owners.append(np.full(int(known.sum()), number))
            begins.append((upto - part.counts)[known])
            ends.append(upto[known])
            done += len(part.ts)
        if not done or not len(ids):
            return Selection(LabelTable.of([]), no_samples(0))
        owner = np.concatenate(owners)
        labels = _labels(metric, about.take(np.concatenate(places)), parts, owner)
        stale = np.array([part.has_stale for part in parts], np.bool_)
        samples = Samples(
            np.concatenate([part.ts for part in parts]).astype(np.int64, copy=False),
            np.concatenate([part.values for part in parts]).astype(np.float64, copy=False),
            np.concatenate(begins).astype(np.int64, copy=False),
            np.concatenate(ends).astype(np.int64, copy=False),
            stale[owner],
        )
        chosen = Postings(labels).rows(tuple(matchers), self.reader.check)
        labels = labels.take(chosen)
        order = labels.sort_order()
        return Selection(labels.take(order), samples.take(chosen[order]))


def _labels(
    metric: DerivedMetric, about: LabelTable, parts: Sequence[Points], owner: I64
) -> LabelTable:
    """Labels of derived series: those of the series they are about, its metric, their own."""
    columns = dict(about.columns)
    name = columns.pop(METRIC_NAME, None)
    if name is not None:
        columns[METRIC_LABEL] = name
    columns[METRIC_NAME] = _column([metric.name], np.zeros(len(owner), np.int64))
    for label in EXTRA_LABELS:
        values = [part.extra.get(label, "") for part in parts]
        if any(values):
            columns[label] = _column(values, owner)
    return LabelTable(len(owner), columns)


def _column(values: Sequence[str], at: I64) -> Column:
    interned = Interned()
    codes = np.array([interned.code(value) for value in values], np.int32)
    return Column(codes[at], interned)


def _apart(
    matchers: Lists,
) -> tuple[list[Sequence[Matcher]], list[tuple[DerivedMetric, Sequence[Matcher]]]]:
    """Lists that select samples, and those that name a derived metric."""
    below, derived = [], []
    for one in matchers:
        metric = derived_metric(one)
        if metric is None:
            below.append(one)
        else:
            derived.append((metric, one))
    return below, derived
