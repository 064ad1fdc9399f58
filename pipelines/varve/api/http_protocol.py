"""uvicorn's protocol by h11, with bounds: on the head of a request, on the time a client may take
to send one and to read its answer, and on how many connections there are.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from varve.api.failures import ErrorType, error_body

MAX_HEAD_BYTES = 1 << 20
"""Address and headers of a request, as in Go's server, which Prometheus uses."""

# How long what is still being sent is read and dropped after a refusal, so that the client gets to
# see the refusal and not a reset connection.
_DISCARD_S = 5.0

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_TOO_LARGE = "address and headers take over 1 MiB: send the query as a form, by POST"
_MALFORMED = "the request is no HTTP/1.1"
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


class BoundedProtocol(H11Protocol):
    """A connection of a client."""

    def __init__(self, *args: Any, bounds: Bounds, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Connection()
        self._bounds = bounds
        self._refused = False
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
            super().data_received(data)
            # A client that drips its head, or a body that nobody waits for, is not idle to uvicorn.
            if self._is_idle() and not self.transport.is_closing():
                self._await_head()

    def handle_events(self) -> None:
        super().handle_events()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._idle_since = None
            if self._awaits_head is not None:
                self._awaits_head.cancel()
                self._awaits_head = None

    def on_response_complete(self) -> None:
        self._idle_since = time.monotonic()
        super().on_response_complete()
        if self._is_idle() and self.conn.trailing_data[0]:
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
        """Answers what is no request, while h11's error about it is being handled."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer is under way: it cannot be taken back
            return
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        text = _TOO_LARGE if status == 431 else f"{_MALFORMED}: {error or msg}"
        self._refuse(status, "bad_data", text)

    def _refuse(self, status: int, kind: ErrorType, text: str) -> None:
        """Answers in place of the application, and reads no request of the connection any more."""
        body = error_body(kind, text)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 503:
            headers.append((b"retry-after", b"1"))
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
