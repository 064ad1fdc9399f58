"""Answers in the shape of Prometheus' HTTP API, with Varve's provenance beside the data."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from varve.api.call import Answer, Body
from varve.promql.errors import QueryError
from varve.query.memory import MemoryBudget, Reservation
from varve.query.view import Provenance

ErrorType = Literal[
    "bad_data",
    "forbidden",
    "execution",
    "canceled",
    "timeout",
    "internal",
    "not_found",
    "unavailable",
]

_STATUS: dict[ErrorType, int] = {
    "bad_data": 400,
    "forbidden": 403,
    "not_found": 404,
    "execution": 422,
    "canceled": 499,
    "internal": 500,
    "timeout": 503,
    "unavailable": 503,
}
_JSON = "application/json"
# Below this, compressing costs more than it saves.
_GZIP_FROM = 1_400
_GZIP_LEVEL = 1
# Bytes that are compressed between two looks at the clock.
_GZIP_PIECE = 4 << 20


class HeldResponse(Response):
    """A response whose body counts as memory of the service until it is sent."""

    def __init__(
        self, body: bytes, headers: dict[str, str], media_type: str, memory: Reservation
    ) -> None:
        super().__init__(body, 200, {**headers, "Content-Type": media_type})
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.release()

    def release(self) -> None:
        """Says that the body is no longer held; for who does not send it."""
        self._memory.release()


def success(
    request: Request,
    answer: Answer,
    provenance: Provenance,
    memory: MemoryBudget,
    check: Callable[[], None],
) -> HeldResponse:
    """The response that carries an answer and what it was read from.

    `memory` is asked for the body, LimitError if there is too little. `check` raises if nobody
    waits for it any more.
    """
    data, media_type, encoding = answer.data, _JSON, ""
    if isinstance(data, Body):
        parts, media_type, encoding = [data.content], data.media_type, data.encoding
    else:
        parts = [b'{"status":"success","data":', data if isinstance(data, bytes) else to_json(data)]
        for name, notes in (("warnings", answer.warnings), ("infos", answer.infos)):
            if notes:
                parts += [b',"', name.encode(), b'":', to_json(list(notes))]
        parts += [b',"provenance":', to_json(provenance.to_json()), b"}"]
    held = Reservation(memory)
    held.take(sum(map(len, parts)))
    try:
        body, headers = _encoded(request, b"".join(parts), check, encoding)
    except QueryError:
        held.release()
        raise
    return HeldResponse(body, headers, media_type, held)


def failure(request: Request, kind: ErrorType, text: str, **more: Any) -> Response:
    """The response that carries an error; `more` are keys beside Prometheus' own."""
    body, headers = _encoded(request, error_body(kind, text, **more))
    return Response(body, _STATUS[kind], headers, _JSON)


def error_body(kind: ErrorType, text: str, **more: Any) -> bytes:
    """An error as Prometheus writes it; `more` are keys beside its own."""
    return to_json({"status": "error", "errorType": kind, "error": text, **more})


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; bytes of a label or query that are no UTF-8 become U+FFFD."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def _encoded(
    request: Request, body: bytes, check: Callable[[], None] | None = None, encoding: str = ""
) -> tuple[bytes, dict[str, str]]:
    """The body, compressed if it is worth it and wanted, and its headers. encoding: it has that."""
    headers = {"Vary": "Accept-Encoding", "Cache-Control": "no-store"}
    if encoding:
        return body, headers | {"Content-Encoding": encoding}
    if len(body) < _GZIP_FROM or "gzip" not in request.headers.get("accept-encoding", ""):
        return body, headers
    return _gzipped(body, check), headers | {"Content-Encoding": "gzip"}


def _gzipped(body: bytes, check: Callable[[], None] | None) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=16 + zlib.MAX_WBITS)
    pieces = []
    for start in range(0, len(body), _GZIP_PIECE):
        if check is not None:
            check()
        pieces.append(packer.compress(memoryview(body)[start : start + _GZIP_PIECE]))
    return b"".join([*pieces, packer.flush()])
