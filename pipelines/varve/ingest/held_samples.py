"""Samples a task holds until it writes them, with the messages they came in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from varve.ingest.decoded import Block, concatenate
from varve.ingest.series_id_index import SeriesKey
from varve.kafka.message import Message
from varve.model.identity import SeriesDefinition


class HeldSamples:
    """Blocks in the order they came. Ask for columns only once all have been added."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._blocks: list[Block] = []
        self.samples = 0
        self.bytes = 0
        """Size of the messages, once expanded."""

    def add(self, message: Message, block: Block, size: int) -> None:
        """size: bytes of the message, once expanded."""
        self.messages.append(message)
        self._blocks.append(block)
        self.samples += len(block)
        self.bytes += size

    @cached_property
    def columns(self) -> Block:
        """All samples in the order they came."""
        return concatenate(self._blocks)

    def message_numbers(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """For each sample, by its place in `columns`, the number of its message in `messages`."""
        return np.searchsorted(self._ends, places, side="right")

    def definition(
        self, place: int, number: int, brought: Mapping[SeriesKey, SeriesDefinition]
    ) -> SeriesDefinition | None:
        """The definition of the series of the sample at a place of `columns`, in message `number`:
        the one that came with the sample, else the one in `brought`, else None.
        """
        block = self._blocks[number]
        if block.owners:
            return block.owners[place - int(self._ends[number]) + len(block)]
        columns = self.columns
        return brought.get((int(columns.series_ids[place]), int(columns.checks[place])))

    def owners(self, number: int) -> dict[SeriesKey, SeriesDefinition]:
        """Definitions that message `number` says with its samples."""
        return {(d.series_id, d.check): d for d in self._blocks[number].owners}

    @cached_property
    def _ends(self) -> npt.NDArray[np.intp]:
        return np.cumsum([len(block) for block in self._blocks])
