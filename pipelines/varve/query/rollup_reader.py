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
from varve.query.rollup_columns import (
    ChosenRows,
    Column,
    MadePart,
    RollupPart,
    SketchColumn,
    choose_rows,
    join_rows,
)
from varve.query.rollup_groups import RollupGroups
from varve.query.sample_columns import SampleColumns
from varve.query.sample_selection import find_parts, select_samples
from varve.query.series_index import SelectedSeries
from varve.query.spans import within_spans
from varve.query.tier_choice import PlannedRows
from varve.query.view import View
from varve.rollups import algebra, kernel

# Bytes that the rows of a block, and the values made of them, take about. Blocks of more series
# decode each row group less often, as one holds several blocks' series.
_BLOCK_BYTES = 384 << 20


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
    """Implements promql.storage.Rollups for the series of a selection that by_id has, in ascending
    order of series_id.

    reading turns errors of the storage into those of a query.
    """

    view: View
    series: SelectedSeries
    by_id: I64
    plan: PlannedRows
    cover: Cover
    memory: Reservation
    reading: Callable[[], AbstractContextManager[None]]
    amount: Amount = field(default_factory=Amount)

    def blocks(self, steps: int, check: Check) -> Iterator[RollupRows]:
        ids = self.series.series_ids[self.by_id]
        columns = len(self.plan.columns) + 3
        each = columns * (self.cover.windows + self._samples_a_series()) + 2 * steps
        size = max(1, _BLOCK_BYTES // (8 * max(1, each)))
        for number, begin in enumerate(range(0, len(ids), size)):
            taken = _Taken(self.memory, self.amount)
            try:
                with self.reading():
                    # There and back: what was decoded last for a block is still there for the next.
                    rows = self._block(
                        ids[begin : begin + size], begin, number % 2 == 1, taken.take, check
                    )
                if len(rows.series):
                    yield rows
            finally:
                taken.give_back()

    def _samples_a_series(self) -> int:
        return max(0, self.plan.rows // max(1, self.plan.series) - self.cover.windows)

    def _block(
        self,
        ids: I64,
        begin: int,
        backwards: bool,  # noqa: FBT001 - one call
        take: Callable[[int], None],
        check: Check,
    ) -> RollupRows:
        """The rows of the series `ids`, which come from place `begin` on in the order of ids."""
        chosen = [*self._stored(ids, backwards, take, check), *self._made(ids, take, check)]
        places = np.ascontiguousarray(self.by_id[begin : begin + len(ids)])

        def load(parts: Sequence[RollupPart], name: str) -> Iterator[Column | SketchColumn]:
            return self._groups.columns(parts, name, check)

        rows = join_rows(chosen, places, self.cover.ranges, self.plan.columns, load, take)
        self.amount.rows += int((rows.ends - rows.begins).sum())
        return rows

    @property
    def _groups(self) -> RollupGroups:
        if self.view.rollups is None:
            raise ValueError("a view without tiers has no rows of rollups")
        return self.view.rollups

    def _stored(
        self,
        ids: I64,
        backwards: bool,  # noqa: FBT001 - one call
        take: Callable[[int], None],
        check: Check,
    ) -> Iterator[ChosenRows]:
        """Rows of the tiers' files, those of windows that are used."""
        for level in self.cover.levels:
            if not level.windows:
                continue
            start, end = level.span
            is_whole = level.windows * level.tier.tier.width_ms == end - start
            files = level.tier.files.select(ids, start, end)
            if backwards:
                files.reverse()
            table = level.tier.tier.table
            for part in self._groups.parts(table, files, ids, (start, end), check):
                found = choose_rows(*part, ids, (start, end), None if is_whole else level.uses)
                if found is not None:
                    take(found.nbytes)
                    yield found

    def _made(self, ids: I64, take: Callable[[int], None], check: Check) -> Iterator[ChosenRows]:
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
        resident = list(find_parts(inside(iter(self.view.head)), ids, start, end))
        chosen = select_samples(resident, inside(passing), ids, everything, start, end, take)
        samples = chosen.whole()
        lengths = samples.ends - samples.begins
        place = np.repeat(samples.begins - (np.cumsum(lengths) - lengths), lengths)
        place += np.arange(len(place))
        rows = kernel.aggregate_between(
            np.repeat(ids, lengths), samples.ts[place], samples.values[place], self.cover.cuts
        )
        take(rows.count.nbytes * len(algebra.COLUMNS))
        found = choose_rows(MadePart(rows), rows.series_id, rows.window_end, ids, (start, end))
        if found is not None:
            yield found
