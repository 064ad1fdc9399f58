"""Series that grow at their ends, in memory: what rules wrote and no table has yet.

It is a promql.storage.Storage. Each series has a stretch of shared columns with room behind it, so
that a sample is appended without a copy; a series that outgrows its stretch moves to a larger one.
What a selection has seen is never changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from varve.model.staleness import is_stale
from varve.promql.histograms.chunks import as_read_back
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.interrupt import Check, never
from varve.promql.labels.label_table import Labels, LabelTable
from varve.promql.labels.postings import Postings
from varve.promql.storage import (
    Int64s,
    Samples,
    SelectHints,
    Selection,
    TierChoice,
    WindowFunction,
)
from varve.promql.syntax.ast import Matcher
from varve.rules.instant import Sample, Value

_FIRST_ROOM: Final = 16
"""Samples that a new series has room for."""


class SeriesBuffer:
    """Safe to read from many threads while one appends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[Labels, int] = {}
        self._ts = np.zeros(1024, dtype=np.int64)
        self._values = np.zeros(1024, dtype=np.float64)
        self._histograms: Any = None
        self._used = 0
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._rooms: list[int] = []
        self._stale: list[bool] = []
        self._with_histograms: list[bool] = []
        self._index: Postings[LabelTable] | None = None
        self._order: Int64s = np.zeros(0, dtype=np.int64)
        self._bounds: tuple[Int64s, Int64s, Any, Any] | None = None

    @property
    def storage(self) -> SeriesBuffer:
        return self

    @property
    def is_empty(self) -> bool:
        return not self._rows

    def write(self, samples: Iterable[Sample]) -> None:
        """Adds samples. Of several of a series at one time the greatest counts."""
        with self._lock:
            for sample in samples:
                self._append(sample.labels, sample.ts_ms, sample.value)
            self._bounds = None

    def _append(self, labels: Labels, ts_ms: int, value: Value) -> None:
        row = self._rows.get(labels)
        if row is None:
            row = self._new_row(labels)
        end = self._ends[row]
        if end > self._begins[row] and self._ts[end - 1] >= ts_ms:
            self._insert(row, ts_ms, value)
            return
        if end - self._begins[row] == self._rooms[row]:
            self._move(row, 2 * self._rooms[row])
            end = self._ends[row]
        self._put(row, end, ts_ms, value)
        self._ends[row] = end + 1

    def _new_row(self, labels: Labels) -> int:
        row = self._rows[labels] = len(self._rows)
        begin = self._reserve(_FIRST_ROOM)
        self._begins.append(begin)
        self._ends.append(begin)
        self._rooms.append(_FIRST_ROOM)
        self._stale.append(False)
        self._with_histograms.append(False)
        self._index = None
        return row

    def _reserve(self, room: int) -> int:
        begin, self._used = self._used, self._used + room
        if self._used > len(self._ts):
            size = max(2 * len(self._ts), self._used)
            self._ts = _grown(self._ts, size)
            self._values = _grown(self._values, size)
            if self._histograms is not None:
                self._histograms = _grown(self._histograms, size)
        return begin

    def _move(self, row: int, room: int) -> None:
        begin, end = self._begins[row], self._ends[row]
        target = self._reserve(room)
        count = end - begin
        self._ts[target : target + count] = self._ts[begin:end]
        self._values[target : target + count] = self._values[begin:end]
        if self._histograms is not None:
            self._histograms[target : target + count] = self._histograms[begin:end]
        self._begins[row], self._ends[row], self._rooms[row] = target, target + count, room

    def _put(self, row: int, place: int, ts_ms: int, value: Value) -> None:
        self._ts[place] = ts_ms
        if isinstance(value, FloatHistogram):
            if self._histograms is None:
                self._histograms = np.full(len(self._ts), None, dtype=object)
            before = self._histograms[place - 1] if place > self._begins[row] else None
            self._histograms[place] = as_read_back(before, value)
            self._values[place] = 0.0
            self._with_histograms[row] = True
            return
        if self._histograms is not None:
            self._histograms[place] = None
        self._values[place] = value
        if value != value:  # noqa: PLR0124 - only a NaN may be the marker
            self._stale[row] |= bool(is_stale(self._values[place : place + 1])[0])

    def _insert(self, row: int, ts_ms: int, value: Value) -> None:
        """A sample that is not newer than all others: the series is written anew."""
        begin, end = self._begins[row], self._ends[row]
        points = [(int(self._ts[i]), self._value(i)) for i in range(begin, end)]
        known = dict(points)
        if ts_ms not in known or _rank(value) >= _rank(known[ts_ms]):
            known[ts_ms] = value
        target = self._reserve(max(self._rooms[row], len(known) + 1))
        self._rooms[row] = self._used - target
        self._begins[row] = target
        for place, (at, one) in enumerate(
            sorted(known.items(), key=lambda point: point[0]), target
        ):
            self._put(row, place, at, one)
        self._ends[row] = target + len(known)

    def _value(self, place: int) -> Value:
        histogram = None if self._histograms is None else self._histograms[place]
        return float(self._values[place]) if histogram is None else histogram

    def _view(self) -> tuple[Postings[LabelTable], Samples]:
        """The index, and the samples of its rows, as they are now."""
        with self._lock:
            if self._index is None:
                table = LabelTable.of([dict(labels) for labels in self._rows])
                self._order = table.sort_order()
                self._index = Postings(table.take(self._order))
                self._bounds = None
            if self._bounds is None:
                order = self._order
                self._bounds = (
                    np.array(self._begins, dtype=np.int64)[order],
                    np.array(self._ends, dtype=np.int64)[order],
                    np.array(self._stale, dtype=np.bool_)[order],
                    np.array(self._with_histograms, dtype=np.bool_)[order],
                )
            begins, ends, stale, with_histograms = self._bounds
            histograms = self._histograms
            return self._index, Samples(
                self._ts,
                self._values,
                begins,
                ends,
                stale,
                histograms,
                None if histograms is None else with_histograms,
            )

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,  # noqa: ARG002 - the engine looks into its windows
        end_ms: int,  # noqa: ARG002
        hints: SelectHints,
    ) -> Selection:
        index, samples = self._view()
        rows, labels = index.find(matchers, hints.check)
        return Selection(labels, samples.take(rows))

    def choose(
        self,
        matchers: Sequence[Matcher],  # noqa: ARG002 - there are samples alone
        windows: WindowFunction,  # noqa: ARG002
        check: Check = never,  # noqa: ARG002
    ) -> TierChoice | None:
        return None

    def count(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,  # noqa: ARG002
        end_ms: int,  # noqa: ARG002
        check: Check = never,
    ) -> tuple[int, int]:
        index, samples = self._view()
        rows, _ = index.find(matchers, check)
        return len(rows), int((samples.ends[rows] - samples.begins[rows]).sum())

    def label_names(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        table = self.series(matchers, start_ms, end_ms)
        return [name for name, column in table.columns.items() if column.codes.any()]

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        return sorted(set(self.series(matchers, start_ms, end_ms).values_of(name)) - {""})

    def series(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> LabelTable:
        index, samples = self._view()
        rows = np.arange(index.table.size)
        if matchers:
            rows = np.unique(np.concatenate([index.find(one)[0] for one in matchers]))
        kept = [
            row
            for row in rows.tolist()
            if samples.ends[row] > samples.begins[row]
            and samples.ts[samples.begins[row]] <= end_ms
            and samples.ts[samples.ends[row] - 1] >= start_ms
        ]
        return index.table.take(np.array(kept, dtype=np.int64))


def _grown(column: Any, size: int) -> Any:
    grown = np.zeros(size, dtype=column.dtype)
    if column.dtype == object:
        grown[:] = None
    grown[: len(column)] = column
    return grown


def _rank(value: Value) -> tuple[int, float]:
    """The order of copies as in varve.model.copies; a histogram is above every float."""
    if isinstance(value, FloatHistogram):
        return 3, 0.0
    if value != value:  # noqa: PLR0124 - NaN
        return (0 if is_stale(np.array([value]))[0] else 1), 0.0
    return 2, value
