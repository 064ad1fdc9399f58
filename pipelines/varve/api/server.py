"""The HTTP server: uvicorn with one limit for the head of a request, and errors in JSON."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from varve.api.failures import error_body

MAX_HEAD_BYTES = 1 << 20
"""Address and headers of a request, as in Go's server, which Prometheus uses."""

KEEP_ALIVE_S = 120
"""Seconds a connection may be idle. Longer than the 90 s for which Go's client keeps one, so that
the client closes it and never sends a request into a closing connection."""

# How long what is still being sent is read and dropped after a refusal, so that the client gets to
# see the refusal and not a reset connection.
_DISCARD_S = 5.0

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_TOO_LARGE = "address and headers take over 1 MiB: send the query as a form, by POST"
_MALFORMED = "the request is no HTTP/1.1"


class Server(uvicorn.Server):
    """uvicorn raises a signal again once it has stopped; this one returns instead."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_of(app: ASGIApp, headers: Sequence[tuple[str, str]] = ()) -> Server:
    """A server that has not started; `serve(sockets=[...])` runs it.

    headers: added to every answer.
    """
    return Server(
        uvicorn.Config(
            app,
            http=_Protocol,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            headers=list(headers),
        )
    )


def tcp_socket(host: str) -> socket.socket:
    """A socket to listen on, not bound yet.

    It names its protocol, without which asyncio would leave Nagle's algorithm on: an answer's body
    would wait 40 ms for the client to acknowledge its head.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listener


class _HeadTooLarge(h11.RemoteProtocolError):
    def __init__(self) -> None:
        super().__init__(_TOO_LARGE, error_status_hint=431)


class _Connection(h11.Connection):
    """Takes addresses with bytes beyond ASCII, and refuses a head that is too large.

    Clients such as curl send such bytes as they were typed. h11 takes none, so they are escaped. It
    bounds a head that is incomplete after a read only, so one that came whole is measured here.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self._in_request_line = True

    def receive_data(self, data: bytes) -> None:
        if self._in_request_line and data:
            line, end, rest = data.partition(b"\n")
            data = _BEYOND_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), line) + end + rest
            self._in_request_line = not end
        super().receive_data(data)

    def start_next_cycle(self) -> None:
        super().start_next_cycle()
        self._in_request_line = True

    def next_event(self) -> Any:
        if self.their_state is not h11.IDLE:
            return super().next_event()
        before = len(self.trailing_data[0])
        event = super().next_event()
        if isinstance(event, h11.Request):
            size = before - len(self.trailing_data[0])
            if size > MAX_HEAD_BYTES:
                raise _HeadTooLarge
        return event


class _Protocol(H11Protocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Connection()
        self._refused = False

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request, while h11's error about it is being handled."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer is under way: it cannot be taken back
            return
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        text = _TOO_LARGE if status == 431 else f"{_MALFORMED}: {error or msg}"
        body = error_body("bad_data", text)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_DISCARD_S, self.transport.close)
