"""The gateway's server of gRPC, for OTLP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc

from varve.gateway.app import GatewayApp
from varve.gateway.otlp.grpc import metrics_service
from varve.gateway.otlp.http import OtlpHttp
from varve.model.errors import NeedsOperator
from varve.settings.gateway import Gateway

_AT_ONCE = 256


async def otlp_grpc_server(
    gateway: Gateway, app: Callable[[], GatewayApp | None], otlp: OtlpHttp
) -> grpc.aio.Server | None:
    """Starts the server, with the TLS of HTTP; None if its port is 0. Raises NeedsOperator if the
    port is taken.
    """
    if not gateway.otlp_grpc_port:
        return None
    server = grpc.aio.server(
        maximum_concurrent_rpcs=_AT_ONCE,
        options=[
            ("grpc.max_receive_message_length", gateway.max_expanded_bytes),
            ("grpc.so_reuseport", 0),
        ],
    )
    server.add_generic_rpc_handlers((metrics_service(app, otlp),))
    host = f"[{gateway.host}]" if ":" in gateway.host else gateway.host
    address = f"{host}:{gateway.otlp_grpc_port}"
    try:
        if gateway.cert_file:
            server.add_secure_port(address, _credentials(gateway))
        else:
            server.add_insecure_port(address)
    except RuntimeError as err:
        raise NeedsOperator(f"cannot listen on {address} (gateway.otlp_grpc_port): {err}") from err
    await server.start()
    return server


def _credentials(gateway: Gateway) -> grpc.ServerCredentials:
    key, cert = (Path(file).read_bytes() for file in (gateway.key_file, gateway.cert_file))
    ca_file = gateway.client_ca_file
    client_ca = Path(ca_file).read_bytes() if ca_file else None
    return grpc.ssl_server_credentials([(key, cert)], client_ca, bool(ca_file))
