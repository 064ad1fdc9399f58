"""Reads the bodies of requests within bounds: of each, and of all that are in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from varve.gateway.refusals import Refused

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_RETRY_AFTER_S = 1.0


class Gone(Exception):
    """The sender has hung up."""


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """Bytes of one body before and after it is expanded; of all that are being read or decoded.
    read_s: how long a sender may take for a body. patience_s: how long if others wait for the room.
    """

    body: int = 8 * 2**20
    expanded: int = 32 * 2**20
    in_flight: int = 128 * 2**20
    read_s: float = 30.0
    patience_s: float = 2.0


@dataclass(eq=False, slots=True)
class _Read:
    """A body that is being read."""

    timeout: asyncio.Timeout
    begun_s: float
    size: int = 0
    gives_way: bool = False


class BodyReader:
    """For one event loop."""

    def __init__(self, bounds: BodyBounds) -> None:
        self.bounds = bounds
        self.bytes_in_flight = 0
        """Bytes of bodies that are being read or decoded."""
        self._reads: dict[_Read, None] = {}
        self._giving_way = 0

    async def read(self, receive: Receive) -> bytes:
        """The body, which counts as in flight until `release`. Raises Refused if it is over a bound
        or takes too long, Gone.
        """
        loop = asyncio.get_running_loop()
        chunks: list[bytes] = []
        read = _Read(asyncio.timeout(self.bounds.read_s), loop.time())
        self._reads[read] = None
        try:
            async with read.timeout:
                while True:
                    message = await receive()
                    chunk = _chunk(message)
                    chunks.append(chunk)
                    read.size += len(chunk)
                    self.bytes_in_flight += len(chunk)
                    if read.gives_way:
                        self._giving_way += len(chunk)
                    self._require_size(read.size)
                    self._require_room(loop.time())
                    if not message.get("more_body"):
                        break
        except BaseException as err:
            self.bytes_in_flight -= read.size
            if isinstance(err, TimeoutError):
                raise self._too_slow(read) from None
            raise
        finally:
            self._reads.pop(read, None)
            if read.gives_way:
                self._giving_way -= read.size
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def admit(self, size: int) -> None:
        """Counts a body that is there already as in flight. Raises Refused if there is no room;
        then it does not count.
        """
        self.bytes_in_flight += size
        try:
            self._require_size(size)
            self._require_room(asyncio.get_running_loop().time())
        except Refused:
            self.release(size)
            raise

    def release(self, size: int) -> None:
        """Takes note that a body of that size has been decoded."""
        self.bytes_in_flight -= size

    def _require_size(self, size: int) -> None:
        if size > self.bounds.body:
            raise Refused(413, f"the body is over the {self.bounds.body:,} bytes allowed")

    def _require_room(self, now_s: float) -> None:
        """Raises Refused if all that are in flight have become too long. Before that, whoever has
        been sending for long gives way: senders that take their time must not keep others out.
        """
        excess = self.bytes_in_flight - self._giving_way - self.bounds.in_flight
        while excess > 0:
            slowest = next(iter(self._reads), None)
            if slowest is None or now_s - slowest.begun_s < self.bounds.patience_s:
                raise Refused(503, "too many requests at once: send again later", _RETRY_AFTER_S)
            del self._reads[slowest]
            if slowest.timeout.expired():
                continue  # it ends as it is
            slowest.gives_way = True
            slowest.timeout.reschedule(now_s)
            self._giving_way += slowest.size
            excess -= slowest.size

    def _too_slow(self, read: _Read) -> Refused:
        if read.gives_way:
            text = f"the body took over {self.bounds.patience_s:g} s while others had no room"
            return Refused(503, text, _RETRY_AFTER_S)
        return Refused(408, f"the body took over {self.bounds.read_s:g} s")


def _chunk(message: MutableMapping[str, Any]) -> bytes:
    if message["type"] == "http.disconnect":
        raise Gone
    return bytes(message.get("body", b""))
