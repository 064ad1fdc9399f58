"""Where a producer's messages go, and in which form: to Kafka, or to a gateway."""

from __future__ import annotations

from collections.abc import Mapping

from varve.client.deliveries import Deliveries
from varve.client.gateway_sender import GatewaySender
from varve.client.http_access import Login
from varve.client.messages import Encoder, JsonEncoder
from varve.client.sender import Sender


def is_gateway(servers: str) -> bool:
    return servers.startswith(("http://", "https://"))


def connected(
    servers: str,
    topic: str,
    definitions_topic: str,
    *,
    login: Login,
    options: Mapping[str, str],
    client_id: str,
    buffer_bytes: int,
    delivery_s: float,
    connect_s: float,
) -> Deliveries:
    """Blocks until there is somebody who takes messages; raises as Producer says."""
    if is_gateway(servers):
        return GatewaySender(
            servers,
            login,
            buffer_bytes=buffer_bytes,
            delivery_s=delivery_s,
            connect_s=connect_s,
        )
    return Sender(
        servers,
        topic,
        definitions_topic,
        options=options,
        client_id=client_id,
        buffer_bytes=buffer_bytes,
        delivery_s=delivery_s,
        connect_s=connect_s,
    )


def encoder_of(name: str, partitions: int, *, apart: bool) -> Encoder:
    """name: json or arrow. apart: definitions go to a topic of their own."""
    if name == "json":
        return JsonEncoder(partitions)
    # It takes a second to import, which a producer of JSON need not wait for.
    from varve.client.arrow_messages import ArrowEncoder  # noqa: PLC0415

    return ArrowEncoder(partitions, apart=apart)
