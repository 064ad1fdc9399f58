"""Sends messages to Kafka, idempotently and acknowledged by all replicas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka.errors import KafkaError, KafkaTimeoutError

from varve.client.deliveries import Deliveries
from varve.client.messages import Encoder, Message
from varve.kafka.client_options import client_options
from varve.kafka.connection import connect
from varve.kafka.idempotent_producer import IdempotentProducer
from varve.model.errors import TemporaryError

# A broker's limit may be lower; then the broker refuses and the loss is counted.
_MAX_REQUEST_BYTES = 16 * 2**20
# The longest pause between two tries to reach a broker that is away. Pauses begin at 50 ms, and
# each is twice as long as the one before, give or take a fifth.
_RECONNECT_MAX_MS = 5_000
# How long a request may be unanswered; less if messages are tried for less.
_REQUEST_MS = 30_000
# How long Kafka's own batches wait for more: samples have been gathered into messages before.
_LINGER_MS = 5
_BATCH_BYTES = 256 * 1024


class Sender(Deliveries):
    """Sends to a topic of samples, and to one of definitions if there is. May be shared by threads.

    Messages that are not acknowledged wait in memory, up to buffer_bytes, and are sent again for
    delivery_s seconds.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        definitions_topic: str,
        *,
        options: Mapping[str, str],
        client_id: str,
        buffer_bytes: int,
        delivery_s: float,
        connect_s: float,
    ) -> None:
        """Blocks until the topics are known; raises as Producer says."""
        super().__init__(buffer_bytes)
        self._topic, self._definitions_topic = topic, definitions_topic
        delivery_ms = max(int(delivery_s * 1000), 2 * _LINGER_MS)
        given: dict[str, Any] = {
            "client_id": client_id,
            "reconnect_backoff_max_ms": _RECONNECT_MAX_MS,
            "request_timeout_ms": min(_REQUEST_MS, delivery_ms - _LINGER_MS),
        } | client_options(options)
        self._kafka = connect(
            IdempotentProducer,
            given
            | {
                "bootstrap_servers": bootstrap_servers,
                "compression_type": "zstd",
                "linger_ms": _LINGER_MS,
                "batch_size": _BATCH_BYTES,
                "max_request_size": _MAX_REQUEST_BYTES,
                "max_block_ms": int(connect_s * 1000),
                "bootstrap_timeout_ms": int(connect_s * 1000),
                "delivery_timeout_ms": delivery_ms,
                "allow_auto_create_topics": False,
            },
        )
        self.partitions = self._partitions_of(topic, bootstrap_servers)
        if definitions_topic:
            self._partitions_of(definitions_topic, bootstrap_servers)

    def _hand_on(self, message: Message, encoder: Encoder) -> bool:
        topic = self._topic if message.samples else self._definitions_topic
        try:
            future = self._kafka.send(
                topic, message.value, key=message.key, partition=message.partition
            )
        except KafkaError as err:
            self._settle(message, encoder, _told(err))
            return False
        future.add_callback(lambda _: self._settle(message, encoder, ""))
        future.add_errback(lambda error: self._settle(message, encoder, _told(error)))
        return True

    def _disconnect(self) -> None:
        try:
            self._kafka.close(1.0)
        except KafkaTimeoutError:
            # The client gives up where it cannot flush, and would go on sending.
            self._kafka._sender.force_close()  # noqa: SLF001 - there is no other way
            self._kafka.close(1.0)

    def _partitions_of(self, topic: str, servers: str) -> int:
        try:
            return len(self._kafka.partitions_for(topic))
        except KafkaError as err:
            self._kafka.close(0)
            raise TemporaryError(
                f"Kafka at {servers} does not say where topic {topic} is: {err};"
                " create it, or let this user describe it"
            ) from err


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
