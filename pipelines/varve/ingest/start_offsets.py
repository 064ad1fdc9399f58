"""Where a query starts to read Kafka, from the positions in the table samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from varve.kafka.partitions import OffsetRange, Partition
from varve.model.errors import NeedsOperator, TemporaryError
from varve.storage.table import Table


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition is read from. stored: its position in the table; None if never read."""

    stored: int | None
    offset: int

    @property
    def gap(self) -> OffsetRange | None:
        """The offsets that Kafka has dropped before they were read, or None."""
        if self.stored is None or self.stored >= self.offset:
            return None
        return OffsetRange(self.stored, self.offset)


def starts(
    samples: Table,
    query: str,
    earliest: Mapping[Partition, int],
    latest: Mapping[Partition, int],
    cut: Mapping[Partition, int | None] | None = None,
    *,
    reread: bool = False,
) -> dict[Partition, Start]:
    """Where each partition is read from, by the positions in the table. A partition that was never
    read starts at its earliest offset.

    earliest: inclusive; latest: exclusive. cut: as of varve.ingest.log_truncation. reread:
    whether such a partition is read again from there on, and not refused; that begins once its log
    has grown past what was stored, as positions never go back: until then raises TemporaryError.
    Raises NeedsOperator if a partition was cut, or ends before what was read of it.
    """
    found = {}
    for partition, first in earliest.items():
        stored = samples.position(partition.position(query))
        if stored is None:
            found[partition] = Start(None, first)
        elif cut is not None and partition in cut:
            at = _cut_to_reread(query, partition, stored, cut[partition], reread=reread)
            _require_grown(query, partition, stored, latest[partition])
            found[partition] = Start(stored, max(at, first))
        else:
            if stored > latest[partition]:
                raise NeedsOperator(
                    f"{query}: {partition.topic}-{partition.number} ends at offset"
                    f" {latest[partition]}, but samples were stored up to {stored}: the broker has"
                    " lost messages or is another one. Point kafka.bootstrap_servers at the right"
                    " broker, or create the topic anew"
                )
            found[partition] = Start(stored, max(stored, first))
    return found


def _cut_to_reread(
    query: str, partition: Partition, stored: int, cut: int | None, *, reread: bool
) -> int:
    if cut is None:
        raise NeedsOperator(
            f"{query}: {partition.topic}-{partition.number} has none of the messages that were"
            f" stored up to {stored}: the broker is another one, or was put back to an earlier"
            " state. Point kafka.bootstrap_servers at the right broker, or create the topic anew"
        )
    if not reread:
        raise NeedsOperator(
            f"{query}: the log of {partition.topic}-{partition.number} was cut at offset {cut}, but"
            f" samples were stored up to {stored}: the broker has lost messages, and has others at"
            ' their offsets. Set kafka.on_truncation = "reread" to read it again from there on'
            " (what was stored already merges), or create the topic anew"
        )
    return cut


def _require_grown(query: str, partition: Partition, stored: int, latest: int) -> None:
    if latest < stored:
        raise TemporaryError(
            f"{query}: the log of {partition.topic}-{partition.number} was cut and ends at offset"
            f" {latest}: it is read again once it has grown past {stored}, where it was stored"
        )
