"""Sends a few messages to a topic and waits until all replicas have them."""

from __future__ import annotations

from collections.abc import Sequence

from kafka.errors import KafkaError

from varve.kafka.client_options import Cluster
from varve.kafka.connection import connect
from varve.kafka.idempotent_producer import IdempotentProducer
from varve.model.errors import TemporaryError

DELIVERY_S = 10.0


def send_messages(
    cluster: Cluster,
    topic: str,
    messages: Sequence[tuple[bytes, bytes]],
    *,
    client_id: str,
    delivery_s: float = DELIVERY_S,
) -> int:
    """Returns how many were sent, pairs of key and value, in the order given for each key. None to
    send: nothing is connected.

    Raises TemporaryError if Kafka does not take them within delivery_s; some may have arrived.
    """
    if not messages:
        return 0
    delivery_ms = int(delivery_s * 1000)
    options = cluster.python_options() | {
        "client_id": client_id,
        "max_block_ms": delivery_ms,
        "bootstrap_timeout_ms": delivery_ms,
        "delivery_timeout_ms": delivery_ms,
        "request_timeout_ms": delivery_ms - 100,
    }
    producer = connect(IdempotentProducer, options)
    try:
        sent = [producer.send(topic, value=value, key=key) for key, value in messages]
        for one in sent:
            one.get(timeout=delivery_s)
    except KafkaError as err:
        raise TemporaryError(f"topic {topic} does not take messages: {err}") from err
    finally:
        producer.close(timeout=0)
    return len(messages)
