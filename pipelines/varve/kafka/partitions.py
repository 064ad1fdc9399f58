"""Partitions of topics, and ranges of their offsets."""

from __future__ import annotations

from dataclasses import dataclass

from varve.storage import positions


@dataclass(frozen=True, order=True, slots=True)
class Partition:
    """topic_id: Kafka's id of the topic; another one after it was deleted and created again."""

    topic: str
    topic_id: str
    number: int

    def position(self, query: str) -> str:
        """The transaction id under which a query keeps the next offset it reads of this."""
        return positions.offset(query, self.topic_id, self.number)


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Half-open [start, end)."""

    start: int
    end: int
