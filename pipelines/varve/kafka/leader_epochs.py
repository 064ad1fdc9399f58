"""Where leader epochs end: the request OffsetsForLeaderEpoch, which kafka-python's admin lacks.

A partition's leader writes its epoch with every message, and every new leader has a higher one. A
log that was cut short and written on has another epoch from the cut on, so an offset that is in
doubt is one at which its epoch no longer reaches. Source: Kafka, KIP-101, KIP-279 and KIP-320.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import for_code
from kafka.protocol.consumer import OffsetForLeaderEpochRequest

# What a broker says of an epoch that it does not know.
_UNKNOWN = -1
_UNKNOWN_LEADER_EPOCH = 75
_CONSUMER = -1


def ask_epoch_ends(
    admin: KafkaAdminClient, epochs: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int | None]:
    """For each partition where the messages of an epoch and of those before it end, exclusive;
    None if its log knows no such epoch. Raises KafkaError.
    """
    if not epochs:
        return {}
    # The client runs requests of its own in this way, and has no other for those it does not know.
    return admin._manager.run(_ask, admin, epochs)  # noqa: SLF001


async def _ask(
    admin: KafkaAdminClient, epochs: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int | None]:
    found: dict[TopicPartition, int | None] = {}
    leaders = await admin._async_get_leader_for_partitions(epochs)  # noqa: SLF001
    for leader, partitions in leaders.items():
        request = OffsetForLeaderEpochRequest(
            replica_id=_CONSUMER, topics=_topics({p: epochs[p] for p in partitions})
        )
        response = await admin._manager.send(request, node_id=leader)  # noqa: SLF001
        for topic in response.topics:
            for answer in topic.partitions:
                key = TopicPartition(topic.topic, answer.partition)
                found[key] = _end(answer)
    return found


def _topics(epochs: Mapping[TopicPartition, int]) -> list[Any]:
    topic_type = OffsetForLeaderEpochRequest.OffsetForLeaderTopic
    partition_type = topic_type.OffsetForLeaderPartition
    by_topic: dict[str, list[Any]] = {}
    for partition, epoch in epochs.items():
        by_topic.setdefault(partition.topic, []).append(
            partition_type(
                partition=partition.partition, current_leader_epoch=_UNKNOWN, leader_epoch=epoch
            )
        )
    return [topic_type(topic=name, partitions=those) for name, those in by_topic.items()]


def _end(answer: Any) -> int | None:
    if answer.error_code == _UNKNOWN_LEADER_EPOCH:
        return None
    if answer.error_code:
        raise for_code(answer.error_code)
    return None if answer.end_offset == _UNKNOWN else int(answer.end_offset)
