"""Where a query starts to read Kafka, from the positions in the table samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from varve.kafka.partitions import OffsetRange, Partition
from varve.model.errors import NeedsOperator
from varve.storage.table import Table


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition is read from. stored: its position in the table; None if never read."""

    stored: int | None
    offset: int

    @property
    def gap(self) -> OffsetRange | None:
        """The offsets that Kafka has dropped before they were read, or None."""
        if self.stored is None or self.stored == self.offset:
            return None
        return OffsetRange(self.stored, self.offset)


def starts(
    samples: Table, query: str, earliest: Mapping[Partition, int], latest: Mapping[Partition, int]
) -> dict[Partition, Start]:
    """Where each partition is read from, by the positions in the table. A partition that was never
    read starts at its earliest offset.

    earliest: inclusive; latest: exclusive. Raises NeedsOperator if a partition ends before what was
    read of it: that broker has lost messages, or is another one.
    """
    found = {}
    for partition, first in earliest.items():
        stored = samples.position(partition.position(query))
        if stored is not None and stored > latest[partition]:
            raise NeedsOperator(
                f"{query}: {partition.topic}-{partition.number} ends at offset"
                f" {latest[partition]}, but samples were stored up to {stored}: the broker has lost"
                " messages or is another one. Point kafka.bootstrap_servers at the right broker, or"
                " create the topic anew"
            )
        found[partition] = Start(stored, first if stored is None else max(stored, first))
    return found
