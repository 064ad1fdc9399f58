"""Answers in the shape of Prometheus' HTTP API, with Varve's provenance beside the data."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from varve.api.call import Answer, Body
from varve.api.failures import JSON, encoded, to_json
from varve.promql.errors import QueryError
from varve.query.memory import MemoryBudget, Reservation
from varve.query.provenance import Provenance

# What is sent at once; so much has to go in the time that a client may take nothing.
_PIECE_BYTES = 256 << 10


class HeldResponse(Response):
    """A response whose body counts as memory of the service until it is sent."""

    def __init__(
        self, body: bytes, headers: dict[str, str], media_type: str, memory: Reservation
    ) -> None:
        super().__init__(body, 200, {**headers, "Content-Type": media_type})
        self._memory = memory

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        """Sends the body in pieces: a client that takes none of it is noticed at the next one."""
        body = memoryview(bytes(self.body))
        start = {"type": "http.response.start", "status": self.status_code}
        try:
            await send(start | {"headers": self.raw_headers})
            for begin in range(0, max(1, len(body)), _PIECE_BYTES):
                end = begin + _PIECE_BYTES
                await send(
                    {
                        "type": "http.response.body",
                        "body": bytes(body[begin:end]),
                        "more_body": end < len(body),
                    }
                )
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
    data, media_type, encoding = answer.data, JSON, ""
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
        body, headers = encoded(request, b"".join(parts), check, encoding)
    except QueryError:
        held.release()
        raise
    return HeldResponse(body, headers | provenance.headers(), media_type, held)
