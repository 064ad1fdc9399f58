"""The lanes of histograms and exemplars of a gateway, which open once their topics are there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from varve.gateway.lane import Lane
from varve.gateway.record_batcher import RecordBatcher, RecordRoad
from varve.gateway.topic_producer import KnownPartitions, TopicProducer
from varve.model.errors import TemporaryError

log = logging.getLogger("varve.gateway")


class RecordLanes:
    """Opens lanes. Without a topic its records are refused, and samples are taken all the same: a
    cluster need not have all topics. For one event loop.
    """

    def __init__(
        self,
        topics: Mapping[str, str],
        known: KnownPartitions,
        records: RecordBatcher,
        producer_of: Callable[[str], TopicProducer],
        lane_of: Callable[[str, TopicProducer], Lane],
        lanes: dict[str, Lane],
    ) -> None:
        """topics: by table. lanes: gets those that are open, by table."""
        self._topics = topics
        self._known = known
        self._records = records
        self._producer_of = producer_of
        self._lane_of = lane_of
        self._lanes = lanes
        self._producers: dict[str, TopicProducer] = {}
        self._partitions: dict[str, int] = {}
        self._said: set[str] = set()

    async def open(self) -> None:
        """Opens what can be opened now, and takes notice of partitions that were added."""
        for table, topic in self._topics.items():
            if table not in self._producers:
                await self._open(table, topic)
                continue
            found = await asyncio.to_thread(self._producers[table].look)
            if found > self._partitions[table]:
                self._use(table, found)
                self._known.put({topic: found})
                self._records.forget_told(table)

    def _use(self, table: str, partitions: int) -> None:
        self._partitions[table] = partitions
        self._records.open(table, RecordRoad(self._lanes[table], partitions))

    async def _open(self, table: str, topic: str) -> None:
        producer = self._producer_of(topic)
        try:
            await asyncio.to_thread(producer.connect)
            self._known.put({topic: producer.partitions})
        except TemporaryError as err:
            if not self._known.of(topic):
                self._records.without(table, str(err))
                if table not in self._said:
                    log.warning("%s are refused until it is there: %s", table, err)
                    self._said.add(table)
                return
        self._lanes[table] = self._lane_of(table, producer)
        self._producers[table] = producer
        self._use(table, producer.partitions or self._known.of(topic))
