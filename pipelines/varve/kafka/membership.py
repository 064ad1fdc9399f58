"""Which share of some work a process has among several: by Kafka's group protocol.

A process joins as a consumer that reads nothing: the partitions it is given stand for shares.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError

from varve.kafka.client_options import Cluster

# One that was killed is given up after the session, and the others join anew by a heartbeat.
SESSION_S, _HEARTBEAT_S = 8.0, 2.0
_POLL_MS = 500
_RETRY_MS = 1_000

log = logging.getLogger("varve.kafka.membership")


@dataclass(frozen=True, slots=True)
class Share:
    """Numbers of the parts of some work, of `of` parts in all."""

    numbers: frozenset[int]
    of: int

    def has(self, number: int) -> bool:
        """Whether the part that a number falls into is in it."""
        return number % self.of in self.numbers


class Membership:
    """A member of a group. For one thread."""

    def __init__(self, cluster: Cluster, topic: str, group: str) -> None:
        """topic: any that exists; it has as many partitions as there are parts."""
        self._options: dict[str, Any] = cluster.python_options() | {
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "session_timeout_ms": round(SESSION_S * 1000),
            "heartbeat_interval_ms": round(_HEARTBEAT_S * 1000),
        }
        self._topic = topic

    def follow(self, changed: Callable[[Share], None], is_over: Callable[[float], bool]) -> None:
        """Tells of each share that this process is given, until `is_over`, which may wait for the
        seconds it is given; then leaves the group, so that others take over at once. While Kafka
        is away the share stays as it was.
        """
        while not is_over(0.0):
            try:
                self._follow(changed, is_over)
            except KafkaError as err:
                log.warning("the group of %s: %s", self._topic, err)
                is_over(_RETRY_MS / 1000)

    def _follow(self, changed: Callable[[Share], None], is_over: Callable[[float], bool]) -> None:
        consumer = KafkaConsumer(**self._options)
        try:
            consumer.subscribe([self._topic], listener=_Listener(consumer, self._topic, changed))
            while not is_over(0.0):
                consumer.poll(timeout_ms=_POLL_MS)
        finally:
            consumer.close(autocommit=False)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Pauses what is assigned, and tells of it. What is revoked stays until more is known: for the
    moment in which shares move nobody may have them.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str, changed: Callable[[Share], None]):
        self._consumer = consumer
        self._topic = topic
        self._changed = changed

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._consumer.pause(*assigned)
        everything = self._consumer.partitions_for_topic(self._topic) or ()
        if everything:
            self._changed(Share(frozenset(p.partition for p in assigned), len(everything)))

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None: ...

    def on_partitions_lost(self, lost: Collection[Any]) -> None: ...
