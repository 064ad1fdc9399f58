"""How far input is complete: the times of which it is known that all produced by then is stored.

Every few seconds the driver notes (T, the end offset of every partition at T). Once the stored
positions have reached them all, everything produced up to T is in the table, whatever the clocks of
the producers say. It stands still while ingest is down, paused or behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from varve.kafka.partitions import Partition

# Notes kept while ingest is behind. More would only make its progress smoother.
MAX_NOTES = 64


@dataclass(frozen=True, slots=True)
class _Note:
    at_ms: int
    ends: Mapping[Partition, int]


class Completeness:
    """Notes of one query, oldest first."""

    def __init__(self) -> None:
        self._notes: deque[_Note] = deque()

    def note(self, at_ms: int, ends: Mapping[Partition, int]) -> None:
        """Remembers that at at_ms the partitions ended at `ends` (exclusive).

        at_ms must be read before the ends are. While many notes wait, every second one is dropped.
        """
        if len(self._notes) >= MAX_NOTES:
            self._notes = deque(list(self._notes)[::2])
        self._notes.append(_Note(at_ms, dict(ends)))

    def reached(self, positions: Mapping[Partition, int]) -> int | None:
        """The greatest noted time all of whose ends the positions (next offset to read) have
        reached, or None. Forgets its note and those before it.
        """
        at_ms = None
        while self._notes and _covers(positions, self._notes[0].ends):
            at_ms = self._notes.popleft().at_ms
        return at_ms


def _covers(positions: Mapping[Partition, int], ends: Mapping[Partition, int]) -> bool:
    return all(positions.get(partition, 0) >= end for partition, end in ends.items())
