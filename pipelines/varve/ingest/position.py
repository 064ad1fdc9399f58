"""How far a query has read Kafka: kept in the table samples itself, in the commits of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from varve.model.errors import NeedsOperator
from varve.storage.table import Table


@dataclass(frozen=True, order=True, slots=True)
class Partition:
    """topic_id: Kafka's id of the topic; another one after it was deleted and created again."""

    topic: str
    topic_id: str
    number: int

    def transaction(self, query: str) -> str:
        return f"{query}:{self.topic_id}:{self.number}"


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Half-open [start, end)."""

    start: int
    end: int


REJECTS = "rejects:"


def complete(query: str) -> str:
    """Transaction on samples: everything produced up to this time (ms, inclusive) is stored."""
    return f"complete:{query}"


def batch_number(query: str) -> str:
    """Transaction on samples: number of the query's last batch."""
    return f"batch:{query}"


def rejects(query: str) -> str:
    """Transaction on samples and on quarantine: the query's last batch that refused something.
    Where the two differ, the commit of that batch's rejects is still owed.
    """
    return f"{REJECTS}{query}"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition is read from. stored: its position in the table, None if never read."""

    stored: int | None
    offset: int

    @property
    def gap(self) -> OffsetRange | None:
        """Offsets that Kafka has dropped before they were read."""
        if self.stored is None or self.stored == self.offset:
            return None
        return OffsetRange(self.stored, self.offset)


def starts(
    samples: Table, query: str, earliest: Mapping[Partition, int], latest: Mapping[Partition, int]
) -> dict[Partition, Start]:
    """By partition, from the table. A partition never read starts at its earliest offset.

    earliest: inclusive; latest: exclusive. Raises NeedsOperator if a partition ends before what was
    read of it: that broker has lost messages, or is another one.
    """
    found = {}
    for partition, first in earliest.items():
        stored = samples.position(partition.transaction(query))
        if stored is not None and stored > latest[partition]:
            raise NeedsOperator(
                f"{query}: {partition.topic}-{partition.number} ends at offset"
                f" {latest[partition]}, but samples were stored up to {stored}: the broker has lost"
                " messages or is another one. Point kafka.bootstrap_servers at the right broker, or"
                " create the topic anew"
            )
        found[partition] = Start(stored, first if stored is None else max(stored, first))
    return found
