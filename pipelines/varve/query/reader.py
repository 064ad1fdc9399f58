"""A view as the storage that the PromQL engine asks, for one query: within its memory and time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np

from varve.model.window import RAW, Window
from varve.promql.errors import LimitError
from varve.promql.interrupt import Check, never
from varve.promql.kernels.types import I64
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import (
    Samples,
    SelectHints,
    Selection,
    TierChoice,
    WindowFunction,
    no_samples,
)
from varve.promql.syntax.ast import Matcher
from varve.query import selector_plan
from varve.query.cold_files import footers, reading, row_groups
from varve.query.executors import Executors, FarSelection
from varve.query.histogram_reader import most_histograms, with_histograms
from varve.query.memory import Reservation
from varve.query.narrowing import Narrowing
from varve.query.provenance import Provenance, SelectorUse
from varve.query.rollup_reader import RollupReader
from varve.query.sample_selection import (
    FoundPart,
    count_found,
    find_parts,
    select_samples,
    spread,
    without_empty,
)
from varve.query.sampling import Sample
from varve.query.selector_plan import JoinedRollups, SelectorPlan
from varve.query.selectors import selector_text
from varve.query.series_groups import SeriesGroup, groups_of
from varve.query.series_index import SelectedSeries
from varve.query.view import View

Matchers = tuple[Matcher, ...]
_Selected = tuple[Matchers, int, int]
"""What a selection is known by: matchers, and the range (start, end], Unix ms."""
_Use = tuple[Matchers, int, int, SelectorPlan | None]


@dataclass(frozen=True)
class Reader:
    """Implements promql.storage.Storage for one query; its threads may share it.

    `memory` is asked for what the query holds. `check` raises when the query has to end; it is
    called between files. `max_samples` is the most that one selection may read, None for no bound.
    `tier`: one of model.window.TIER_NAMES to answer from; None leaves the choice to each selector.
    `sample` draws the series that are read; None reads all. `executors` compute the leaves that
    are too much for this machine; None leaves all to it.
    """

    view: View
    memory: Reservation = field(default_factory=Reservation)
    check: Callable[[], None] = never
    max_samples: int | None = None
    tier: str | None = None
    sample: Sample | None = None
    executors: Executors | None = None
    _uses: dict[_Use, Callable[[], SelectorUse]] = field(default_factory=dict)
    """What each selection so far was answered from."""
    _choices: dict[tuple[Matchers, WindowFunction], SelectorPlan | None] = field(
        default_factory=dict
    )
    _series_of: dict[tuple[Matchers, bytes | None], SelectedSeries] = field(default_factory=dict)
    _selected: dict[tuple[Matchers, int, int], Selection] = field(default_factory=dict)
    """What had to be read to be counted, until it is asked for."""
    _in_memory: dict[tuple[int, int, int], Sequence[FoundPart]] = field(default_factory=dict)
    """By series, which _series_of holds, and range."""
    _sizes: dict[tuple[Matchers, int, int], int] = field(default_factory=dict)
    """Samples of each selection so far."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        hints: SelectHints,
    ) -> Selection:
        """Selects samples in (start_ms, end_ms].

        Raises StorageError if a file cannot be read, LimitError if there are too many samples or
        they do not fit in memory.
        """
        key = tuple(matchers), start_ms, end_ms
        if isinstance(hints.choice, SelectorPlan):
            return self._select_planned(key, hints.choice, hints)
        series = self._series(key, hints.check)
        groups = self._groups(series, start_ms)
        advice = ", or without tier=raw" if self.tier == RAW and self.view.tiers else ""
        selector_plan.require_samples(groups, start_ms, end_ms, advice)
        missing, warnings = selector_plan.expired_samples(groups, start_ms)
        if hints.leaf and (far := self._executors_for(series, start_ms, end_ms, None)):
            return self._far(key, far, None, missing, warnings)
        with self._lock:
            known = self._selected.pop(key, None)
        selection = known or self._select(*key, hints.check)
        size = _size(selection.samples)
        hints.admit(size)
        use = SelectorUse(
            selector_text(matchers), (RAW,), size, 16 * size, missing_until_ms=missing
        )
        with self._lock:
            self._sizes[key] = size
            self._uses[(*key, None)] = lambda: use
        return replace(selection, warnings=warnings) if warnings else selection

    def choose(
        self, matchers: Sequence[Matcher], windows: WindowFunction, check: Check = never
    ) -> TierChoice | None:
        """Chooses by cost, unless `tier` says from what; remembered for the query."""
        key = tuple(matchers), windows
        with self._lock:
            if key in self._choices:
                return self._choices[key]
        chosen = None
        if self.tier != RAW and self.view.tiers:
            start_ms, end_ms = windows.span
            series = self._series((key[0], start_ms, end_ms), check)
            if most_histograms(self.view, series.series_ids[series.by_id], start_ms, end_ms):
                return None  # of them there are no tiers
            groups = self._groups(series, start_ms)
            estimate = self._narrowing.estimates(start_ms, end_ms)
            chosen = selector_plan.plan(groups, windows, estimate, self.tier)
            if chosen is not None:
                chosen = replace(chosen, selected=series)
        with self._lock:
            self._choices[key] = chosen
        return chosen

    def plan_as(
        self, matchers: Sequence[Matcher], windows: WindowFunction, plan: SelectorPlan | None
    ) -> None:
        """Has a function of windows answered by a plan that was made before, of more windows."""
        with self._lock:
            self._choices[tuple(matchers), windows] = plan

    def has_samples_for(self, matchers: Sequence[Matcher], windows: WindowFunction) -> bool:
        """Whether samples answer a function of windows, and none of them have expired."""
        if self.choose(matchers, windows) is not None:
            return False
        start_ms, _ = windows.span
        groups = self._groups(self._series((tuple(matchers), *windows.span)), start_ms)
        return selector_plan.expired_samples(groups, start_ms)[0] is None

    @property
    def provenance(self) -> Provenance:
        """The view's, with what the selections so far were answered from."""
        with self._lock:
            uses = tuple(use() for use in self._uses.values())
        return replace(self.view.provenance, selectors=uses)

    def count(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        check: Check = never,
    ) -> tuple[int, int]:
        """At most how many series and samples `select` gives. Raises as it does.

        The rows of files that overlap are the bound, or if that is over max_samples the rows of
        their row groups. If that is too, samples are read: other series may have most of the rows.
        """
        series = self._series((tuple(matchers), start_ms, end_ms), check)
        if far := self._executors_for(series, start_ms, end_ms, None):
            return series.size, far.rows
        ids = series.series_ids[series.by_id]
        in_head = self._in_head(series, start_ms, end_ms)
        found, held = count_found(in_head, series.size)
        histograms = most_histograms(self.view, ids, start_ms, end_ms)
        found, held = found + histograms, held + histograms
        _, rows = self.view.files.overlapping(ids, start_ms, end_ms)
        if self._is_too_many(held + rows):
            with reading():
                rows = sum(
                    footer.overlapping_rows(ids, start_ms, end_ms)
                    for _, footer in footers(self.view, ids, start_ms, end_ms, self.check)
                )
        if self._is_too_many(held + rows):
            key = tuple(matchers), start_ms, end_ms
            selection = self._select(*key)
            with self._lock:
                self._selected[key] = selection
            return selection.samples.series, _size(selection.samples)
        return min(series.size, found + rows), held + rows

    def empty_selections(self) -> list[tuple[Matchers, int, int]]:
        """Matchers, start and end of the selections so far that had no samples, nor rows."""
        with self._lock:
            rows = (
                cast(_Selected, tuple(key))
                for (*key, choice), use in self._uses.items()
                if choice is not None and not use().rows
            )
            samples = (key for key, size in self._sizes.items() if not size)
            return list(dict.fromkeys([*samples, *rows]))

    def label_names(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> list[str]:
        seen = self._narrowing.seen(start_ms, end_ms)
        return self.view.index.label_names(matchers, self.check, seen)

    def label_values(
        self,
        name: str,
        matchers: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
    ) -> list[str]:
        seen = self._narrowing.seen(start_ms, end_ms)
        return self.view.index.label_values(name, matchers, self.check, seen)

    def series(
        self, matchers: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int
    ) -> LabelTable:
        seen = self._narrowing.seen(start_ms, end_ms)
        found = self.view.index.find_any(matchers, self.check, seen)
        self.memory.take(found.nbytes)
        return found.labels

    def _select_planned(
        self, key: _Selected, planned: SelectorPlan, hints: SelectHints
    ) -> Selection:
        """Rows of tiers for some groups of the series, and samples for the others."""
        matchers, start_ms, end_ms = key
        series = planned.selected
        if series is None:
            raise ValueError("a plan of no selector")
        others = [part.group for part in planned.parts if part.rows is None]
        missing, expired = selector_plan.expired_samples(others, start_ms)
        text = selector_text(matchers)
        warnings = (*selector_plan.warnings_of(text, planned.parts), *expired)
        if hints.leaf and (far := self._executors_for(series, start_ms, end_ms, planned)):
            return self._far(key, far, planned, missing, warnings)
        readers = tuple(
            RollupReader(
                self.view, series, part.group.by_id, part.rows, part.cover, self.memory, reading
            )
            for part in planned.parts
            if part.rows is not None and part.cover is not None
        )
        samples = no_samples(series.size)
        if others:
            samples = self._samples_of(series, others, start_ms, end_ms)
            hints.admit(_size(samples))

        def use() -> SelectorUse:
            span = Window(start_ms, end_ms)
            size = _size(samples)
            return selector_plan.use_of(text, planned.parts, readers, size, missing, span)

        with self._lock:
            self._uses[(*key, planned)] = use
        return Selection(series.labels, samples, warnings, JoinedRollups(readers))

    def _far(
        self,
        key: _Selected,
        far: FarSelection,
        planned: SelectorPlan | None,
        missing: int | None,
        warnings: tuple[str, ...],
    ) -> Selection:
        """A selection that executors look at."""
        matchers, start_ms, end_ms = key
        text, span = selector_text(matchers), Window(start_ms, end_ms)
        with self._lock:
            self._uses[(*key, planned)] = lambda: far.use(text, missing, span)
        series = far.series
        return Selection(series.labels, no_samples(series.size), warnings, elsewhere=far)

    def _executors_for(
        self, series: SelectedSeries, start_ms: int, end_ms: int, planned: SelectorPlan | None
    ) -> FarSelection | None:
        """Those that are to look at the samples of some series, or at rows that were planned; None
        if this process does. An estimate of some series is not for them, nor are histograms.
        """
        if self.executors is None or self.sample is not None:
            return None
        estimate = self._narrowing.estimates(start_ms, end_ms)
        rows = estimate(series.size).samples if planned is None else planned.rows
        if rows <= self.executors.least_rows:
            return None
        if most_histograms(self.view, series.series_ids[series.by_id], start_ms, end_ms):
            return None
        parts = () if planned is None else planned.parts
        return FarSelection(self.executors, self.view, series, parts, rows)

    def _samples_of(
        self, series: SelectedSeries, groups: Sequence[SeriesGroup], start_ms: int, end_ms: int
    ) -> Samples:
        """The samples of some groups; all other series have none."""
        rows = np.sort(np.concatenate([group.by_id for group in groups]))
        ids = series.series_ids[rows]
        by_id = np.argsort(ids)
        in_head = list(find_parts(self.view.head, ids[by_id], start_ms, end_ms))
        found = self._read(ids, by_id, start_ms, end_ms, in_head).whole()
        return spread(found, rows, series.size)

    def _groups(self, series: SelectedSeries, start_ms: int) -> Sequence[SeriesGroup]:
        view = self.view
        return groups_of(series, view.raw_from_ms, view.raw_marks, view.tiers, start_ms)

    def _in_head(self, series: SelectedSeries, start_ms: int, end_ms: int) -> Sequence[FoundPart]:
        """What is in memory; found once for the query."""
        key = id(series), start_ms, end_ms
        with self._lock:
            known = self._in_memory.get(key)
        if known is None:
            ids = series.series_ids[series.by_id]
            known = list(find_parts(self.view.head, ids, start_ms, end_ms))
            with self._lock:
                self._in_memory[key] = known
        return known

    def _select(
        self, matchers: Matchers, start_ms: int, end_ms: int, check: Check = never
    ) -> Selection:
        series = self._series((matchers, start_ms, end_ms), check)
        in_head = self._in_head(series, start_ms, end_ms)
        samples = self._read(series.series_ids, series.by_id, start_ms, end_ms, in_head)
        with reading():
            samples = with_histograms(
                samples, series.series_ids, self.view, (start_ms, end_ms), self.check, self.memory
            )
        return without_empty(series.labels, samples)

    def _read(
        self,
        series_ids: I64,
        by_id: I64,
        start_ms: int,
        end_ms: int,
        in_head: Sequence[FoundPart],
    ) -> Samples:
        ids = series_ids[by_id]
        with reading():
            samples = select_samples(
                in_head,
                self.view.row_groups.read(
                    row_groups(self.view, ids, start_ms, end_ms, self.check), self.check
                ),
                series_ids,
                by_id,
                start_ms,
                end_ms,
                self.memory.take,
            )
        if self._is_too_many(_size(samples)):
            raise LimitError(
                "query processing would load too many samples into memory in query execution:"
                f" {_size(samples):,} are over query.max_samples = {self.max_samples:,}"
            )
        return samples

    @cached_property
    def _narrowing(self) -> Narrowing:
        return Narrowing(self.view, self.check)

    def _series(self, selected: _Selected, check: Check = never) -> SelectedSeries:
        """The series of a selector that may have samples in its range, found once for the query."""
        matchers, *span = selected
        living = self._narrowing.living(*span)
        key = matchers, None if living is None else living.token
        with self._lock:
            known = self._series_of.get(key)
        if known is None:
            self.check()
            known = self.view.index.find(matchers, check, living)
            if self.sample is not None:
                known = self.sample.draw(known)
            self.memory.take(known.nbytes)
            with self._lock:
                self._series_of[key] = known
        return known

    def _is_too_many(self, samples: int) -> bool:
        return self.max_samples is not None and samples > self.max_samples


def _size(samples: Samples) -> int:
    return int((samples.ends - samples.begins).sum())
