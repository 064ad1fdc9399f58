"""How many messages of Kafka make a batch: as many as hold so many samples and bytes.

A message may hold one sample or 10,000. A batch of too few pays for a commit more often than it
must, one of too many keeps cores from other queries and memory from everything; and Spark's source
counts messages only. So the number follows what messages have been seen to hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from varve.ingest.outcome import Outcome
from varve.kafka.partitions import OffsetRange, Partition

Ranges = Mapping[Partition, OffsetRange]

# Before anything is known of the messages: about 1,000 samples each, as our clients send them.
_FIRST = 10_000
# A batch has at most so many times the messages of the one before: what came may not be typical.
_GROWTH = 4


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch may hold at most, roughly. bytes: of the messages, once expanded."""

    messages: int
    samples: int
    bytes: int


class BatchSize:
    """The size of the next batch of one query."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self.messages = min(_FIRST, limits.messages)
        """Messages of the next batch, at most."""

    def observe(self, outcomes: Iterable[Outcome]) -> None:
        """Learns from what the tasks of a batch have read."""
        messages = samples = size = 0
        for outcome in outcomes:
            messages += outcome.messages
            samples += outcome.received
            size += outcome.expanded_bytes
        if not messages:
            return
        limits = self._limits
        fitting = min(
            limits.samples * messages // max(samples, 1), limits.bytes * messages // max(size, 1)
        )
        # A short batch says little of how long one may be.
        most = max(self.messages, min(messages * _GROWTH, limits.messages))
        self.messages = max(1, min(fitting, most, limits.messages))

    def take(self, ranges: Ranges) -> tuple[Ranges, Ranges]:
        """Divides ranges into the next batch and what is left: a like part of each partition."""
        total = count(ranges)
        if total <= self.messages:
            return ranges, {}
        now: dict[Partition, OffsetRange] = {}
        later: dict[Partition, OffsetRange] = {}
        for partition, read in ranges.items():
            part = max(1, (read.end - read.start) * self.messages // total)
            cut = min(read.start + part, read.end)
            now[partition] = OffsetRange(read.start, cut)
            if cut < read.end:
                later[partition] = OffsetRange(cut, read.end)
        return now, later


def count(ranges: Ranges) -> int:
    """Offsets in the ranges."""
    return sum(read.end - read.start for read in ranges.values())


def halves(ranges: Ranges) -> tuple[Ranges, Ranges]:
    """Divides ranges of two offsets or more: by partitions, or one partition in its middle."""
    partitions = sorted(ranges)
    if len(partitions) > 1:
        first = partitions[: len(partitions) // 2]
        return {p: ranges[p] for p in first}, {p: r for p, r in ranges.items() if p not in first}
    ((partition, read),) = ranges.items()
    middle = (read.start + read.end) // 2
    return (
        {partition: OffsetRange(read.start, middle)},
        {partition: OffsetRange(middle, read.end)},
    )
