"""A storage in memory, for tests, benchmarks and the conformance judge: no service uses it.

It behaves as the tables do: of several copies of a sample the greatest counts, and native
histograms are read back with the hints that a store would give them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from varve.model.staleness import is_stale
from varve.promql.histograms.chunks import as_read_back
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.interrupt import Check, never
from varve.promql.kernels.windows import window_bounds
from varve.promql.labels.label_table import Labels, LabelTable
from varve.promql.labels.postings import Postings
from varve.promql.storage import (
    Bools,
    Float64s,
    Int64s,
    Samples,
    SelectHints,
    Selection,
    TierChoice,
    WindowFunction,
)
from varve.promql.syntax.ast import Matcher

_COUNT_EXACTLY_FROM = 20_000_000
"""Up to so many samples of the series `count` gives all of them, which takes no search."""

_NEVER = 1 << 62

_MOST_TAKEN = 1024
"""Selections whose samples are remembered."""

Point = tuple[int, float | FloatHistogram, int]
"""Time in ms, value, start timestamp in ms or 0."""


class MemoryStorage:
    """A fixed set of series; `extended` makes a larger one. Safe to read from many threads."""

    def __init__(self, labels: LabelTable, samples: Samples) -> None:
        """Row i of both is one series. ValueError if two series have the same labels."""
        if not labels.is_unique():
            raise ValueError("two series have the same labels: merge their samples first")
        order = labels.sort_order()
        self._labels = labels.take(order)
        self._samples = samples.take(order)
        self._index = Postings(self._labels)
        self._points: dict[Labels, list[Point]] | None = None
        self._taken: dict[tuple[Matcher, ...], tuple[LabelTable, Samples]] = {}

    @classmethod
    def empty(cls) -> MemoryStorage:
        return cls.of({})

    @classmethod
    def of(cls, series: Mapping[Labels, Sequence[Point]]) -> MemoryStorage:
        """Series point by point, in any order. A stale marker is STALE_NAN."""
        distinct = {labels: _distinct_points(points) for labels, points in series.items()}
        points = [point for samples in distinct.values() for point in _read_back(samples)]
        lengths = np.array([len(samples) for samples in distinct.values()], dtype=np.int64)
        ends = np.cumsum(lengths)
        begins = ends - lengths
        histograms, has_histograms = _histogram_column(points, begins, ends)
        start_ts = np.array([start for _, _, start in points], dtype=np.int64)
        values = np.array(
            [0.0 if isinstance(v, FloatHistogram) else v for _, v, _ in points], dtype=np.float64
        )
        samples = Samples(
            np.array([t for t, _, _ in points], dtype=np.int64),
            values,
            begins,
            ends,
            _any_in_ranges(is_stale(values), begins, ends),
            histograms,
            has_histograms,
            start_ts if start_ts.any() else None,
        )
        storage = cls(LabelTable.of([dict(labels) for labels in series]), samples)
        storage._points = distinct
        return storage

    @classmethod
    def from_columns(
        cls, labels: LabelTable, indptr: Int64s, ts: Int64s, values: Float64s
    ) -> MemoryStorage:
        """Float series; series i has the samples indptr[i]:indptr[i+1]. The columns are copied.

        ts: Unix ms, ascending within a series. A stale marker has the bits of STALE_NAN.
        """
        order = labels.sort_order()
        lengths = np.diff(indptr)[order]
        ends = np.cumsum(lengths)
        begins = ends - lengths
        gather = np.repeat(indptr[:-1][order] - begins, lengths) + np.arange(lengths.sum())
        values = values[gather]
        stale = _any_in_ranges(is_stale(values), begins, ends)
        samples = Samples(ts[gather], values, begins, ends, stale)
        return cls(labels.take(order), samples)

    def extended(self, series: Iterable[tuple[Labels, Sequence[Point]]]) -> MemoryStorage:
        """This storage with further series, or further samples of its series.

        Raises ValueError if it was made from columns.
        """
        if self._points is None:
            raise ValueError("a storage made from columns cannot be extended point by point")
        merged = {labels: list(points) for labels, points in self._points.items()}
        for labels, points in series:
            merged.setdefault(labels, []).extend(points)
        return MemoryStorage.of(merged)

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,  # noqa: ARG002 - all samples are at hand, the engine looks into its windows
        end_ms: int,  # noqa: ARG002
        hints: SelectHints,
    ) -> Selection:
        rows, labels = self._index.find(matchers, hints.check)
        if labels is self._labels:
            return Selection(labels, self._samples)
        key = tuple(matchers)
        held = self._taken.get(key)
        if held is None or held[0] is not labels:
            if len(self._taken) >= _MOST_TAKEN:
                self._taken = {}
            # Not kept with the labels: they bound what they keep, and these share large columns.
            held = self._taken[key] = labels, self._samples.take(rows)
        return Selection(labels, held[1])

    def choose(
        self,
        matchers: Sequence[Matcher],  # noqa: ARG002 - there are samples alone
        windows: WindowFunction,  # noqa: ARG002
        check: Check = never,  # noqa: ARG002
    ) -> TierChoice | None:
        return None

    def count(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, check: Check = never
    ) -> tuple[int, int]:
        rows, labels = self._index.find(matchers, check)
        samples = self.select(matchers, start_ms, end_ms, SelectHints()).samples
        most = labels.cached("count", lambda: int((samples.ends - samples.begins).sum()))
        if most > _COUNT_EXACTLY_FROM:
            low, high = self._bounds(rows, start_ms, end_ms)
            most = int((high - low).sum())
        return len(rows), most

    def label_names(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        table = self.series(matchers, start_ms, end_ms)
        return [name for name, column in table.columns.items() if column.codes.any()]

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        table = self.series(matchers, start_ms, end_ms)
        return list(table.cached(("values", name), lambda: _distinct(table, name)))

    def series(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> LabelTable:
        if len(matchers) == 1:
            rows, table = self._index.find(matchers[0])
        elif matchers:
            found = [self._index.find(one)[0] for one in matchers]
            rows = np.unique(np.concatenate(found))
            table = self._labels.take(rows)
        else:
            rows, table = np.arange(self._labels.size), self._labels
        first, last = self._first_and_last()
        return table.select((last[rows] >= start_ms) & (first[rows] <= end_ms))

    def _first_and_last(self) -> tuple[Int64s, Int64s]:
        """Times of each series' first and last sample. Without samples they overlap no range."""
        samples = self._samples

        def make() -> tuple[Int64s, Int64s]:
            first = np.full(samples.series, _NEVER, dtype=np.int64)
            last = np.full(samples.series, -_NEVER, dtype=np.int64)
            some = samples.ends > samples.begins
            first[some] = samples.ts[samples.begins[some]]
            last[some] = samples.ts[samples.ends[some] - 1]
            return first, last

        return self._labels.cached("first and last", make)

    def _bounds(self, rows: Int64s, start_ms: int, end_ms: int) -> tuple[Int64s, Int64s]:
        samples = self._samples.take(rows)
        low, high = np.empty_like(samples.begins), np.empty_like(samples.begins)
        window_bounds(samples.ts, samples.begins, samples.ends, start_ms, end_ms, low, high)
        return low, high


