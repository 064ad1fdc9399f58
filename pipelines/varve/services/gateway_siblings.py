"""What the processes of one gateway ask of each other, over Unix sockets that they alone can open.

Any of them accepts a connection. What must be known of one sender in one place goes on to the
process that keeps it: pushed groups to the first, a sender's OTLP to the one that has its deltas.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from varve.gateway.app import ASGIApp, Scope, Send, header, send_answer
from varve.gateway.body_reader import BodyBounds, BodyReader, Gone, Receive
from varve.gateway.otlp.http import PATHS as OTLP_PATHS
from varve.gateway.push import Answer, PushRequest, text_refusal
from varve.gateway.push_protocols.pushgateway import is_of_group
from varve.gateway.refusals import Refused
from varve.telemetry.several import page_of

METRICS: Final = "/-/metrics.json"
"""Where a process answers its own metrics, on its Unix socket alone."""

_ADDRESS: Final = "x-varve-sender-address"
_OF_A_HOP: Final = frozenset(
    ["connection", "content-length", "host", "keep-alive", "transfer-encoding", _ADDRESS]
)
_ASK_S: Final = 2.0
_FORWARD_S: Final = 60.0


def socket_of(folder: Path, number: int) -> Path:
    """The Unix socket of a process."""
    return folder / f"{number}.sock"


def client_of(folder: Path, number: int) -> httpx.Client:
    """Asks a process over its socket."""
    transport = httpx.HTTPTransport(uds=str(socket_of(folder, number)))
    return httpx.Client(transport=transport, base_url="http://gateway", timeout=_ASK_S)


class Own:
    """What a process answers on its Unix socket: its application, and its metrics."""

    def __init__(self, app: ASGIApp, metrics: Callable[[], bytes]) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == METRICS:
            await send_answer(send, Answer(200, self._metrics()))
            return
        address = header(scope, _ADDRESS.encode())
        await self._app(dict(scope) | {"client": (address, 0) if address else None}, receive, send)


class Shared:
    """What a process answers on the port that all of them have."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Callable[[], bytes],
        folder: Path,
        number: int,
        processes: int,
        bounds: BodyBounds,
    ) -> None:
        """app: this process's own. folder: of the sockets."""
        self._app = app
        self._metrics = metrics
        self._number = number
        self._bodies = BodyReader(bounds)
        self._siblings = {
            n: httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(socket_of(folder, n))),
                base_url="http://gateway",
                timeout=_FORWARD_S,
            )
            for n in range(processes)
            if n != number
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/metrics":
            body, kind = page_of(await self._all_metrics(), header(scope, b"accept"))
            await send_answer(send, Answer(200, body, [(b"content-type", kind.encode())]))
            return
        keeper = self._keeper(scope)
        if keeper == self._number:
            await self._app(scope, receive, send)
            return
        try:
            body = await self._bodies.read(receive)
        except Gone:
            return
        except Refused as refused:
            await send_answer(send, text_refusal(refused))
            return
        try:
            await send_answer(send, await self._forwarded(scope, body, keeper))
        finally:
            self._bodies.release(len(body))

    async def close(self) -> None:
        for sibling in self._siblings.values():
            await sibling.aclose()

    def _keeper(self, scope: Scope) -> int:
        """The process that has to do with a request."""
        if is_of_group(PushRequest.of(scope)):
            return 0
        if scope["path"] in OTLP_PATHS:
            sender = f"{header(scope, b'authorization')} {_address(scope)}"
            return zlib.crc32(sender.encode()) % (len(self._siblings) + 1)
        return self._number

    async def _forwarded(self, scope: Scope, body: bytes, keeper: int) -> Answer:
        query = scope.get("query_string", b"")
        target = scope.get("raw_path") or scope["path"].encode()
        kept = [(n, v) for n, v in scope["headers"] if n.decode("latin-1") not in _OF_A_HOP]
        try:
            answer = await self._siblings[keeper].request(
                scope["method"],
                httpx.URL("http://gateway").copy_with(
                    raw_path=target + (b"?" + query if query else b"")
                ),
                headers=[*kept, (_ADDRESS.encode(), _address(scope).encode())],
                content=body,
            )
        except httpx.HTTPError:
            text = "the process of the gateway that keeps this is not there: send again later"
            return text_refusal(Refused(503, text, 1.0))
        headers = [
            (name.lower(), value)
            for name, value in answer.headers.raw
            if name.lower().decode("latin-1") not in _OF_A_HOP
        ]
        return Answer(answer.status_code, answer.content, headers)

    async def _all_metrics(self) -> dict[int, bytes]:
        """By process; without those that do not answer."""

        async def asked(sibling: httpx.AsyncClient) -> bytes | None:
            try:
                answer = await sibling.get(METRICS, timeout=_ASK_S)
            except httpx.HTTPError:
                return None
            return answer.content if answer.status_code == 200 else None

        found = await asyncio.gather(*map(asked, self._siblings.values()))
        said = {n: one for n, one in zip(self._siblings, found, strict=True) if one is not None}
        return said | {self._number: self._metrics()}


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
