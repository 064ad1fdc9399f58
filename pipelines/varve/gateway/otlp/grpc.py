"""OTLP over gRPC: the service MetricsService, on the road that HTTP takes.

Source: OpenTelemetry, "OTLP Specification", OTLP/gRPC; google/rpc/error_details.proto.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc

from varve.gateway.app import GatewayApp
from varve.gateway.decoded import Decoded
from varve.gateway.lane import Overloaded
from varve.gateway.otlp.http import OtlpHttp, response, retryable
from varve.gateway.protobuf import delimited_field, write_varint
from varve.gateway.refusals import Refused

_SERVICE = "opentelemetry.proto.collector.metrics.v1.MetricsService"
_PROTOCOL = "otlp_grpc"
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
# ipv4:127.0.0.1:4317 or ipv6:%5B::1%5D:4317
_PEER = re.compile(r"ipv[46]:(?:%5B)?(.*?)(?:%5D)?:\d+$")


def metrics_service(app: Callable[[], GatewayApp | None], otlp: OtlpHttp) -> grpc.GenericRpcHandler:
    """The service, for a server of grpc.aio. app: where samples go; None as long as there is none,
    which senders are told as UNAVAILABLE.
    """

    async def export(body: bytes, context: Any) -> bytes:
        try:
            gateway = app()
            if gateway is None:
                raise Refused(503, "the gateway is starting", 1.0)  # noqa: TRY301 - one way to refuse
            found, why = await _taken(gateway, otlp, body, context)
            if why := why or retryable(found):
                raise why
        except Overloaded as err:
            await _abort(context, Refused(503, str(err), err.retry_after_s))
        except Refused as refused:
            await _abort(context, refused)
        return response(found).SerializeToString()

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
    return grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler})


async def _taken(
    gateway: GatewayApp, otlp: OtlpHttp, body: bytes, context: Any
) -> tuple[Decoded, Refused | None]:
    metadata = {name: value for name, value in context.invocation_metadata() or ()}  # noqa: C416 - of a type of its own
    sender = await gateway.sender(str(metadata.get("authorization", "")))
    peer = _PEER.match(context.peer())
    address = peer.group(1) if peer else ""
    return await gateway.take(_PROTOCOL, lambda: otlp.read(body), len(body), sender, address)


async def _abort(context: Any, refused: Refused) -> None:
    """Ends a call with the status of a refusal, and when to come again if it says so."""
    code = _CODES.get(refused.status, grpc.StatusCode.INVALID_ARGUMENT)
    trailing = []
    if refused.retry_after_s:
        seconds = max(1, round(refused.retry_after_s))
        retry_info = delimited_field(1, b"\x08" + write_varint(seconds))
        detail = delimited_field(1, _RETRY_INFO) + delimited_field(2, retry_info)
        status = (
            b"\x08" + write_varint(code.value[0])
            + delimited_field(2, str(refused).encode())
            + delimited_field(3, detail)
        )  # fmt: skip
        trailing.append(("grpc-status-details-bin", status))
    await context.abort(code, str(refused), tuple(trailing))
