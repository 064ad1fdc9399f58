"""Rows of rollups for one selector of a query, read block by block within its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from varve.promql.interrupt import Check
from varve.promql.kernels.types import I64
from varve.promql.storage import RollupRows
from varve.query.cover import Cover
from varve.query.memory import Reservation
from varve.query.rollup_columns import SKETCH, RollupPart, narrowed, part_of, select_rows
from varve.query.sample_columns import SampleColumns, select_samples
from varve.query.series_index import SelectedSeries
from varve.query.spans import within_spans
from varve.query.tier_choice import PlannedRows
from varve.query.view import View
from varve.rollups import kernel

# Rows, and values made of them, that a block has about: some tens of MB.
_BLOCK = 1_000_000


@dataclass
class Amount:
    """What was read so far."""

    rows: int = 0
    nbytes: int = 0


@dataclass
class _Taken:
    """What a block has asked the query's memory for."""

    memory: Reservation
    amount: Amount
    nbytes: int = 0

    def take(self, nbytes: int) -> None:
        self.memory.take(nbytes)
        self.nbytes += nbytes
        self.amount.nbytes += nbytes

    def give_back(self) -> None:
        self.memory.give_back(self.nbytes)


@dataclass(frozen=True)
class RollupReader:
    """Implements promql.storage.Rollups.

    reading turns errors of the storage into those of a query.
    """

    view: View
    series: SelectedSeries
    plan: PlannedRows
    cover: Cover
    memory: Reservation
    reading: Callable[[], AbstractContextManager[None]]
    amount: Amount = field(default_factory=Amount)

    @property
    def range_starts(self) -> I64:
        return self.cover.ranges.starts

    @property
    def range_ends(self) -> I64:
        return self.cover.ranges.ends

    def blocks(self, steps: int, check: Check) -> Iterator[RollupRows]:
        ids = self.series.series_ids[self.series.by_id]
        each = max(1, self.cover.windows + steps + self._samples_a_series())
        size = max(1, _BLOCK // each)
        for begin in range(0, len(ids), size):
            taken = _Taken(self.memory, self.amount)
            try:
                with self.reading():
                    rows = self._block(ids[begin : begin + size], begin, taken.take, check)
                if len(rows.series):
                    yield rows
            finally:
                taken.give_back()

    def _samples_a_series(self) -> int:
        return max(0, self.plan.rows // max(1, self.plan.series) - self.cover.windows)

    def _block(self, ids: I64, begin: int, take: Callable[[int], None], check: Check) -> RollupRows:
        """The rows of the series `ids`, which come from place `begin` on in the order of ids."""
        columns = [name for name in self.plan.columns if name != SKETCH]
        parts = [*self._stored(ids, take, check), *self._made(ids, columns, take, check)]
        places = np.ascontiguousarray(self.series.by_id[begin : begin + len(ids)])
        rows = select_rows(parts, ids, places, self._span(), columns, take)
        self.amount.rows += int((rows.ends - rows.begins).sum())
        return rows

    def _span(self) -> tuple[int, int]:
        """The time in which any row ends."""
        spans = [level.span for level in self.cover.levels if level.windows]
        starts = [start for start, _ in spans] + self.cover.raw_starts[:1].tolist()
        ends = [end for _, end in spans] + self.cover.raw_ends[-1:].tolist()
        return min(starts), max(ends)

    def _stored(self, ids: I64, take: Callable[[int], None], check: Check) -> Iterator[RollupPart]:
        """Rows of the tiers' files, those of windows that are used."""
        groups = self.view.rollups
        if groups is None:
            return
        for level in self.cover.levels:
            if not level.windows:
                continue
            start, end = level.span
            is_whole = level.windows * level.tier.tier.width_ms == end - start
            files = level.tier.files.select(ids, start, end)
            table = level.tier.tier.table
            for part in groups.read(table, files, ids, (start, end), self.plan.columns, check):
                wanted = narrowed(part, ids, (start, end))
                if not wanted.rows:
                    continue
                if not is_whole or wanted.ends.min() <= start or wanted.ends.max() > end:
                    wanted = wanted.where(level.uses(wanted.ends))
                if wanted.rows:
                    take(wanted.nbytes)
                    yield wanted

    def _made(
        self, ids: I64, columns: Sequence[str], take: Callable[[int], None], check: Check
    ) -> Iterator[RollupPart]:
        """Rows made of the samples that the tiers leave."""
        starts, ends = self.cover.raw_starts, self.cover.raw_ends
        if not len(starts):
            return
        start, end = int(starts[0]), int(ends[-1])
        files, _ = self.view.files.overlapping(ids, start, end)
        footers = self.view.row_groups.footers(files, check)
        groups = (
            (path, group)
            for path, footer in zip(files, footers, strict=True)
            for group in footer.overlapping(ids, start, end)
        )
        passing = self.view.row_groups.read(groups, check)

        def inside(parts: Iterator[SampleColumns]) -> Iterator[SampleColumns]:
            for part in parts:
                check()
                yield part if len(starts) == 1 else within_spans(part, starts, ends)

        everything = np.arange(len(ids))
        samples = select_samples(
            inside(iter(self.view.head)), inside(passing), ids, everything, start, end, take
        )
        lengths = samples.ends - samples.begins
        place = np.repeat(samples.begins - (np.cumsum(lengths) - lengths), lengths)
        place += np.arange(len(place))
        rows = kernel.aggregate_between(
            np.repeat(ids, lengths), samples.ts[place], samples.values[place], self.cover.cuts
        )
        part = part_of(rows, columns, with_sketch=SKETCH in self.plan.columns)
        take(part.nbytes)
        yield part
