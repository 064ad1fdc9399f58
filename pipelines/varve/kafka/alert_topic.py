"""Sends alert events to their topic, for jobs that have a few and then end."""

from __future__ import annotations

from collections.abc import Iterable

from varve.kafka.client_options import Cluster
from varve.kafka.topic_sender import DELIVERY_S, send_messages
from varve.model.alert_event import AlertEvent


def send_alerts(
    cluster: Cluster, topic: str, events: Iterable[AlertEvent], *, delivery_s: float = DELIVERY_S
) -> int:
    """Returns how many were sent, once all replicas have them. None to send: nothing is connected.

    Raises TemporaryError if Kafka does not take them within delivery_s; some may have arrived.
    """
    messages = [(event.key.encode(), event.message()) for event in events]
    return send_messages(cluster, topic, messages, client_id="varve-alerts", delivery_s=delivery_s)
