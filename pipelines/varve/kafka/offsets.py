"""Asks Kafka for the partitions of topics and their offsets."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import (
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
    for_code,
)

from varve.kafka.client_options import Cluster
from varve.kafka.connection import connect
from varve.kafka.leader_epochs import ask_epoch_ends
from varve.kafka.partitions import Partition
from varve.model.errors import NeedsOperator, TemporaryError


class TopicOffsets:
    """Partitions and offsets of the topics of one query. Keeps a connection; not safe to share
    between threads. Needs the right to describe the topics, and no other.
    """

    def __init__(self, cluster: Cluster, topics: Sequence[str], *, connect_s: float = 30.0) -> None:
        """Connects, for connect_s seconds at most. Raises TemporaryError if no broker answers,
        NeedsOperator if they refuse the login.
        """
        self._topics = tuple(topics)
        options = cluster.python_options() | {"bootstrap_timeout_ms": int(connect_s * 1000)}
        # Not a consumer, which answers a question about a partition just added by KeyError.
        self._admin = connect(KafkaAdminClient, options)

    def existing(self) -> list[str]:
        """The topics that the brokers have."""
        return [t["name"] for t in self._describe() if not t["error_code"]]

    def partitions(self) -> list[Partition]:
        """All partitions there are now. Raises NeedsOperator if a topic does not exist or may not
        be described, or if the brokers give topics no ids.
        """
        found = []
        for topic in self._describe():
            _require_described(topic["name"], topic["error_code"])
            _require_id(topic["name"], topic.get("topic_id"))
            found += [
                Partition(topic["name"], str(topic["topic_id"]), p["partition_index"])
                for p in topic["partitions"]
            ]
        return sorted(found)

    def require_same(self, known: Iterable[Partition]) -> None:
        """Raises TemporaryError if a topic is not the one that `known` are partitions of: it was
        deleted and created again, and offsets of the one mean nothing in the other.
        """
        ids = {p.topic: p.topic_id for p in self.partitions()}
        for partition in known:
            if ids.get(partition.topic, partition.topic_id) != partition.topic_id:
                raise TemporaryError(
                    f"topic {partition.topic} was deleted and created again while it was read:"
                    " the next start reads the new one from its first message"
                )

    def earliest(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The first offset of each partition that Kafka still has, inclusive."""
        return self._offsets(partitions, OffsetSpec.EARLIEST)

    def latest(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The end of each partition, exclusive."""
        return self._offsets(partitions, OffsetSpec.LATEST)

    def newest_timestamp_ms(self, partitions: Sequence[Partition]) -> int | None:
        """The greatest timestamp of a message that Kafka has, 0 if it has no messages; None if the
        brokers do not tell, as before Kafka 3.0.
        """
        keys = dict.fromkeys(
            (TopicPartition(p.topic, p.number) for p in partitions), OffsetSpec.MAX_TIMESTAMP
        )
        try:
            found = self._admin.list_partition_offsets(keys)
        except UnsupportedVersionError:
            return None
        except KafkaError as err:
            raise TemporaryError(f"Kafka: asking for timestamps: {err}") from err
        return max((at.timestamp for at in found.values() if at.timestamp > 0), default=0)

    def broker_time_ms(self) -> int | None:
        """The time by the clock of the leader of Kafka's quorum of controllers.

        None if it cannot be had: with ZooKeeper, before Kafka 3.3, or without the right to
        describe the cluster.
        """
        try:
            (topic,) = self._admin.describe_metadata_quorum()["topics"]
            (partition,) = topic["partitions"]
            # A leader is caught up with itself, now.
            (leader,) = (
                voter
                for voter in partition["current_voters"]
                if voter["replica_id"] == partition["leader_id"]
            )
        except (KafkaError, KeyError, ValueError):
            return None
        told_ms: int = leader.get("last_caught_up_timestamp", -1)
        return told_ms if told_ms > 0 else None

    def leader_epochs(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The epoch of each partition's leader, at least that of the last message there is.
        Without partitions whose brokers do not tell.
        """
        found = self._ask(partitions, OffsetSpec.LATEST)
        return {p: at.leader_epoch for p, at in found.items() if at.leader_epoch is not None}

    def epoch_ends(self, epochs: Mapping[Partition, int]) -> dict[Partition, int | None]:
        """Where the messages of a leader epoch and of those before it end in each partition's log,
        exclusive; None if the log knows no such epoch.
        """
        wanted = {TopicPartition(p.topic, p.number): epoch for p, epoch in epochs.items()}
        keys = {TopicPartition(p.topic, p.number): p for p in epochs}
        try:
            found = ask_epoch_ends(self._admin, wanted)
        except KafkaError as err:
            raise TemporaryError(f"Kafka: asking for leader epochs: {err}") from err
        return {keys[key]: end for key, end in found.items()}

    def _describe(self) -> list[dict[str, Any]]:
        try:
            return list(self._admin.describe_topics(list(self._topics)))
        except KafkaError as err:
            raise TemporaryError(f"Kafka: describing {', '.join(self._topics)}: {err}") from err

    def _offsets(self, partitions: Sequence[Partition], which: OffsetSpec) -> dict[Partition, int]:
        return {partition: at.offset for partition, at in self._ask(partitions, which).items()}

    def _ask(self, partitions: Sequence[Partition], which: OffsetSpec) -> dict[Partition, Any]:
        keys = {TopicPartition(p.topic, p.number): p for p in partitions}
        try:
            found = self._admin.list_partition_offsets(dict.fromkeys(keys, which))
        except KafkaError as err:
            raise TemporaryError(f"Kafka: asking for offsets: {err}") from err
        return {keys[key]: at for key, at in found.items()}

    def close(self) -> None:
        self._admin.close()


def _require_id(topic: str, topic_id: object) -> None:
    if topic_id is None or uuid.UUID(str(topic_id)).int == 0:
        raise NeedsOperator(
            f"Kafka gives topic {topic} no id, by which a topic is told from one that was deleted"
            " and created again: its brokers are older than 2.8. Use newer ones"
        )


def _require_described(topic: str, error: int) -> None:
    if error == UnknownTopicOrPartitionError.errno:
        raise NeedsOperator(f"Kafka has no topic {topic}: create it, or correct kafka.topics")
    if error == TopicAuthorizationFailedError.errno:
        raise NeedsOperator(
            f"Kafka does not let this user describe topic {topic}: allow it (Describe and Read),"
            " or correct kafka.username or kafka.topics"
        )
    if error:
        raise TemporaryError(f"Kafka: describing {topic}: {for_code(error).__name__}")
