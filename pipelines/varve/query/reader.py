"""A view as the storage that the PromQL engine asks, for one query: within its memory and time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from varve.model.clock import utc_text
from varve.model.window import RAW, Window
from varve.promql.errors import LimitError, StorageError
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
from varve.promql.syntax.literals import format_duration
from varve.promql.syntax.printer import matcher_text
from varve.query import tier_choice
from varve.query.cover import Cover
from varve.query.decoded_files import Footer
from varve.query.memory import Reservation
from varve.query.provenance import Provenance, SelectorUse
from varve.query.rollup_reader import RollupReader
from varve.query.sample_columns import SampleColumns, count_samples, select_samples
from varve.query.series_index import SelectedSeries
from varve.query.tier_choice import Estimate, PlannedRows
from varve.query.view import FileGone, View
from varve.rollups import time_ranges

# From so many series on, those without samples are left out where they are more than half: what
# they would take in every step costs more than deriving from other labels than last time.
_MANY = 1_024

Matchers = tuple[Matcher, ...]
_Selected = tuple[Matchers, int, int]
"""What a selection is known by: matchers, and the range (start, end], Unix ms."""
_Use = tuple[Matchers, int, int, PlannedRows | None]


def _never() -> None:
    """Lets a query run to its end."""


@dataclass(frozen=True)
class Reader:
    """Implements promql.storage.Storage for one query; its threads may share it.

    `memory` is asked for what the query holds. `check` raises when the query has to end; it is
    called between files. `max_samples` is the most that one selection may read, None for no bound.
    `tier`: one of model.window.TIER_NAMES to answer from; None leaves the choice to each selector.
    """

    view: View
    memory: Reservation = field(default_factory=Reservation)
    check: Callable[[], None] = _never
    max_samples: int | None = None
    tier: str | None = None
    _uses: dict[_Use, Callable[[], SelectorUse]] = field(default_factory=dict)
    """What each selection so far was answered from."""
    _choices: dict[tuple[Matchers, WindowFunction], PlannedRows | None] = field(
        default_factory=dict
    )
    _series_of: dict[Matchers, SelectedSeries] = field(default_factory=dict)
    _selected: dict[tuple[Matchers, int, int], Selection] = field(default_factory=dict)
    """What had to be read to be counted, until it is asked for."""
    _in_memory: dict[tuple[Matchers, int, int], tuple[int, int]] = field(default_factory=dict)
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
        if isinstance(hints.choice, PlannedRows) and hints.choice.cover is not None:
            return self._select_rollups(key, hints.choice, hints.choice.cover, hints.check)
        warnings = self._note_expired(start_ms, end_ms)
        with self._lock:
            known = self._selected.pop(key, None)
        selection = known or self._select(*key, hints.check)
        size = _size(selection.samples)
        hints.admit(size)
        missing = self.view.raw_from_ms if warnings else None
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
            estimate = self._estimated(key[0], *windows.span, check)
            chosen = tier_choice.choose(
                windows, self.view.tiers, self.view.raw_from_ms, estimate, self.tier
            )
        with self._lock:
            self._choices[key] = chosen
        return chosen

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
        series = self._series(matchers, check)
        ids = series.series_ids[series.by_id]
        found, held = self._in_head(series, tuple(matchers), start_ms, end_ms)
        _, rows = self.view.files.overlapping(ids, start_ms, end_ms)
        if self._is_too_many(held + rows):
            with _reading():
                rows = sum(
                    footer.overlapping_rows(ids, start_ms, end_ms)
                    for _, footer in self._footers(ids, start_ms, end_ms)
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

    def next_to(
        self, ids: I64, start_ms: int, end_ms: int, *, newest: bool, most: int
    ) -> Iterator[tuple[int, SampleColumns]]:
        """The row groups with samples of the ids that reach furthest towards an end of the range.

        With each comes how far it reaches, the furthest first. That is towards end_ms if `newest`,
        else towards start_ms; `most` of them are given. Raises as `select`.
        """
        with _reading():
            found = [
                (
                    int((footer.zones.last_ms if newest else footer.zones.first_ms)[group]),
                    path,
                    group,
                )
                for path, footer in self._footers(ids, start_ms, end_ms)
                for group in footer.overlapping(ids, start_ms, end_ms)
            ]
            found.sort(reverse=newest)
            parts = self.view.row_groups.read(
                ((path, group) for _, path, group in found[:most]), self.check
            )
            yield from zip((reach for reach, *_ in found), parts, strict=False)

    def label_names(
        self,
        matchers: Sequence[Sequence[Matcher]],
        start_ms: int,  # noqa: ARG002 - series without samples in the range may count
        end_ms: int,  # noqa: ARG002
    ) -> list[str]:
        return self.view.index.label_names(matchers)

    def label_values(
        self,
        name: str,
        matchers: Sequence[Sequence[Matcher]],
        start_ms: int,  # noqa: ARG002
        end_ms: int,  # noqa: ARG002
    ) -> list[str]:
        return self.view.index.label_values(name, matchers)

    def series(
        self,
        matchers: Sequence[Sequence[Matcher]],
        start_ms: int,  # noqa: ARG002
        end_ms: int,  # noqa: ARG002
    ) -> LabelTable:
        found = self.view.index.find_any(matchers)
        self.memory.take(found.nbytes)
        return found.labels

    def _select_rollups(
        self, key: _Selected, choice: PlannedRows, planned: Cover, check: Check
    ) -> Selection:
        matchers, start_ms, end_ms = key
        series = self._series(matchers, check)
        rollups = RollupReader(self.view, series, choice, planned, self.memory, _reading)
        pending = tuple(
            window
            for level in planned.levels
            for window in time_ranges.clip(level.tier.pending, Window(start_ms, end_ms))
        )

        def use() -> SelectorUse:
            return SelectorUse(
                selector_text(matchers),
                planned.tiers,
                rollups.amount.rows,
                rollups.amount.nbytes,
                choice.moved_ms,
                self._missing_until(planned),
                pending,
            )

        with self._lock:
            self._uses[(*key, choice)] = use
        warnings = []
        if choice.moved_ms:
            moved = format_duration(choice.moved_ms / 1000)
            warnings.append(
                f"{selector_text(matchers)}: approximate, since samples have expired: ends of"
                f" windows are up to {moved} earlier than asked for"
            )
        if (missing := self._missing_until(planned)) is not None:
            warnings.append(_missing_text(missing))
        return Selection(series.labels, no_samples(series.size), tuple(warnings), rollups)

    def _missing_until(self, planned: Cover) -> int | None:
        """Up to when samples, or rows, are missing that have expired; None if none are."""
        refused = (
            level.tier.refused_until_ms
            for level in planned.levels
            if level.windows and level.tier.refused_until_ms is not None
            if level.span[0] < level.tier.refused_until_ms
        )
        until = [int(end) for end in refused]
        raw_from = self.view.raw_from_ms
        if raw_from is not None:
            gone = planned.raw_ends[planned.raw_starts < raw_from]
            until += np.minimum(gone, raw_from).tolist()
        return max(until, default=None)

    def _note_expired(self, start_ms: int, end_ms: int) -> tuple[str, ...]:
        """Warnings of samples in a range that have expired. StorageError if all of it has."""
        raw_from = self.view.raw_from_ms
        if raw_from is None or start_ms >= raw_from:
            return ()
        if end_ms <= raw_from:
            raise StorageError(
                f"samples up to {utc_text(raw_from)} have expired, and rows of rollups do not"
                " answer this: ask for a later time"
                + (", or without tier=raw" if self.tier == RAW and self.view.tiers else "")
            )
        return (_missing_text(raw_from),)

    def _estimated(self, matchers: Matchers, start_ms: int, end_ms: int, check: Check) -> Estimate:
        series = self._series(matchers, check)
        share = series.size / max(1, self.view.index.size)
        samples = int(self.view.all_files.rows_within(start_ms, end_ms) * share)
        return Estimate(series.size, samples, share)

    def _in_head(
        self, series: SelectedSeries, matchers: Matchers, start_ms: int, end_ms: int
    ) -> tuple[int, int]:
        """At most how many series and samples are in memory; counted once for the query."""
        key = matchers, start_ms, end_ms
        with self._lock:
            known = self._in_memory.get(key)
        if known is None:
            ids = series.series_ids[series.by_id]
            known = count_samples(self.view.head, ids, start_ms, end_ms)
            with self._lock:
                self._in_memory[key] = known
        return known

    def _select(
        self, matchers: Matchers, start_ms: int, end_ms: int, check: Check = never
    ) -> Selection:
        series = self._series(matchers, check)
        ids = series.series_ids[series.by_id]
        with _reading():
            samples = select_samples(
                self.view.head,
                self.view.row_groups.read(self._row_groups(ids, start_ms, end_ms), self.check),
                series.series_ids,
                series.by_id,
                start_ms,
                end_ms,
                self.memory.take,
            )
        if self._is_too_many(_size(samples)):
            raise LimitError(
                "query processing would load too many samples into memory in query execution:"
                f" {_size(samples):,} are over query.max_samples = {self.max_samples:,}"
            )
        return _without_empty(series.labels, samples)

    def _series(self, matchers: Sequence[Matcher], check: Check = never) -> SelectedSeries:
        """The series of a selector, found once for the query."""
        key = tuple(matchers)
        with self._lock:
            known = self._series_of.get(key)
        if known is None:
            self.check()
            known = self.view.index.find(key, check)
            self.memory.take(known.nbytes)
            with self._lock:
                self._series_of[key] = known
        return known

    def _row_groups(self, ids: I64, start_ms: int, end_ms: int) -> Iterator[tuple[str, int]]:
        for path, footer in self._footers(ids, start_ms, end_ms):
            yield from ((path, group) for group in footer.overlapping(ids, start_ms, end_ms))

    def _footers(self, ids: I64, start_ms: int, end_ms: int) -> Iterator[tuple[str, Footer]]:
        """The files that can hold samples of the ids in the range."""
        paths, _ = self.view.files.overlapping(ids, start_ms, end_ms)
        return zip(paths, self.view.row_groups.footers(paths, self.check), strict=True)

    def _is_too_many(self, samples: int) -> bool:
        return self.max_samples is not None and samples > self.max_samples


@contextmanager
def _reading() -> Iterator[None]:
    """Turns errors of the storage into those of a query."""
    try:
        yield
    except FileNotFoundError as err:
        raise FileGone(f"cannot read samples: {err}") from err
    except OSError as err:
        raise StorageError(f"cannot read samples: {err}") from err


def _missing_text(until_ms: int) -> str:
    return f"partial: samples up to {utc_text(until_ms)} have expired"


def _size(samples: Samples) -> int:
    return int((samples.ends - samples.begins).sum())


def _without_empty(labels: LabelTable, samples: Samples) -> Selection:
    """The selection, without series that have no samples if there are too many of them."""
    there = samples.ends > samples.begins
    count = int(np.count_nonzero(there))
    if len(there) < _MANY or 2 * count > len(there):
        return Selection(labels, samples)
    rows = np.flatnonzero(there)
    return Selection(labels.take(rows), samples.take(rows))


def selector_text(matchers: Sequence[Matcher]) -> str:
    """A selector as it could be written."""
    return "{" + ", ".join(map(matcher_text, matchers)) + "}"
