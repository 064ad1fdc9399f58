"""Samples a task holds until it writes them, with the messages they came in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from varve.ingest.decoded import Block, concatenate
from varve.ingest.definition_columns import BroughtDefinitions
from varve.kafka.message import Message
from varve.model.identity import SeriesDefinition

# What a message takes beside its value: itself, its numbers and its place in lists.
_MESSAGE_BYTES = 300


class HeldSamples:
    """Blocks in the order they came. Ask for columns only once all have been added."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.samples = 0
        self.bytes = 0
        """Size of the messages, once expanded."""
        self._blocks: list[Block] = []
        self._samples_of: list[int] = []

    def add(self, message: Message, block: Block, size: int) -> None:
        """Adds the samples of a message. size: its bytes, once expanded."""
        self.messages.append(message)
        self._samples_of.append(len(block))
        self._add(block, size + _MESSAGE_BYTES)

    def add_singles(self, messages: Sequence[Message], block: Block, size: int) -> None:
        """Adds the samples of messages that hold one each. size: bytes of all."""
        self.messages += messages
        self._samples_of += [1] * len(messages)
        self._add(block, size + _MESSAGE_BYTES * len(messages))

    @cached_property
    def columns(self) -> Block:
        """All samples in the order they came."""
        return concatenate(self._blocks)

    def message_numbers(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """For each sample, by its place in `columns`, the number of its message in `messages`."""
        return np.searchsorted(self._message_ends, places, side="right")

    def definition(self, place: int, brought: BroughtDefinitions) -> SeriesDefinition | None:
        """The definition of the series of the sample at a place of `columns`: the one that came
        with the sample, else the one in `brought`, else None.
        """
        number = int(np.searchsorted(self._block_ends, place, side="right"))
        block = self._blocks[number]
        if block.owners:
            return block.owners[place - int(self._block_ends[number]) + len(block)]
        columns = self.columns
        return brought.get((int(columns.series_ids[place]), int(columns.checks[place])))

    def _add(self, block: Block, size: int) -> None:
        self._blocks.append(block)
        self.samples += len(block)
        self.bytes += size

    @cached_property
    def _message_ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(np.array(self._samples_of, np.int64))

    @cached_property
    def _block_ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(np.array([len(block) for block in self._blocks], np.int64))
