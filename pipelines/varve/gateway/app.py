"""The gateway's HTTP: what senders push, probes and metrics, as an ASGI application without a
framework.

A framework costs more than the decoding of a request. What is 2xx is acknowledged by Kafka or
synced in the spool; a request that is refused in part says so (400, with the first offenders), and
the rest of it is taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Protocol

from varve.access.credentials import Credentials, TooManyAttempts, Unauthenticated
from varve.gateway.batcher import Batcher
from varve.gateway.body_reader import BodyBounds, BodyReader, Gone, Receive
from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.first_sight import Input
from varve.gateway.lane import Overloaded
from varve.gateway.push import (
    Answer,
    Body,
    PushProtocol,
    PushRequest,
    text_answer,
    text_refusal,
)
from varve.gateway.quotas import Allowance, Quotas
from varve.gateway.refusals import Refusal, Refused
from varve.gateway.remote_write_http import WRITE_PATHS, RemoteWrite
from varve.gateway.turns import CriticalSenders, Turns
from varve.gateway.write_request import Message

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("varve.gateway.http")

_CROWDED, _CROWDED_RETRY_S = "requests wait for too long", 5.0
# So long the answer waits then: senders that come again at once would have all the time there is
# spent on refusing them.
_CROWDED_ANSWER_S = 1.0


class Crowded(Refused):
    """More comes than can be decoded. Its answer takes its time."""


class Meters(Protocol):
    """What the application counts."""

    def request(self, protocol: str, status: int, seconds: float, size: int) -> None: ...

    def decoded(self, protocol: str, found: Decoded) -> None: ...

    def page(self, accept: str) -> tuple[bytes, str]: ...


class GatewayApp:
    """An ASGI application. For one event loop's thread."""

    def __init__(
        self,
        batcher: Batcher,
        credentials: Credentials,
        quotas: Quotas,
        inputs: Callable[[str], Input],
        bounds: Callable[[], Bounds],
        meters: Meters,
        *,
        protocols: Sequence[PushProtocol] = (RemoteWrite(),),
        why_overloaded: Callable[[], str] = lambda: "",
        why_not_ready: Callable[[], str] = lambda: "",
        body_bounds: BodyBounds | None = None,
        before: Callable[[], None] = lambda: None,
        after: Callable[[Decoded], None] = lambda _: None,
        has_critical: bool = False,
        turns: Turns | None = None,
        crowded_answer_s: float = _CROWDED_ANSWER_S,
    ) -> None:
        """inputs: what a sender's series get, by its name. protocols: asked in their order, the
        first that takes a request has it. why_overloaded: why the bulk topic takes nothing now.
        before and after: called around the decoding of a request; `after` may refuse more of it.
        has_critical: whether there is a topic that takes some samples all the same. turns: in which
        requests are decoded. crowded_answer_s: how long the answer waits to a request that is
        refused because more comes than can be decoded.
        """
        self._batcher = batcher
        self._credentials = credentials
        self._quotas = quotas
        self._inputs = inputs
        self._bounds = bounds
        self._meters = meters
        self._protocols = protocols
        self._why_overloaded = why_overloaded
        self._why_not_ready = why_not_ready
        self._bodies = BodyReader(body_bounds or BodyBounds())
        self._before = before
        self._after = after
        self._has_critical = has_critical
        self._turns = turns or Turns()
        self._crowded_answer_s = crowded_answer_s
        self._critical_senders = CriticalSenders()

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of bodies that are being read or decoded."""
        return self._bodies.bytes_in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/metrics":
            body, kind = self._meters.page(header(scope, b"accept"))
            await send_answer(send, Answer(200, body, [(b"content-type", kind.encode())]))
        elif path == "/ping":  # what clients of Influx ask first
            await send_answer(send, Answer(204))
        elif path == "/-/healthy":
            await send_answer(send, text_answer(200, "Varve's gateway is healthy.\n"))
        elif path == "/-/ready":
            why = self._why_not_ready()
            text = f"Varve's gateway is not ready: {why}.\n" if why else "ready\n"
            await send_answer(send, text_answer(503 if why else 200, text))
        else:
            request = PushRequest.of(scope)
            for protocol in self._protocols:
                if protocol.takes(request):
                    await self._write(protocol, request, scope, receive, send)
                    return
            text = f"there is nothing at {path[:100]}: remote write is at {WRITE_PATHS[0]}\n"
            await send_answer(send, text_answer(404, text))

    async def _write(
        self,
        protocol: PushProtocol,
        request: PushRequest,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        begun = asyncio.get_running_loop().time()
        size = 0
        wait_s = 0.0
        refusal = text_refusal
        try:
            sender = await self.sender(header(scope, b"authorization"))
            begun_body = protocol.begin(request)
            refusal = begun_body.refusal
            size, answer = await self._written(protocol.name, begun_body, sender, scope, receive)
        except Crowded as crowded:
            wait_s = self._crowded_answer_s
            answer = refusal(crowded)
        except Refused as refused:
            answer = refusal(refused)
        except Overloaded as err:
            answer = refusal(Refused(503, str(err), err.retry_after_s))
        except Gone:
            return
        if wait_s:  # not where the exception is caught, which keeps the body
            await asyncio.sleep(wait_s)
        seconds = asyncio.get_running_loop().time() - begun
        self._meters.request(protocol.name, answer.status, seconds, size)
        if answer.status >= 400 and answer.status not in (429, 503):
            log.debug("%d: %s", answer.status, answer.body.strip())
        await send_answer(send, answer)

    async def _written(
        self, protocol: str, head: Body, sender: str, scope: Scope, receive: Receive
    ) -> tuple[int, Answer]:
        """Bytes of the body, and the answer. Raises Refused, Overloaded."""
        client = scope.get("client")
        allowance = self._allowance(sender, client[0] if client else "")
        bounds = self._bodies.bounds
        length = header(scope, b"content-length")
        if length.isdigit() and int(length) > bounds.body:
            text = f"the body has {int(length):,} bytes, over the {bounds.body:,} allowed"
            raise Refused(413, text)
        body = await self._bodies.read(receive)
        try:
            is_crowded = await self._turn(client)
            found, waits, why = self._decode(
                protocol,
                lambda: head.message(body, bounds.expanded),
                len(body),
                sender,
                allowance,
                is_crowded=is_crowded,
            )
        finally:
            self._bodies.release(len(body))
        if self._has_critical:
            self._critical_senders.note(client, has_critical=found.critical > 0)
        if found.critical and self._turns.are_wanted:
            self._batcher.flush()  # in a storm timers are late
        await _durable(waits)
        return len(body), head.answer(found, why)

    async def _turn(self, client: object) -> bool:
        """Waits until a request of this connection is to be decoded. Returns whether its bulk
        samples are too many now. Raises Crowded if all of it is.
        """
        has_critical = self._critical_senders.of(client) if self._has_critical else False
        is_crowded = not has_critical and self._turns.is_crowded()
        if is_crowded and has_critical is False:
            raise Crowded(503, f"{_CROWDED}: send again later", _CROWDED_RETRY_S)
        await self._turns.turn(urgent=is_crowded or bool(has_critical))
        return is_crowded

    async def take(
        self, protocol: str, read: Callable[[], Message], size: int, sender: str, address: str
    ) -> tuple[Decoded, Refused | None]:
        """Takes what came by another way than this application. read: makes the message of it,
        perhaps of `size` bytes, once it is known that there is room. Returns what was in it once
        that is durable, and why its bulk samples were refused, if they were. Raises Refused,
        Overloaded.
        """
        allowance = self._allowance(sender, address)
        self._bodies.admit(size)
        try:
            found, waits, why = self._decode(protocol, read, size, sender, allowance)
        finally:
            self._bodies.release(size)
        await _durable(waits)
        return found, why

    def _allowance(self, sender: str, address: str) -> Allowance:
        """What a sender may send now. Raises Refused if it may send nothing."""
        allowance = self._quotas.of(sender, address)
        if (wait_s := allowance.wait_for_bytes()) > 0:
            raise Refused(429, "this sender's bytes a second are used up", wait_s)
        return allowance

    async def sender(self, authorization: str) -> str:
        """The name of who sends; "" if anybody may. Raises Refused."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "token":  # as Influx' clients say it
            authorization = f"Bearer {token}"
        try:
            return (await self._credentials.principal(authorization)).name
        except Unauthenticated as err:
            raise Refused(401, str(err)) from None
        except TooManyAttempts as err:
            raise Refused(429, str(err), 5.0) from None

    def _decode(
        self,
        protocol: str,
        read: Callable[[], Message],
        size: int,
        sender: str,
        allowance: Allowance,
        *,
        is_crowded: bool = False,
    ) -> tuple[Decoded, Sequence[asyncio.Future[None]], Refused | None]:
        """What a message holds, what to wait for, and why its bulk samples were refused, if they
        were: is_crowded makes them so. Raises Refused.
        """
        shed: Refusal | None = None
        why: Refused | None = None
        if (wait_s := allowance.wait_for_samples()) > 0:
            shed, why = (
                Refusal.QUOTA,
                Refused(429, "this sender's samples a second are used up", wait_s),
            )
        elif text := self._why_overloaded() or (_CROWDED if is_crowded else ""):
            shed, why = Refusal.OVERLOAD, Refused(503, f"{text}: send again later", 5.0)
        if why is not None and (not self._has_critical or allowance.wait_for_critical() > 0):
            raise why
        message = read()
        self._before()
        found, waits = self._batcher.add(
            message.content,
            message.version,
            self._inputs(sender),
            self._bounds(),
            allowance.may_define,
            shed,
        )
        found.refusals.merge(message.refusals)
        self._after(found)
        self._meters.decoded(protocol, found)
        allowance.take(size=size, bulk=found.received() - found.critical, critical=found.critical)
        refused = found.refusals.samples.keys() | found.refusals.others.keys()
        return found, waits, why if shed in refused else None


async def _durable(waits: Sequence[asyncio.Future[None]]) -> None:
    """Waits for all of them. Raises Overloaded."""
    if not waits:
        return
    # Not awaited one by one: who gives up waiting must not cancel what others wait for.
    await asyncio.wait(waits)
    error = next((e for w in waits if (e := w.exception()) is not None), None)
    if error is not None:
        raise error


async def send_answer(send: Send, answer: Answer) -> None:
    headers: Iterable[tuple[bytes, bytes]] = answer.headers
    if answer.status != 204:
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": answer.body})


def header(scope: Scope, wanted: bytes) -> str:
    """A header of a request, by its lower-case name; "" if it has none."""
    return next((v.decode("latin-1") for n, v in scope["headers"] if n == wanted), "")
