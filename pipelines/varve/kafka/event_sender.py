"""Sends events to a topic and waits until all are acknowledged: few, and not to be lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from varve.kafka.client_options import Cluster
from varve.kafka.connection import connect
from varve.model.errors import TemporaryError

_DELIVERY_S = 20.0
_CONNECT_MS = 5_000


class EventSender:
    """A producer that comes and goes with Kafka. Not safe to share between threads."""

    def __init__(self, cluster: Cluster, client_id: str) -> None:
        """Does not connect."""
        self._options: dict[str, Any] = {"client_id": client_id} | cluster.python_options()
        self._options |= {
            "acks": "all",
            "enable_idempotence": True,
            "bootstrap_timeout_ms": _CONNECT_MS,
            "max_block_ms": _CONNECT_MS,
            "delivery_timeout_ms": int(_DELIVERY_S * 1000),
            "request_timeout_ms": int(_DELIVERY_S * 500),
            "allow_auto_create_topics": False,
        }
        self._kafka: KafkaProducer | None = None

    def send(self, topic: str, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Returns once all replicas have every event: pairs of its key and its JSON object.

        Raises TemporaryError if they have not got all of them, of which some may have arrived;
        NeedsOperator if Kafka refuses who we are.
        """
        try:
            if self._kafka is None:
                self._kafka = connect(KafkaProducer, self._options)
            sent = [
                self._kafka.send(topic, json.dumps(event).encode(), key=key.encode())
                for key, event in events
            ]
            for future in sent:
                future.get(_DELIVERY_S)
        except KafkaError as err:
            self.close()
            raise TemporaryError(f"topic {topic} does not take events: {err}") from err

    def close(self) -> None:
        kafka, self._kafka = self._kafka, None
        if kafka is not None:
            kafka.close(0)
