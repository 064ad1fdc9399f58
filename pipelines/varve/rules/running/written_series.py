"""What rules wrote and the tables do not have yet, laid over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from varve.promql.storage import Storage
from varve.rules.instant import Sample
from varve.rules.overlay import Overlay
from varve.rules.series_buffer import SeriesBuffer

_FEW = 4
"""A buffer is made anew once so many times what is needed are in it."""


@dataclass(slots=True)
class Batch:
    """Samples that were written together. sent_ms: when Kafka had acknowledged them, Unix ms."""

    samples: Sequence[Sample]
    sent_ms: int | None = None


class WrittenSeries:
    """Samples in the order in which they were written. For one thread; what `over` gives may be
    read by many while nothing is written.
    """

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._buffer = SeriesBuffer()
        self._size = 0

    @property
    def size(self) -> int:
        """Samples that are held."""
        return self._size

    def write(self, batch: Batch) -> None:
        """Takes samples."""
        if batch.samples:
            self._batches.append(batch)
            self._buffer.write(batch.samples)
            self._size += len(batch.samples)

    def forget(self, stored_ms: int) -> None:
        """Leaves out what Kafka had by then: the tables have it.

        The samples are taken out of memory once they are most of what is there.
        """
        kept = deque(
            batch for batch in self._batches if batch.sent_ms is None or batch.sent_ms > stored_ms
        )
        left = sum(len(batch.samples) for batch in kept)
        if left == self._size or (left and self._size < _FEW * left):
            return
        self._batches, self._size = kept, left
        self._buffer = SeriesBuffer()
        for batch in kept:
            self._buffer.write(batch.samples)

    def over(self, tables: Storage) -> GroupSeries:
        """The tables with what was written, for one evaluation of a group."""
        return GroupSeries(tables if self._buffer.is_empty else Overlay(tables, self._buffer))


class GroupSeries:
    """What the rules of one group read and write in one evaluation: they see each other's samples,
    and of other groups what earlier evaluations wrote.
    """

    def __init__(self, below: Storage) -> None:
        self._own = SeriesBuffer()
        self._storage: Storage = Overlay(below, self._own)

    @property
    def storage(self) -> Storage:
        return self._storage

    def write(self, samples: Iterable[Sample]) -> None:
        self._own.write(samples)
