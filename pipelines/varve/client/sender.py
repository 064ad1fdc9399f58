"""Sends messages to Kafka, idempotently and acknowledged by all replicas, and counts every loss."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka.errors import KafkaError, KafkaTimeoutError

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
# The longest time that one can wait for a lock.
_FOREVER_S = threading.TIMEOUT_MAX


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of samples since the producer was made: accepted = acknowledged + lost + waiting."""

    accepted: int
    acknowledged: int
    lost: int
    """Refused for lack of room, refused by the broker, or not acknowledged in time."""
    last_error: str
    """Why the latest loss happened; empty if there was none."""

    @property
    def waiting(self) -> int:
        return self.accepted - self.acknowledged - self.lost


class Sender:
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
        self._topic, self._definitions_topic = topic, definitions_topic
        self._buffer_bytes = buffer_bytes
        self._changed = threading.Condition()
        self._accepted = self._acknowledged = self._lost = self._waiting_bytes = 0
        self._last_error = ""
        self._closed = False
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

    def take(self, samples: int) -> None:
        """Counts samples as accepted. Each must be sent or dropped later."""
        with self._changed:
            self._accepted += samples

    def drop(self, samples: int, why: str) -> None:
        """Counts accepted samples as lost."""
        if samples:
            with self._changed:
                self._lose(samples, why)

    def send(self, message: Message, encoder: Encoder, deadline: float) -> bool:
        """Hands a message of accepted samples to Kafka's client; False if its samples are lost.

        Blocks until `deadline` (monotonic, s; may be infinite) for room in the buffer.
        """
        size = len(message.value)
        with self._changed:
            while self._waiting_bytes and self._waiting_bytes + size > self._buffer_bytes:
                left = deadline - time.monotonic()
                if self._closed:  # counted as lost when it closed
                    return False
                if left <= 0:
                    self._lose(
                        message.samples,
                        f"{self._waiting_bytes} bytes wait for the broker, no room for more",
                    )
                    return False
                self._changed.wait(min(left, _FOREVER_S))
            self._waiting_bytes += size
        topic = self._topic if message.samples else self._definitions_topic
        try:
            future = self._kafka.send(
                topic, message.value, key=message.key, partition=message.partition
            )
        except KafkaError as err:
            self._settle(message, encoder, err)
            return False
        future.add_callback(lambda _: self._settle(message, encoder, None))
        future.add_errback(lambda error: self._settle(message, encoder, error))
        return True

    def flush(self, timeout_s: float) -> bool:
        """Blocks until no message waits any more; False if one still does after timeout_s."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting_bytes:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _FOREVER_S))
        return True

    def close(self, timeout_s: float) -> None:
        """Sends what waits, for up to timeout_s. What is left then is lost, and counted."""
        self.flush(timeout_s)
        try:
            self._kafka.close(1.0)
        except KafkaTimeoutError:
            # The client gives up where it cannot flush, and would go on sending.
            self._kafka._sender.force_close()  # noqa: SLF001 - there is no other way
            self._kafka.close(1.0)
        with self._changed:
            self._closed = True
            left = self._accepted - self._acknowledged - self._lost
            if left:
                self._lose(left, f"not acknowledged within {timeout_s:g} s of closing")
            # Whoever waits for room must not wait for ever.
            self._changed.notify_all()

    def counts(self) -> Counts:
        with self._changed:
            return Counts(self._accepted, self._acknowledged, self._lost, self._last_error)

    def _partitions_of(self, topic: str, servers: str) -> int:
        try:
            return len(self._kafka.partitions_for(topic))
        except KafkaError as err:
            self._kafka.close(0)
            raise TemporaryError(
                f"Kafka at {servers} does not say where topic {topic} is: {err};"
                " create it, or let this user describe it"
            ) from err

    def _settle(self, message: Message, encoder: Encoder, error: BaseException | None) -> None:
        if error is None and message.defines:
            encoder.delivered(message)
        with self._changed:
            if self._closed:  # counted as lost when it closed
                return
            self._waiting_bytes -= len(message.value)
            if error is None:
                self._acknowledged += message.samples
            else:
                self._lose(message.samples, f"{type(error).__name__}: {error}")
            self._changed.notify_all()

    def _lose(self, samples: int, why: str) -> None:
        self._lost += samples
        self._last_error = why


def deadline_after(wait_s: float) -> float:
    """The time wait_s seconds from now, by the monotonic clock; math.inf if wait_s is."""
    return math.inf if wait_s == math.inf else time.monotonic() + wait_s
