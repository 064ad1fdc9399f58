"""Partitions of topics, and ranges of their offsets."""

from __future__ import annotations

from dataclasses import dataclass

from varve.storage import positions


@dataclass(frozen=True, order=True, slots=True)
class Partition:
    """A partition of a topic. topic_id: Kafka's id of the topic, which is another one after it was
    deleted and created again.
    """

    topic: str
    topic_id: str
    number: int

    def position(self, query: str) -> str:
        """The transaction id under which a query keeps the next offset that it reads here."""
        return positions.offset(query, self.topic_id, self.number)

    def epoch_position(self, query: str) -> str:
        """The transaction id under which a query keeps the leader epoch of its position."""
        return positions.epoch(query, self.topic_id, self.number)


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets from start (inclusive) to end (exclusive)."""

    start: int
    end: int
