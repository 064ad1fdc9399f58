"""Sends alert events to their topic, for jobs that have a few and then end."""

from __future__ import annotations

from collections.abc import Iterable

from kafka import KafkaProducer
from kafka.errors import KafkaError

from varve.kafka.client_options import Cluster
from varve.kafka.connection import connect
from varve.model.alert_event import AlertEvent
from varve.model.errors import TemporaryError

_DELIVERY_S = 10.0


def send_alerts(
    cluster: Cluster, topic: str, events: Iterable[AlertEvent], *, delivery_s: float = _DELIVERY_S
) -> int:
    """Returns how many were sent, once all replicas have them. None to send: nothing is connected.

    Raises TemporaryError if Kafka does not take them within delivery_s; some may have arrived.
    """
    messages = [(event.key.encode(), event.message()) for event in events]
    if not messages:
        return 0
    delivery_ms = int(delivery_s * 1000)
    options = cluster.python_options() | {
        "client_id": "varve-alerts",
        "acks": "all",
        "enable_idempotence": True,
        "max_block_ms": delivery_ms,
        "bootstrap_timeout_ms": delivery_ms,
        "delivery_timeout_ms": delivery_ms,
        "request_timeout_ms": delivery_ms - 100,
    }
    producer = connect(KafkaProducer, options)
    try:
        sent = [producer.send(topic, value=value, key=key) for key, value in messages]
        for one in sent:
            one.get(timeout=delivery_s)
    except KafkaError as err:
        raise TemporaryError(f"topic {topic} does not take alert events: {err}") from err
    finally:
        producer.close(timeout=0)
    return len(messages)
