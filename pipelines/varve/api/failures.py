"""Errors in the shape of Prometheus' HTTP API, and how any JSON is sent.

Apart from responses.py, since services that evaluate no queries answer so, too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

ErrorType = Literal[
    "bad_data",
    "unauthorized",
    "forbidden",
    "gone",
    "execution",
    "canceled",
    "timeout",
    "internal",
    "not_found",
    "unavailable",
]

_STATUS: dict[ErrorType, int] = {
    "bad_data": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "gone": 410,
    "execution": 422,
    "canceled": 499,
    "internal": 500,
    "timeout": 503,
    "unavailable": 503,
}
JSON = "application/json"
# Below this, compressing costs more than it saves.
_GZIP_FROM = 1_400
_GZIP_LEVEL = 1
# Bytes that are compressed between two looks at the clock.
_GZIP_PIECE = 4 << 20


def failure(
    request: Request, kind: ErrorType, text: str, *, retry_after_s: int = 1, **more: Any
) -> Response:
    """The response that carries an error; `more` are keys beside Prometheus' own.

    retry_after_s: when a service that is unavailable may be asked again.
    """
    body, headers = encoded(request, error_body(kind, text, **more))
    if kind == "unavailable":
        headers["Retry-After"] = str(retry_after_s)
    return Response(body, _STATUS[kind], headers, JSON)


def error_body(kind: ErrorType, text: str, **more: Any) -> bytes:
    """An error as Prometheus writes it; `more` are keys beside its own."""
    return to_json({"status": "error", "errorType": kind, "error": text, **more})


def to_json(value: Any) -> bytes:
    """JSON in UTF-8; bytes of a label or query that are no UTF-8 become U+FFFD."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def encoded(
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
