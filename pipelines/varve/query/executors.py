"""Hands selections that are too much for one machine to executors, leaf by leaf.

What comes back are values of series or of groups at each step; the rest of a query is computed
here. Groups are made there by pieces of steps, which do not depend on one another; where a piece
would read much more than its share, or some series are answered by samples and others by rows of
tiers, values come back series by series and are added up here, in the order of an evaluation here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np

from varve.model.window import RAW, Window
from varve.promql.interrupt import Check
from varve.promql.kernels.types import I64
from varve.promql.storage import Leaf, LeafValues
from varve.query.cover import Cover, Level
from varve.query.file_table import FileTable
from varve.query.leaf_job import ChosenRows, Groups, LeafJob, Outcome
from varve.query.provenance import SelectorUse
from varve.query.rollup_reader import Amount
from varve.query.selector_plan import Part, use_of
from varve.query.series_index import SelectedSeries
from varve.query.view import View
from varve.storage.store import Store

# Of the values of all series of a task, which an executor holds at once.
_TASK_BYTES: Final = 64 << 20
# Pieces of steps may be so much larger than tasks are to be, before series are the better cut.
_LARGER: Final = 2


class Executors(Protocol):
    """Processes on other machines that read the same tables."""

    @property
    def store(self) -> Store:
        """Where they find the tables."""
        ...

    @property
    def least_rows(self) -> int:
        """A selection of more rows is theirs."""
        ...

    @property
    def rows_a_task(self) -> int:
        """About how many rows a task is to read."""
        ...

    def run(self, job: LeafJob, check: Check) -> Iterator[Outcome]:
        """Runs the tasks of a job; gives what they found, in any order. StorageError if they
        cannot be reached or fail, FileGone if files are gone, and what `check` raises.
        """
        ...


@dataclass(frozen=True)
class FarSelection:
    """Implements promql.storage.Elsewhere for some series of a view.

    parts: what answers groups of them; without any, samples answer all. rows: about how many there
    are. amount: what was read so far.
    """

    executors: Executors
    view: View
    series: SelectedSeries
    parts: Sequence[Part]
    rows: int
    amount: Amount = field(default_factory=Amount)

    def by_group(
        self, leaf: Leaf, kernel: int, groups: I64, size: int, check: Check
    ) -> LeafValues | None:
        pieces = self._pieces(leaf)
        if pieces is None:
            return None
        edges = tuple(np.linspace(0, leaf.steps, pieces + 1).astype(int).tolist())
        values = np.zeros((size, leaf.steps))
        present = np.zeros(values.shape, dtype=np.bool_)
        touched = 0
        for outcome in self._run(leaf, Groups(kernel, groups, size), edges, check):
            some = slice(outcome.first, outcome.first + outcome.found.values.shape[1])
            values[:, some], present[:, some] = outcome.found.values, outcome.found.present
            touched += outcome.found.touched
        return LeafValues(values, present, touched)

    def by_series(self, leaf: Leaf, check: Check) -> tuple[LeafValues, I64]:
        by_id = self.series.by_id
        values = np.zeros((self.series.size, leaf.steps))
        present = np.zeros(values.shape, dtype=np.bool_)
        pieces = max(self._tasks, -(-9 * values.size // _TASK_BYTES))
        edges = np.linspace(0, len(by_id), min(pieces, max(1, len(by_id))) + 1).astype(int)
        touched = samples = 0
        for outcome in self._run(leaf, None, tuple(edges.tolist()), check):
            found = outcome.found
            rows = by_id[outcome.first : outcome.first + found.values.shape[0]]
            values[rows], present[rows] = found.values, found.present
            touched, samples = touched + found.touched, samples + outcome.samples
        planned = [part.group.by_id for part in self.parts if part.rows is not None]
        # Rows of tiers alone are added up in the order in which they are read.
        order = np.concatenate(planned) if planned and not samples else np.arange(len(values))
        return LeafValues(values, present, touched), order

    def use(self, selector: str, missing_until_ms: int | None, span: Window) -> SelectorUse:
        """What a selector was answered from so far."""
        used = SelectorUse(selector, (RAW,), 0, 0, missing_until_ms=missing_until_ms)
        if self.parts:
            used = use_of(selector, self.parts, (), 0, missing_until_ms, span)
        return replace(used, rows=self.amount.rows, nbytes=self.amount.nbytes, by_spark=True)

    @property
    def _tasks(self) -> int:
        return max(1, -(-self.rows // self.executors.rows_a_task))

    def _pieces(self, leaf: Leaf) -> int | None:
        """In how many pieces of steps groups are made; None if values of series are wanted."""
        covers = [part.cover for part in self.parts if part.cover is not None]
        if covers and len(covers) < len(self.parts):
            return None
        if not all(cover.is_by_step(leaf.steps) for cover in covers):
            return None
        length_ms = int(leaf.times[-1] - leaf.times[0])
        pieces = min(self._tasks, leaf.steps, max(1, length_ms // max(1, leaf.range_ms)))
        return pieces if pieces * _LARGER >= self._tasks else None

    def _run(
        self, leaf: Leaf, groups: Groups | None, edges: tuple[int, ...], check: Check
    ) -> Iterator[Outcome]:
        for outcome in self.executors.run(self._job(leaf, groups, edges), check):
            self.amount.rows += outcome.rows
            self.amount.nbytes += outcome.nbytes
            yield outcome

    def _job(self, leaf: Leaf, groups: Groups | None, edges: tuple[int, ...]) -> LeafJob:
        series = self.series
        ids = series.series_ids[series.by_id]
        chosen = tuple(
            ChosenRows(part.group.by_id, replace(part.rows, cover=None), _trimmed(part.cover, ids))
            for part in self.parts
            if part.rows is not None and part.cover is not None
        )
        raw = [part.group.by_id for part in self.parts if part.rows is None]
        if not self.parts:
            raw = [series.by_id]
        # Rows that are made of samples need those of their edges alone.
        spans = [leaf.span] if raw else []
        spans += [
            (int(one.cover.raw_starts[0]), int(one.cover.raw_ends[-1]))
            for one in chosen
            if len(one.cover.raw_ends)
        ]
        files = {f.path: f for span in spans for f in self.view.all_files.select(ids, *span)}
        return LeafJob(
            self.executors.store,
            leaf,
            series.series_ids,
            series.by_id,
            _ascending(raw, series.series_ids),
            FileTable(list(files.values())),
            chosen,
            groups,
            edges,
        )


def _ascending(rows: Sequence[I64], series_ids: I64) -> I64:
    """Rows of several groups, by the ids of their series."""
    if not rows:
        return np.zeros(0, dtype=np.int64)
    together = np.concatenate(rows)
    return together[np.argsort(series_ids[together])]


def _trimmed(cover: Cover, ids: I64) -> Cover:
    """The cover with those files of its tiers alone that can hold rows of it."""

    def level(one: Level) -> Level:
        files = one.tier.files.select(ids, *one.span) if one.windows else []
        tier = replace(one.tier, files=FileTable(files, "window_end"), pending=(), classes=())
        return replace(one, tier=tier)

    return replace(cover, levels=tuple(map(level, cover.levels)))
