"""Answers in the shape of Prometheus' HTTP API, with Varve's provenance beside the data."""

from __future__ import annotations

import gzip
import json
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from varve.api.call import Answer
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


def success(request: Request, answer: Answer, provenance: Provenance) -> Response:
    """The response that carries an answer and what it was read from."""
    data = answer.data
    parts = [b'{"status":"success","data":', data if isinstance(data, bytes) else to_json(data)]
    for name, notes in (("warnings", answer.warnings), ("infos", answer.infos)):
        if notes:
            parts += [b',"', name.encode(), b'":', to_json(list(notes))]
    parts += [b',"provenance":', to_json(provenance.to_json()), b"}"]
    return _response(request, b"".join(parts), 200)


def failure(request: Request, kind: ErrorType, text: str, **more: Any) -> Response:
    """The response that carries an error; `more` are keys beside Prometheus' own."""
    return _response(request, error_body(kind, text, **more), _STATUS[kind])


def error_body(kind: ErrorType, text: str, **more: Any) -> bytes:
    """An error as Prometheus writes it; `more` are keys beside its own."""
    return to_json({"status": "error", "errorType": kind, "error": text, **more})


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; bytes of a label or query that are no UTF-8 become U+FFFD."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def _response(request: Request, body: bytes, status: int) -> Response:
    headers = {"Vary": "Accept-Encoding", "Cache-Control": "no-store"}
    if len(body) >= _GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, _GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status, headers, _JSON)
