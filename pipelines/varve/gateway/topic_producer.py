"""A producer of one topic that comes and goes with Kafka."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from varve.kafka.client_options import client_options
from varve.kafka.connection import connect
from varve.kafka.idempotent_producer import IdempotentProducer
from varve.model.errors import TemporaryError

log = logging.getLogger("varve.gateway.kafka")

Settled = Callable[[BaseException | None], None]
"""Is told that a message is acknowledged by all replicas, or why not. Called by Kafka's thread."""

_LINGER_MS = 0
_BATCH_BYTES = 256 * 1024
_MAX_REQUEST_BYTES = 16 * 2**20
_CONNECT_MS = 3_000
# How soon partitions that are added are known.
_METADATA_MS = 30_000


class TopicProducer:
    """Sends to one topic, idempotently, acknowledged by all replicas. May be shared by threads."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        options: Mapping[str, str],
        *,
        compression: str,
        delivery_s: float,
    ) -> None:
        """Does not connect. delivery_s: how long Kafka's client tries to deliver a message."""
        self.topic = topic
        delivery_ms = int(delivery_s * 1000)
        self._options: dict[str, Any] = (
            {
                "client_id": f"varve-gateway-{topic}",
                "reconnect_backoff_max_ms": 2_000,
                "request_timeout_ms": min(30_000, delivery_ms - 100),
                "metadata_max_age_ms": _METADATA_MS,
            }
            | client_options(options)
            | {
                "bootstrap_servers": bootstrap_servers,
                "compression_type": compression if compression != "none" else None,
                "linger_ms": _LINGER_MS,
                "batch_size": _BATCH_BYTES,
                "max_request_size": _MAX_REQUEST_BYTES,
                "max_block_ms": 2_000,
                "bootstrap_timeout_ms": _CONNECT_MS,
                "delivery_timeout_ms": delivery_ms,
                "allow_auto_create_topics": False,
            }
        )
        self._lock = threading.Lock()
        self._kafka: KafkaProducer | None = None
        self.partitions = 0
        """Partitions of the topic as of the last connection; 0 before it."""

    @property
    def is_connected(self) -> bool:
        return self._kafka is not None

    def connect(self) -> None:
        """Blocks for some seconds. Raises TemporaryError if Kafka does not answer or the topic is
        not there, NeedsOperator if it refuses who we are.
        """
        with self._lock:
            if self._kafka is not None:
                return
            kafka = connect(IdempotentProducer, self._options)
            try:
                found = kafka.partitions_for(self.topic)
            except KafkaError as err:
                kafka.close(0)
                raise TemporaryError(
                    f"Kafka does not say where topic {self.topic} is: {err}"
                ) from err
            if not found:
                kafka.close(0)
                raise TemporaryError(f"there is no topic {self.topic}: create it (docs/kafka.md)")
            self.partitions = len(found)
            self._kafka = kafka

    def look(self) -> int:
        """How many partitions the topic has, as far as Kafka's client knows by now. Blocks while it
        asks.
        """
        kafka = self._kafka
        if kafka is not None:
            with contextlib.suppress(KafkaError):
                self.partitions = max(self.partitions, len(kafka.partitions_for(self.topic) or ()))
        return self.partitions

    def drop_connection(self) -> None:
        """Lets go of a client that does not recover; `connect` makes another."""
        with self._lock:
            kafka, self._kafka = self._kafka, None
        if kafka is not None:
            threading.Thread(target=_close, args=(kafka,), daemon=True).start()

    def send(self, partition: int, key: bytes, value: bytes, settled: Settled) -> None:
        """Hands a message to Kafka's client. `settled` is called exactly once, from any thread."""
        kafka = self._kafka
        if kafka is None:
            settled(TemporaryError("no connection to Kafka"))
            return
        try:
            future = kafka.send(self.topic, value, key=key, partition=partition)
        except (KafkaError, AssertionError, ValueError) as err:
            settled(err)
            return
        future.add_callback(lambda _: settled(None))
        future.add_errback(settled)

    def close(self, timeout_s: float) -> None:
        with self._lock:
            kafka, self._kafka = self._kafka, None
        if kafka is not None:
            _close(kafka, timeout_s)


def _close(kafka: KafkaProducer, timeout_s: float = 0.0) -> None:
    """Ends a client, with what it has not sent if that takes longer."""
    try:
        kafka.close(timeout_s)
    except KafkaTimeoutError:
        # The client gives up where it cannot flush, and would go on sending.
        kafka._sender.force_close()  # noqa: SLF001 - there is no other way
        kafka.close(1.0)


class KnownPartitions:
    """How many partitions each topic has, as of the last connection: what a gateway that starts
    while Kafka is away spools by.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def of(self, topic: str) -> int:
        """0 if that is not known."""
        count = self._all().get(topic)
        return count if isinstance(count, int) and count > 0 else 0

    def put(self, counts: Mapping[str, int]) -> None:
        """Keeps the counts of some topics beside those of others."""
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(self._all() | dict(counts)))
        draft.replace(self._file)

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
