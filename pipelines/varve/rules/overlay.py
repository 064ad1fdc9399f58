"""A storage with another one laid over it: the tables, and what rules wrote that is not there yet.

Of copies of a sample that both have the greater counts, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from varve.model.staleness import is_stale
from varve.promql.interrupt import Check, never
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import (
    Int64s,
    Samples,
    SelectHints,
    Selection,
    Storage,
    TierChoice,
    WindowFunction,
)
from varve.promql.syntax.ast import Matcher

_MOST_KEPT: Final = 256
"""Selections whose tables are kept."""


class Overlay:
    """Both storages as one. `above` is small."""

    def __init__(self, below: Storage, above: Storage) -> None:
        self._below = below
        self._above = above
        self._tables: dict[tuple[int, int], tuple[LabelTable, LabelTable, LabelTable]] = {}

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, hints: SelectHints
    ) -> Selection:
        if hints.choice is not None:
            return self._below.select(matchers, start_ms, end_ms, hints)
        over = self._above.select(matchers, start_ms, end_ms, hints)
        under = self._below.select(matchers, start_ms, end_ms, hints)
        if not over.samples.series:
            return under
        if not under.samples.series:
            return Selection(over.labels, over.samples, under.warnings)
        merged = _merged(under, over)
        return Selection(self._shared(under, over, merged), merged.samples, merged.warnings)

    def _shared(self, under: Selection, over: Selection, merged: Selection) -> LabelTable:
        """The table of an equal selection before this one, which keeps what was computed of it."""
        key = id(under.labels), id(over.labels)
        known = self._tables.get(key)
        if known is None or known[0] is not under.labels or known[1] is not over.labels:
            if len(self._tables) >= _MOST_KEPT:
                self._tables = {}
            known = self._tables[key] = under.labels, over.labels, merged.labels
        return known[2]

    def choose(
        self, matchers: Sequence[Matcher], windows: WindowFunction, check: Check = never
    ) -> TierChoice | None:
        """Rows of the storage below, unless there are samples above to lay over them."""
        if self._above.series([matchers], *windows.span).size:
            return None
        return self._below.choose(matchers, windows, check)

    def count(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, check: Check = never
    ) -> tuple[int, int]:
        under = self._below.count(matchers, start_ms, end_ms, check)
        over = self._above.count(matchers, start_ms, end_ms, check)
        return under[0] + over[0], under[1] + over[1]

    def label_names(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        return self._either(lambda one: one.label_names(matchers, start_ms, end_ms))

    def label_values(
        self, name: str, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        return self._either(lambda one: one.label_values(name, matchers, start_ms, end_ms))

    def _either(self, ask: Callable[[Storage], list[str]]) -> list[str]:
        return sorted({*ask(self._below), *ask(self._above)})

    def series(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> LabelTable:
        below = self._below.series(matchers, start_ms, end_ms)
        above = self._above.series(matchers, start_ms, end_ms)
        if not above.size:
            return below
        rows = sorted({*below.labels(), *above.labels()})
        return LabelTable.of([dict(row) for row in rows])


def _merged(under: Selection, over: Selection) -> Selection:
    """The series of both, sorted by labels; those that are in both with the samples of both."""
    places = {labels: row for row, labels in enumerate(under.labels.labels())}
    shift = len(under.samples.ts)
    begins = [*under.samples.begins.tolist()]
    ends = [*under.samples.ends.tolist()]
    stale = [*under.samples.has_stale.tolist()]
    with_histograms = _flags(under.samples)
    tail = shift + len(over.samples.ts)
    extra: list[tuple[int, int, int, int]] = []  # two ranges of the joined columns, to merge
    rows = [*under.labels.labels()]
    over_flags = _flags(over.samples)
    for row, labels in enumerate(over.labels.labels()):
        begin, end = int(over.samples.begins[row]) + shift, int(over.samples.ends[row]) + shift
        known = places.get(labels)
        if known is None:
            rows.append(labels)
            begins.append(begin)
            ends.append(end)
            stale.append(bool(over.samples.has_stale[row]))
            with_histograms.append(over_flags[row])
            continue
        extra.append((begins[known], ends[known], begin, end))
        stale[known] |= bool(over.samples.has_stale[row])
        with_histograms[known] |= over_flags[row]
        begins[known] = ends[known] = -len(extra)
    columns = _Columns(under.samples, over.samples)
    for number, ranges in enumerate(extra, 1):
        place = begins.index(-number)
        chosen = columns.order_of(ranges)
        begins[place], ends[place] = tail, tail + len(chosen)
        tail += len(chosen)
        columns.append(chosen)
    order = sorted(range(len(rows)), key=rows.__getitem__)
    take = np.array(order, dtype=np.int64)
    samples = columns.samples(
        np.array(begins, dtype=np.int64),
        np.array(ends, dtype=np.int64),
        np.array(stale, dtype=np.bool_),
        np.array(with_histograms, dtype=np.bool_),
    )
    table = LabelTable.of([dict(rows[row]) for row in order])
    return Selection(table, samples.take(take), (*under.warnings, *over.warnings))


def _flags(samples: Samples) -> list[bool]:
    if samples.has_histograms is None:
        return [False] * samples.series
    return [bool(flag) for flag in samples.has_histograms.tolist()]


class _Columns:
    """The columns of two selections one behind the other, and what is appended to them."""

    def __init__(self, under: Samples, over: Samples) -> None:
        self._ts = np.concatenate([under.ts, over.ts])
        self._values = np.concatenate([under.values, over.values])
        self._histograms = None
        if under.histograms is not None or over.histograms is not None:
            none = [np.full(len(one.ts), None, dtype=object) for one in (under, over)]
            given = (under.histograms, over.histograms)
            self._histograms = np.concatenate(
                [n if g is None else g for n, g in zip(none, given, strict=True)]
            )
        self._start_ts = None
        if under.start_ts is not None:
            self._start_ts = np.concatenate([under.start_ts, np.zeros_like(over.ts)])
        self._added: list[Int64s] = []

    def order_of(self, ranges: tuple[int, int, int, int]) -> Int64s:
        """The places of the samples of two ranges by time, the greater of two of one time."""
        first, second = np.arange(ranges[0], ranges[1]), np.arange(ranges[2], ranges[3])
        places = np.concatenate([first, second]).astype(np.int64)
        rank = np.where(np.isnan(self._values[places]), 1, 2)
        rank[is_stale(self._values[places])] = 0
        if self._histograms is not None:
            rank[self._histograms[places] != None] = 3  # noqa: E711 - elementwise
        order = np.lexsort((self._values[places], rank, self._ts[places]))
        places = places[order]
        ts = self._ts[places]
        return places[np.append(ts[1:] != ts[:-1], True)]

    def append(self, places: Int64s) -> None:
        self._added.append(places)

    def samples(self, begins: Int64s, ends: Int64s, stale: object, flags: object) -> Samples:
        every = np.concatenate([np.arange(len(self._ts)), *self._added]).astype(np.int64)
        return Samples(
            self._ts[every],
            self._values[every],
            begins,
            ends,
            stale,  # type: ignore[arg-type]
            None if self._histograms is None else self._histograms[every],
            None if self._histograms is None else flags,  # type: ignore[arg-type]
            None if self._start_ts is None else self._start_ts[every],
        )
