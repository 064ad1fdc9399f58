"""Partitions whose log was cut below what was stored of them: their offsets were given again.

So it is after a power cut under a broker that does not sync, or an unclean election: messages that
were stored are gone, others have come at their offsets, and nobody would read those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from varve.kafka.offsets import TopicOffsets
from varve.kafka.partitions import Partition
from varve.storage.table import Table


def stored_epochs(
    samples: Table, query: str, partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """The leader epochs stored with the positions of the query. Earlier releases stored none."""
    found = ((p, samples.position(p.epoch_position(query))) for p in partitions)
    return {partition: epoch for partition, epoch in found if epoch is not None}


def cuts(
    topics: TopicOffsets, offsets: Mapping[Partition, int], epochs: Mapping[Partition, int]
) -> dict[Partition, int | None]:
    """Where the log of a partition was cut, if that is below its offset of `offsets` (the next to
    read), which was stored when its leader had the epoch of `epochs`. None if its log knows nothing
    of that epoch.
    """
    asked = {partition: epoch for partition, epoch in epochs.items() if partition in offsets}
    ends = topics.epoch_ends(asked)
    return {
        partition: end for partition, end in ends.items() if end is None or end < offsets[partition]
    }