def _distinct(table: LabelTable, name: str) -> list[str]:
    column = table.columns.get(name)
    if column is None:
        return []
    values = column.interned.values
    return sorted(values[code] for code in np.unique(column.codes).tolist() if code)


def _distinct_points(points: Sequence[Point]) -> list[Point]:
    """The points by time; of several at one time the greatest value, or the last histogram."""
    by_time: dict[int, Point] = {}
    for point in points:
        held = by_time.get(point[0])
        if held is None or _rank(point) >= _rank(held):
            by_time[point[0]] = point
    return [by_time[t] for t in sorted(by_time)]


def _rank(point: Point) -> tuple[int, float]:
    """The order of copies as in varve.model.copies; a histogram is above every float."""
    value = point[1]
    if isinstance(value, FloatHistogram):
        return 3, 0.0
    if np.isnan(value):
        return (0 if is_stale(np.array([value]))[0] else 1), 0.0
    return 2, value


def _read_back(points: Sequence[Point]) -> Sequence[Point]:
    """The points of one series, histograms with the hints that a reader of a store sees."""
    read: list[Point] = []
    before: FloatHistogram | None = None
    for t, value, start in points:
        if isinstance(value, FloatHistogram):
            read.append((t, as_read_back(before, value), start))
            before = value
        else:
            read.append((t, value, start))
            before = None
    return read


def _any_in_ranges(flags: Bools, begins: Int64s, ends: Int64s) -> Bools:
    """Whether any flag is set in each range."""
    before = np.zeros(len(flags) + 1, dtype=np.int64)
    np.cumsum(flags, out=before[1:])
    return before[ends] > before[begins]


def _histogram_column(
    points: Sequence[Point], begins: Int64s, ends: Int64s
) -> tuple[Any, Bools | None]:
    if not any(isinstance(value, FloatHistogram) for _, value, _ in points):
        return None, None
    column = np.empty(len(points), dtype=object)
    flags = np.zeros(len(points), dtype=np.bool_)
    for i, (_, value, _) in enumerate(points):
        if isinstance(value, FloatHistogram):
            column[i] = value
            flags[i] = True
    return column, _any_in_ranges(flags, begins, ends)
