"""Sends samples to Kafka: idempotent, acknowledged by all replicas, every loss counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from varve.client.messages import Encoder, Message, Sample
from varve.client.options import client_options
from varve.model.errors import TemporaryError

# A broker's limit may be lower; then the broker refuses and the loss is counted.
_MAX_REQUEST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Counts:
    """Samples since the producer was made. accepted = acknowledged + lost + waiting."""

    accepted: int
    acknowledged: int
    lost: int
    """Refused for lack of room, refused by the broker, or not acknowledged in time."""
    last_error: str
    """Why the latest were lost; empty if none were."""

    @property
    def waiting(self) -> int:
        return self.accepted - self.acknowledged - self.lost


class Producer:
    """A producer of samples for one topic. May be shared between threads.

    What is not acknowledged yet waits in memory, up to buffer_bytes, and is sent again for
    delivery_s seconds: a broker may be away that long without loss.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str = "raw-metrics",
        *,
        options: Mapping[str, str] | None = None,
        client_id: str = "varve-client",
        linger_ms: int = 5,
        buffer_bytes: int = 32 * 2**20,
        delivery_s: float = 600.0,
        connect_s: float = 30.0,
    ) -> None:
        """Blocks until the topic is known. Raises TemporaryError if it is not after connect_s.

        options: by Kafka's names (security.protocol, ...); NeedsOperator for one unknown here.
        """
        given: dict[str, Any] = {"client_id": client_id} | client_options(options or {})
        self._topic = topic
        self._buffer_bytes = buffer_bytes
        self._changed = threading.Condition()
        self._accepted = self._acknowledged = self._lost = self._waiting_bytes = 0
        self._last_error = ""
        self._closed = False
        try:
            self._kafka = KafkaProducer(
                bootstrap_servers=bootstrap_servers,
                acks="all",
                enable_idempotence=True,
                compression_type="zstd",
                linger_ms=linger_ms,
                batch_size=256 * 1024,
                max_request_size=_MAX_REQUEST_BYTES,
                max_block_ms=int(connect_s * 1000),
                bootstrap_timeout_ms=int(connect_s * 1000),
                delivery_timeout_ms=int(delivery_s * 1000),
                allow_auto_create_topics=False,
                **given,
            )
        except KafkaError as err:
            raise TemporaryError(f"no Kafka at {bootstrap_servers}: {err}") from err
        try:
            partitions = self._kafka.partitions_for(topic)
        except KafkaError as err:
            self._kafka.close(0)
            raise TemporaryError(
                f"Kafka at {bootstrap_servers} does not say where topic {topic} is: {err}"
            ) from err
        self._encoder = Encoder(len(partitions))
        self._encoding = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def put(self, samples: Iterable[Sample], *, wait_s: float = 0.0) -> int:
        """Takes samples for sending and returns how many it could not take, which are lost.

        Does not block, unless the buffer is full: then up to wait_s seconds for room.
        """
        deadline = time.monotonic() + wait_s
        refused = 0
        with self._encoding:  # also keeps the order of a series between threads
            for message in self._encoder.messages(samples):
                refused += 0 if self._send(message, deadline) else message.samples
        return refused

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Blocks until nothing waits any more; False if something still does after timeout_s."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting_bytes:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def close(self, timeout_s: float = 10.0) -> Counts:
        """Sends what waits, for up to timeout_s; what is left then is lost, and counted."""
        self.flush(timeout_s)
        self._kafka.close(1.0)
        with self._changed:
            self._closed = True
            left = self._accepted - self._acknowledged - self._lost
            if left:
                self._lost += left
                self._last_error = f"not acknowledged within {timeout_s:g} s of closing"
        return self.counts()

    def counts(self) -> Counts:
        with self._changed:
            return Counts(self._accepted, self._acknowledged, self._lost, self._last_error)

    def _send(self, message: Message, deadline: float) -> bool:
        size = len(message.value)
        with self._changed:
            self._accepted += message.samples
            while self._waiting_bytes and self._waiting_bytes + size > self._buffer_bytes:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._lost += message.samples
                    self._last_error = (
                        f"{self._waiting_bytes} bytes wait for the broker, no room for more"
                    )
                    return False
                self._changed.wait(left)
            self._waiting_bytes += size
        try:
            future = self._kafka.send(
                self._topic, message.value, key=message.key, partition=message.partition
            )
        except KafkaError as err:
            self._settle(message, err)
            return False
        future.add_callback(lambda _: self._settle(message, None))
        future.add_errback(lambda error: self._settle(message, error))
        return True

    def _settle(self, message: Message, error: BaseException | None) -> None:
        with self._changed:
            if self._closed:  # counted as lost when it closed
                return
            self._waiting_bytes -= len(message.value)
            if error is None:
                self._acknowledged += message.samples
            else:
                self._lost += message.samples
                self._last_error = f"{type(error).__name__}: {error}"
            self._changed.notify_all()
