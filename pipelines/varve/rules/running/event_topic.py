"""Reads the topic alerts in a thread of its own, from places that are kept elsewhere."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from varve.kafka.client_options import Cluster
from varve.kafka.connection import connect
from varve.kafka.offsets import TopicOffsets
from varve.kafka.partitions import Partition
from varve.model.errors import VarveError

log = logging.getLogger(__name__)

QUERY: Final = "jobs"
"""What positions call this reading: `jobs:<topic id>:<partition>`."""

_POLL_MS: Final = 500
_AT_ONCE: Final = 2_000
_MOST_WAITING: Final = 8
"""Polls that wait to be taken; then nothing more is read."""
_LOOK_S: Final = 60.0
"""Seconds between looks at which partitions there are."""
_PAUSE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Read:
    """Messages of one partition in order. position: the name of its position, whose value is then
    next_offset.
    """

    position: str
    next_offset: int
    values: tuple[bytes | None, ...]


class EventTopic:
    """A reading of the topic from `positions` on; a partition without one, and one of which Kafka
    no longer has that offset, is read from its first message.
    """

    def __init__(self, cluster: Cluster, topic: str, positions: Mapping[str, int]) -> None:
        self._cluster, self._topic = cluster, topic
        self._positions = dict(positions)
        self._found: queue.Queue[Read] = queue.Queue(_MOST_WAITING)
        self._stopping = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="topic alerts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self) -> list[Read]:
        """What has been read and not been taken yet. Does not block."""
        found = []
        for _ in range(_MOST_WAITING):
            try:
                found.append(self._found.get_nowait())
            except queue.Empty:
                break
        return found

    def stop(self) -> None:
        """Ends it soon, without waiting for it: nobody takes what it still reads."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (KafkaError, VarveError, OSError) as err:
                if self._said != str(err):
                    self._said = str(err)
                    log.warning("the topic %s cannot be read: %s", self._topic, err)
                self._stopping.wait(_PAUSE_S)

    def _follow(self) -> None:
        """Reads until it is to stop, or there are other partitions."""
        offsets = TopicOffsets(self._cluster, [self._topic])
        try:
            partitions = offsets.partitions()
            consumer = connect(
                KafkaConsumer,
                self._cluster.python_options()
                | {
                    "enable_auto_commit": False,
                    "auto_offset_reset": "earliest",
                    "isolation_level": "read_committed",
                    "max_poll_records": _AT_ONCE,
                },
            )
            try:
                self._seek(consumer, partitions, offsets)
                self._read_on(consumer, partitions, offsets)
            finally:
                consumer.close()
        finally:
            offsets.close()

    def _seek(
        self, consumer: KafkaConsumer, partitions: list[Partition], offsets: TopicOffsets
    ) -> None:
        consumer.assign([TopicPartition(p.topic, p.number) for p in partitions])
        first, end = offsets.earliest(partitions), offsets.latest(partitions)
        for partition in partitions:
            wanted = self._positions.get(partition.position(QUERY))
            start = first[partition] if wanted is None else wanted
            if not first[partition] <= start <= end[partition]:
                log.warning(
                    "%s-%d: offset %d is gone, it is read from %d on",
                    *(partition.topic, partition.number, start, first[partition]),
                )
                start = first[partition]
            consumer.seek(TopicPartition(partition.topic, partition.number), start)

    def _read_on(
        self, consumer: KafkaConsumer, partitions: list[Partition], offsets: TopicOffsets
    ) -> None:
        known = {p.number: p for p in partitions}
        look_s = time.monotonic() + _LOOK_S
        while not self._stopping.is_set():
            polled = consumer.poll(timeout_ms=_POLL_MS)
            reads = (
                Read(
                    known[at.partition].position(QUERY),
                    records[-1].offset + 1,
                    tuple(record.value for record in records),
                )
                for at, records in polled.items()
                if records
            )
            self._hand_over(reads)
            if time.monotonic() >= look_s:
                if offsets.partitions() != partitions:
                    return
                look_s = time.monotonic() + _LOOK_S
                self._said = ""

    def _hand_over(self, reads: Iterable[Read]) -> None:
        for read in reads:
            while not self._stopping.is_set():
                try:
                    self._found.put(read, timeout=_POLL_MS / 1000)
                except queue.Full:
                    continue
                self._positions[read.position] = read.next_offset
                break
