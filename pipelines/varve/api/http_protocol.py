"""uvicorn's protocol by httptools, with bounds: on the head of a request, on the time a client may
take to send one and to read its answer, and on how many connections there are.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from varve.api.failures import JSON, ErrorType, error_body

MAX_HEAD_BYTES = 1 << 20
"""Address and headers of a request, as in Go's server, which Prometheus uses."""

# How long what is still being sent is read and dropped after a refusal, so that the client gets to
# see the refusal and not a reset connection.
_DISCARD_S = 5.0

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_TOO_LARGE = "address and headers take over {} KiB: what is long can be sent as a form, by POST"
_MALFORMED = "the request is no HTTP/1.1"
_NO_HOST = "it has no header Host"
_TOO_MANY = "too many connections: query.max_connections are open and none of them is idle"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What connections may take."""

    connections: int = 2_048
    """How many there may be; of those without a request the one that is idle longest is closed."""
    head_s: float = 60.0
    """Seconds from the first byte of a request, or from the beginning of a connection, until its
    head has come."""
    stalled_s: float = 30.0
    """Seconds for which a client may take nothing of an answer that it is sent."""
    head_bytes: int = MAX_HEAD_BYTES
    """Of address and headers."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection of a client."""

    def __init__(self, *args: Any, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._refused = False
        self._in_head = self._in_request_line = True
        self._has_begun = False
        """Whether a part of a head has come."""
        self._head_bytes = 0
        """Of all reads since the head began, with what has come behind it."""
        self._is_too_large = False
        self._idle_since: float | None = time.monotonic()
        """Since when there is no request, of time.monotonic(); None while there is one."""
        self._awaits_head: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections and not self._others_made_room():
            self._refuse(503, "unavailable", _TOO_MANY)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        if self._in_request_line:
            data = self._escaped(data)
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > self._bounds.head_bytes:
            self._is_too_large = True
            self.send_400_response("")
        elif self._is_idle():
            # A client that drips its head, or a body that nobody waits for, is not idle to uvicorn.
            self._await_head()

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = self._in_request_line = self._has_begun = False
        self._idle_since = None
        if self._awaits_head is not None:
            self._awaits_head.cancel()
            self._awaits_head = None
        if self._head_bytes > self._bounds.head_bytes and self._size() > self._bounds.head_bytes:
            self._is_too_large = True
            raise ValueError(_TOO_LARGE)
        if all(name != b"host" for name, _ in self.headers) and self._is_1_1():
            raise ValueError(_NO_HOST)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = self._in_request_line = True
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._idle_since = time.monotonic()
        super().on_response_complete()
        if self._is_idle() and self._has_begun:
            self._await_head()

    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            # Not closed: that would wait until the client has taken what is there.
            self._stalled = self.loop.call_later(self._bounds.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request, while the parser's error about it is being handled."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.close()  # it cannot be taken back
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if self._is_too_large:
            text = _TOO_LARGE.format(self._bounds.head_bytes >> 10)
            self._refuse(431, "bad_data", text)
        else:
            error = sys.exception()
            why = error if error is None else error.__context__ or error
            self._refuse(400, "bad_data", f"{_MALFORMED}: {why or msg}")

    def _size(self) -> int:
        """Bytes of the head, which came whole in one read, perhaps with what follows it."""
        line = len(b" ".join([self.parser.get_method(), self.url, b"HTTP/1.1"]))
        fields = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        return line + fields + 2 * len("\r\n")

    def _is_1_1(self) -> bool:
        return bool(self.parser.get_http_version() == "1.1")

    def _escaped(self, data: bytes) -> bytes:
        """Data with an address in ASCII: clients such as curl send other bytes as they are typed,
        and the parser takes none.
        """
        line, end, rest = data.partition(b"\n")
        self._in_request_line = not end
        if line.isascii():
            return data
        return _BEYOND_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), line) + end + rest

    def _refuse(self, status: int, kind: ErrorType, text: str) -> None:
        """Answers in place of the application, and reads no request of the connection any more."""
        body = error_body(kind, text)
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"content-type: {JSON}",
            f"content-length: {len(body)}",
            "connection: close",
            *(["retry-after: 1"] if status == 503 else []),
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_DISCARD_S, self.transport.close)

    def _others_made_room(self) -> bool:
        """Closes the other connection that is idle longest. False if none is."""
        idle = [
            (other._idle_since, id(other), other)  # noqa: SLF001 - one of this class
            for other in self.connections
            if isinstance(other, BoundedProtocol)
            and other is not self
            and other._idle_since is not None  # noqa: SLF001
            and not other.transport.is_closing()
        ]
        if not idle:
            return False
        min(idle)[2].transport.abort()
        return True

    def _is_idle(self) -> bool:
        return self._idle_since is not None

    def _await_head(self) -> None:
        if self._awaits_head is None:
            self._awaits_head = self.loop.call_later(self._bounds.head_s, self.transport.close)

    def _cancel_timers(self) -> None:
        for timer in (self._awaits_head, self._stalled):
            if timer is not None:
                timer.cancel()
        self._awaits_head = self._stalled = None
