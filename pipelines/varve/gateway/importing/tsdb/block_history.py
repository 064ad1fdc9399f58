"""A block as a source of history that goes straight into the tables."""

from __future__ import annotations

from collections.abc import Iterator

from varve.gateway.importing.tsdb.block import TsdbBlock
from varve.gateway.importing.tsdb.index import DamagedBlock
from varve.maintenance.backfill import Stretch
from varve.model.errors import BadRequest
from varve.model.window import Window


class BlockHistory:
    """The floats of a block, a `varve.maintenance.backfill.Source`."""

    def __init__(self, block: TsdbBlock) -> None:
        self.name = block.ulid
        self.begin_ms = block.begin_ms
        self.end_ms = block.end_ms - 1
        self._block = block

    def stretches(self, day: Window) -> Iterator[Stretch]:
        """Raises BadRequest where the block is damaged."""
        try:
            for series in self._block.series_within(day):
                yield Stretch(series.labels, series.ts, series.values)
        except DamagedBlock as damaged:
            raise BadRequest(str(damaged)) from damaged
