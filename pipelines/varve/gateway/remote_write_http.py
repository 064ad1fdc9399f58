"""Remote write as a protocol of the gateway's HTTP application."""

from __future__ import annotations

from dataclasses import dataclass

from varve.gateway.decoded import Decoded
from varve.gateway.negotiation import Version, version_of
from varve.gateway.push import Answer, PushRequest, refused_in_part, text_refusal
from varve.gateway.refusals import Refused
from varve.gateway.snappy import expand
from varve.gateway.write_request import Message

WRITE_PATHS = ("/api/v1/write", "/api/v1/push")
_WRITTEN = tuple(
    f"x-prometheus-remote-write-{kind}-written".encode()
    for kind in ("samples", "histograms", "exemplars")
)


class RemoteWrite:
    """Versions 1.0 and 2.0."""

    name = "remote_write"

    def takes(self, request: PushRequest) -> bool:
        return request.path in WRITE_PATHS

    def begin(self, request: PushRequest) -> _Body:
        if request.method != "POST":
            raise Refused(405, "remote write is a POST")
        return _Body(version_of(request.content_type, request.encoding))


@dataclass(frozen=True, slots=True)
class _Body:
    version: Version

    def message(self, body: bytes, most: int) -> Message:
        return Message(expand(body, most), self.version)

    def answer(self, found: Decoded, why: Refused | None) -> Answer:
        refused = why or refused_in_part(found.refusals)
        answer = text_refusal(refused) if refused else Answer(204)
        if self.version is Version.V2:
            counts = (found.samples, len(found.histograms), len(found.exemplars))
            answer.headers += [(n, b"%d" % c) for n, c in zip(_WRITTEN, counts, strict=True)]
        return answer

    def refusal(self, refused: Refused) -> Answer:
        return text_refusal(refused)
