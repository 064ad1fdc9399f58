"""Parks one message in quarantine unread, and goes on behind it: the last resort of an operator."""

from __future__ import annotations

from typing import Any

from varve.ingest.batch import BatchCommitter
from varve.ingest.decoded import Reject
from varve.ingest.outcome import Outcome
from varve.ingest.quarantine_writer import QuarantineWriter
from varve.ingest.reject_reasons import Reason
from varve.ingest.start_offsets import Start
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.errors import BadRequest
from varve.model.record_rows import table_of
from varve.storage.store import Store
from varve.storage.table import Table


def skip(
    store: Store,
    query: str,
    partition: Partition,
    message: Message,
    *,
    earliest: int,
    now_ms: int,
) -> dict[str, Any]:
    """Puts a message into quarantine as it is and moves the query's position over it, by one, in
    the commits of a batch of its own; returns its accounting. earliest: the first offset of the
    partition that Kafka has, where a query that never read it begins.

    Raises BadRequest if the query is not at the message, and Conflict if it moves meanwhile:
    nothing was written.
    """
    stored = Table(store, table_of(query)).position(partition.position(query))
    at = earliest if stored is None else stored
    if message.offset != at:
        raise BadRequest(
            f"{query} reads {partition.topic}-{partition.number} from offset {at} on:"
            f" {message.offset} is not the next message, and no other can be skipped"
        )
    committer = BatchCommitter(store, query, {partition: Start(stored, at)})
    quarantine = QuarantineWriter(None)
    detail = "parked unread by `varve ingest skip`"
    headers = message.headers
    quarantine.add(message, Reject(Reason.SKIPPED, detail, 1, message.value or b"", headers))
    parked = Outcome(
        messages=1,
        bytes=len(message.value or b""),
        received=1,
        rejected={Reason.SKIPPED.value: 1},
        quarantine=quarantine.write(store, query, now_ms, last=True),
        partitions=[(partition.topic, partition.number)],
    )
    return committer.commit({partition: OffsetRange(at, at + 1)}, [parked])
