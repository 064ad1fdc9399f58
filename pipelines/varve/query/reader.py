"""A view as the storage that the PromQL engine asks, for one query: within its memory and time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from varve.promql.errors import LimitError, StorageError
from varve.promql.interrupt import Check, never
from varve.promql.kernels.types import I64
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import Samples, SelectHints, Selection
from varve.promql.syntax.ast import Matcher
from varve.query.memory import Reservation
from varve.query.row_group_cache import Footer
from varve.query.sample_columns import SampleColumns, count_samples, select_samples
from varve.query.series_index import SelectedSeries
from varve.query.view import FileGone, View

# From so many series on, those without samples are left out where they are more than half: what
# they would take in every step costs more than deriving from other labels than last time.
_MANY = 1_024

Matchers = tuple[Matcher, ...]


def _never() -> None:
    """Lets a query run to its end."""


@dataclass(frozen=True)
class Reader:
    """Implements promql.storage.Storage for one query; its threads may share it.

    `memory` is asked for what the query holds. `check` raises when the query has to end; it is
    called between files. `max_samples` is the most that one selection may read, None for no bound.
    """

    view: View
    memory: Reservation = field(default_factory=Reservation)
    check: Callable[[], None] = _never
    max_samples: int | None = None
    _series_of: dict[Matchers, SelectedSeries] = field(default_factory=dict)
    _selected: dict[tuple[Matchers, int, int], Selection] = field(default_factory=dict)
    """What had to be read to be counted, until it is asked for."""
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
        with self._lock:
            known = self._selected.pop(key, None)
        selection = known or self._select(*key, hints.check)
        hints.admit(_size(selection.samples))
        with self._lock:
            self._sizes[key] = _size(selection.samples)
        return selection

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
        found, held = count_samples(self.view.head, ids, start_ms, end_ms)
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
        """Matchers, start and end of the selections so far that had no samples."""
        with self._lock:
            return [key for key, samples in self._sizes.items() if not samples]

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
