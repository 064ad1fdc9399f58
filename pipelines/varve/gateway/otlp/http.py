"""OTLP over HTTP as a protocol of the gateway's HTTP application.

Source: OpenTelemetry, "OTLP Specification", OTLP/HTTP.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message as ProtobufMessage
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from varve.gateway.content_encoding import plain_body
from varve.gateway.decoded import Decoded
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.known_points import ExportReader
from varve.gateway.otlp.translation import translate
from varve.gateway.protobuf import delimited_field, write_varint
from varve.gateway.push import Answer, PushRequest, json_answer, with_hints
from varve.gateway.refusals import Malformed, Refusal, Refused
from varve.gateway.write_request import Message

PATHS = ("/v1/metrics", "/api/v1/otlp/v1/metrics")
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
# Codes of google.rpc.Status by the status of HTTP; 3: invalid argument.
_RPC_CODES = {401: 16, 413: 3, 429: 8, 503: 14}
_MOST_DEPTH = 64


class OtlpHttp:
    """Metrics as protobuf or JSON."""

    name = "otlp"

    def __init__(self, config: OtlpConfig, totals: DeltaTotals | None) -> None:
        """totals: those of deltas; None refuses deltas."""
        self._config = config
        self._totals = totals
        self._reader = ExportReader(config, totals)

    def takes(self, request: PushRequest) -> bool:
        return request.path in PATHS

    def begin(self, request: PushRequest) -> _Body:
        if request.method != "POST":
            raise Refused(405, "OTLP metrics are a POST")
        if request.media_type not in (_PROTOBUF, _JSON):
            text = f"content-type is {_PROTOBUF} or {_JSON}, not {request.content_type[:80]!r}"
            raise Refused(415, text)
        return _Body(self, request.encoding, is_json=request.media_type == _JSON)

    def read(self, body: bytes) -> Message:
        """An ExportMetricsServiceRequest in protobuf as remote write. Raises Malformed, and Refused
        for one that is too large.
        """
        found = self._reader.read(body)
        return found.request.message(found.refusals)

    def translated(self, export: ExportMetricsServiceRequest) -> Message:
        """An export as remote write."""
        found = translate(export, self._config, self._totals)
        return found.request.message(found.refusals)


@dataclass(frozen=True, slots=True)
class _Body:
    protocol: OtlpHttp
    encoding: str
    is_json: bool

    def message(self, body: bytes, most: int) -> Message:
        content = plain_body(body, self.encoding, most)
        return (
            self.protocol.translated(_of_json(content))
            if self.is_json
            else self.protocol.read(content)
        )

    def answer(self, found: Decoded, why: Refused | None) -> Answer:
        """Success, also of a part: what was refused would be refused again."""
        if why := why or retryable(found):
            return self.refusal(why)
        return self._answer(200, response(found))

    def refusal(self, refused: Refused) -> Answer:
        """A google.rpc.Status."""
        code, text = _RPC_CODES.get(refused.status, 3), str(refused)
        if self.is_json:
            answer = json_answer(refused.status, {"code": code, "message": text})
        else:
            status = b"\x08" + write_varint(code) + delimited_field(2, text.encode())
            answer = _protobuf_answer(refused.status, status)
        return with_hints(answer, refused)

    def _answer(self, status: int, content: ProtobufMessage) -> Answer:
        if self.is_json:
            return json_answer(status, MessageToDict(content))
        return _protobuf_answer(status, content.SerializeToString())


def response(found: Decoded) -> ExportMetricsServiceResponse:
    """What to answer to a request whose samples are durable, as far as they were taken."""
    answer = ExportMetricsServiceResponse()
    refusals = found.refusals
    if refusals.count:
        count = sum(refusals.samples.values()) + sum(refusals.others.values())
        answer.partial_success.rejected_data_points = count
        answer.partial_success.error_message = refusals.text()
    return answer


def retryable(found: Decoded) -> Refused | None:
    """Why a request that was taken in part should come again; None if it should not."""
    if Refusal.NEW_SERIES_QUOTA in found.refusals.samples:
        return Refused(429, found.refusals.text(), 1.0)
    return None


def _protobuf_answer(status: int, body: bytes) -> Answer:
    return Answer(status, body, [(b"content-type", _PROTOBUF.encode())])


def _of_json(content: bytes) -> ExportMetricsServiceRequest:
    try:
        tree = msgspec.json.decode(content)
        if not isinstance(tree, dict):
            raise Malformed("the body is JSON, but no object")
        _with_ids_in_base64(tree)
        return ParseDict(
            tree,
            ExportMetricsServiceRequest(),
            ignore_unknown_fields=True,
            max_recursion_depth=_MOST_DEPTH,
        )
    except (ParseError, msgspec.DecodeError, binascii.Error, RecursionError, ValueError) as err:
        raise Malformed(f"the body is no ExportMetricsServiceRequest in JSON: {err}") from err


def _with_ids_in_base64(tree: object) -> None:
    """Writes ids of traces and spans, which OTLP has in hexadecimal, as protobuf wants them."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name in ("traceId", "spanId", "trace_id", "span_id") and isinstance(value, str):
                tree[name] = base64.b64encode(bytes.fromhex(value)).decode()
            else:
                _with_ids_in_base64(value)
    elif isinstance(tree, list):
        for value in tree:
            _with_ids_in_base64(value)
