"""Samples as JSON, in the shapes that the topic raw-metrics takes.

Source: schemas/wire/sample.schema.json, telegraf.schema.json, prometheus-adapter.schema.json.
"""

from __future__ import annotations

from varve.gateway.content_encoding import plain_body
from varve.gateway.decoded import Decoded
from varve.gateway.push import Answer, PushRequest, refused_in_part, text_refusal
from varve.gateway.refusals import Refusal, Refusals, Refused
from varve.gateway.write_request import Labels, Message, WriteRequest
from varve.ingest.json_codec import JsonCodec
from varve.model.identity import SeriesDefinition
from varve.model.metadata import Metadata

PATH = "/api/v1/push"
_MEDIA_TYPES = ("application/json", "application/x-ndjson")


class JsonSamples:
    """Takes what is JSON at a path that remote write has as well."""

    name = "json"

    def __init__(self) -> None:
        self._codec = JsonCodec()

    def takes(self, request: PushRequest) -> bool:
        return request.path == PATH and request.media_type in _MEDIA_TYPES

    def begin(self, request: PushRequest) -> _Body:
        if request.method != "POST":
            raise Refused(405, "samples are a POST")
        return _Body(self._codec, request.encoding)


class _Body:
    def __init__(self, codec: JsonCodec, encoding: str) -> None:
        self._codec = codec
        self._encoding = encoding

    def message(self, body: bytes, most: int) -> Message:
        block = self._codec.read(plain_body(body, self._encoding, most))
        request, refusals = WriteRequest(), Refusals()
        known: dict[int, tuple[Labels, Metadata]] = {}
        for owner, ts, value in zip(
            block.owners, block.ts.tolist(), block.values.tolist(), strict=True
        ):
            said = known.get(id(owner))
            if said is None:
                said = known[id(owner)] = _labels(owner), _metadata(owner)
            request.add(said[0], value, ts, metadata=said[1])
        for reject in block.rejects:
            refusals.add(Refusal.MALFORMED, f"{reject.reason}: {reject.detail}", reject.samples)
        return request.message(refusals)

    def answer(self, found: Decoded, why: Refused | None) -> Answer:
        refused = why or refused_in_part(found.refusals)
        return text_refusal(refused) if refused else Answer(204)

    def refusal(self, refused: Refused) -> Answer:
        return text_refusal(refused)


def _labels(owner: SeriesDefinition) -> Labels:
    return sorted((("__name__", owner.metric), *owner.tags))


def _metadata(owner: SeriesDefinition) -> Metadata:
    return Metadata(owner.type, owner.unit, owner.help)
