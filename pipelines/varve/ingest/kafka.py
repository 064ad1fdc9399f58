"""What a driver asks Kafka itself: the partitions of a topic and their offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from varve.ingest.position import Partition
from varve.model.errors import NeedsOperator, TemporaryError


class Topics:
    """The topics of one query. Keeps one connection; not safe to share by threads."""

    def __init__(self, options: Mapping[str, Any], topics: Sequence[str]) -> None:
        """options: of kafka-python's clients, bootstrap_servers among them.

        Raises TemporaryError if no broker answers.
        """
        self._topics = tuple(topics)
        try:
            self._admin = KafkaAdminClient(**options)
            self._consumer = KafkaConsumer(**options)
        except KafkaError as err:
            raise TemporaryError(f"Kafka at {options.get('bootstrap_servers')}: {err}") from err

    def existing(self) -> list[str]:
        """Those of the topics that the brokers have."""
        return [t["name"] for t in self._describe() if not t["error_code"]]

    def partitions(self) -> list[Partition]:
        """Every partition there is now. Raises NeedsOperator if a topic does not exist."""
        found = []
        for topic in self._describe():
            if topic["error_code"]:
                raise NeedsOperator(
                    f"Kafka has no topic {topic['name']}, or it may not be described: create it,"
                    " or correct kafka.topics"
                )
            found += [
                Partition(topic["name"], str(topic["topic_id"]), p["partition_index"])
                for p in topic["partitions"]
            ]
        return sorted(found)

    def earliest(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """First offset that Kafka still has, inclusive."""
        return self._offsets(partitions, self._consumer.beginning_offsets)

    def latest(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """End of each partition, exclusive."""
        return self._offsets(partitions, self._consumer.end_offsets)

    def _describe(self) -> list[dict[str, Any]]:
        try:
            return list(self._admin.describe_topics(list(self._topics)))
        except KafkaError as err:
            raise TemporaryError(f"Kafka: describing {', '.join(self._topics)}: {err}") from err

    def _offsets(self, partitions: Sequence[Partition], ask: Any) -> dict[Partition, int]:
        keys = {TopicPartition(p.topic, p.number): p for p in partitions}
        try:
            return {keys[k]: offset for k, offset in ask(list(keys)).items()}
        except KafkaError as err:
            raise TemporaryError(f"Kafka: asking for offsets: {err}") from err

    def close(self) -> None:
        self._consumer.close()
        self._admin.close()
