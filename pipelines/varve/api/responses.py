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
