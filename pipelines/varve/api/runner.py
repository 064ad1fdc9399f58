"""Runs the functions of endpoints: a request waits for its turn, is answered by its deadline, and
ends when nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from varve.api.access_check import needs_scope, principal_of
from varve.api.brief_answers import MISSED_S, PATIENCE_S, BriefAnswers, Key, Stopwatch, key_of
from varve.api.call import Call
from varve.api.endpoint import METADATA, QUERIES, SQL, Endpoint
from varve.api.failures import failure
from varve.api.fair_queue import FairQueue, OverloadedError, Place
from varve.api.parameters import Parameters, read_body, read_parameters
from varve.api.responses import HeldResponse, success
from varve.api.service import Service
from varve.api.short_first import ShortFirst, Turn, let_others_go_first
from varve.api.view_choice import ViewsToCome, view_of
from varve.model.errors import BadRequest
from varve.promql.errors import QueryCanceledError, QueryError, QueryTimeoutError
from varve.promql.interrupt import never
from varve.promql.syntax.cursor import ParseError
from varve.query.memory import Reservation
from varve.query.view import FileGone, View

# How often it is looked whether the service ends, or a deadline has passed.
_LOOK_S = 0.25
_MAX_BODY_BYTES = 10_000_000
# How long after its deadline a query may still say by itself that it is over.
_GRACE_S = 0.25
# What the log of slow queries has of a query.
_LOGGED_TEXT = 2_000

Handler = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pool:
    """Threads, and who waits for one."""

    name: str
    queue: FairQueue
    threads: ThreadPoolExecutor


@dataclass
class _Asked:
    """A request that has been read. deadline_s: of time.monotonic()."""

    request: Request
    endpoint: Endpoint
    given: Parameters
    body: bytes
    arrived_s: float
    deadline_s: float
    cancelled: threading.Event
    took_s: float = MISSED_S
    """How long the function took that answered it, by a Stopwatch."""
    turn: Turn | None = None
    """Since its turn has come."""

    @property
    def brief_key(self) -> Key | None:
        """By which it is known how long such answers take, if it may be answered at once."""
        if not self.endpoint.reads_only_the_view:
            return None
        if self.given.get("as_of") or self.given.get("degrade"):
            return None  # opens a snapshot; has another answer where time is short
        return key_of(self.request.scope["path"], self.given)

    @property
    def who(self) -> str:
        """Who shares a turn: a principal or, where nobody is asked who they are, an address."""
        client = self.request.client
        return principal_of(self.request).name or (client.host if client else "")


class Runner:
    """For one event loop; owns the threads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._to_come = ViewsToCome(service.view, service.options.newer_view)
        self._brief = BriefAnswers()
        self._first = ShortFirst()
        at_once: Final = {
            QUERIES: service.threads,
            METADATA: service.threads,
            SQL: service.sql_at_once,
        }
        self._pools: Mapping[str, _Pool] = {
            name: _Pool(
                name,
                FairQueue(places, service.most_waiting, service.places_of_one),
                ThreadPoolExecutor(
                    places, thread_name_prefix=name, initializer=let_others_go_first
                ),
            )
            for name, places in at_once.items()
        }

    def handler(self, endpoint: Endpoint) -> Handler:
        async def handle(request: Request) -> Response:
            start, status = time.monotonic(), 500
            try:
                response = await self._respond(request, endpoint)
                status = response.status_code
            finally:
                metrics = self._service.metrics
                metrics.requests.labels(endpoint.name, status).inc()
                metrics.seconds.labels(endpoint.name).observe(time.monotonic() - start)
            return response

        return handle

    async def _respond(self, request: Request, endpoint: Endpoint) -> Response:
        """Answers by the deadline, which counts from here: what the request waited for is in it."""
        service, arrived_s = self._service, time.monotonic()
        if endpoint.scope not in principal_of(request).scopes:
            return failure(request, "forbidden", needs_scope(endpoint.scope))
        view = service.view()
        if view is None:
            return failure(request, "unavailable", f"not ready: {service.state()}")
        with Reservation(service.memory) as sent:
            try:
                asked = await self._read(request, endpoint, arrived_s, sent)
                view = await self._view_to_come(asked, view)
                return await self._in_turn(asked, view)
            except ClientDisconnect:
                return failure(request, "canceled", "the client left before its request was whole")
            except BadRequest as err:
                return failure(request, "bad_data", str(err))
            except QueryError as err:
                return failure(request, err.error_type, str(err))
            except OverloadedError as err:
                service.metrics.shed.labels(endpoint.pool).inc()
                return failure(request, "unavailable", str(err), retry_after_s=err.retry_after_s)

    async def _read(
        self, request: Request, endpoint: Endpoint, arrived_s: float, sent: Reservation
    ) -> _Asked:
        """Reads what the client sends, whose memory is taken from `sent`. Raises BadRequest,
        LimitError, and QueryTimeoutError if it does not come in time.
        """
        timeout_s = self._service.options.limits.timeout_s or math.inf
        body = b""
        try:
            async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
                given = await read_parameters(request, sent.take)
                if endpoint.takes_body:
                    body = await read_body(request, _MAX_BODY_BYTES, sent.take)
        except TimeoutError:
            raise _LateRequestError(timeout_s) from None
        if (wanted_s := given.timeout_s()) is not None:
            timeout_s = min(wanted_s, timeout_s)
        deadline_s = arrived_s + timeout_s
        return _Asked(request, endpoint, given, body, arrived_s, deadline_s, threading.Event())

    async def _view_to_come(self, asked: _Asked, view: View) -> View:
        """The view, or the one that at_least waits for, without a thread of its own."""
        wanted = asked.given.get("at_least")
        if not wanted:
            return view
        if asked.given.get("as_of"):
            raise BadRequest('invalid parameter "at_least": as_of names one snapshot already')

        async def check() -> None:
            self._require_waiting(asked, late_s=0.0)
            await self._require_client(asked)

        return await self._to_come.reach(wanted, view, check)

    async def _in_turn(self, asked: _Asked, view: View) -> Response:
        """Waits for a thread and for the answer, or answers at once what is expected to be brief.
        Raises OverloadedError, and QueryError if nobody waits for it any more, or its time is over.
        """
        pool, key = self._pools[asked.endpoint.pool], asked.brief_key
        place = pool.queue.enter(asked.who)
        waiting = self._service.metrics.waiting.labels(pool.name)
        waiting.set(pool.queue.waiting)
        client_left: asyncio.Future[None] | None = None
        work: Future[Response] | None = None
        try:
            if key and place.granted.done() and self._brief.expects(key):
                asked.turn = self._first.begin()
                response = self._answer_at_once(asked, view, key)
                if response is not None:
                    return response
            client_left = asyncio.ensure_future(_left(asked.request))
            while not place.granted.done():
                await self._wait(asked, {place.granted, client_left}, late_s=0.0)
                if not place.granted.done():
                    self._require_waiting(asked, late_s=0.0)
                    if client_left.done():
                        raise QueryCanceledError("query was canceled in query execution")
            place.granted.result()
            asked.turn = asked.turn or self._first.begin()
            work = pool.threads.submit(self._answer, asked, view, time.monotonic())
            work.add_done_callback(_leaves(pool.queue, place))
            waiting.set(pool.queue.waiting)
            response = await self._answer_of(asked, work, client_left)
            if key:
                self._brief.learn(key, asked.took_s)
            return response
        finally:
            if client_left is not None:
                client_left.cancel()
            if asked.turn is not None:
                asked.turn.end()
            if work is None:
                pool.queue.leave(place)
            waiting.set(pool.queue.waiting)

    async def _answer_of(
        self, asked: _Asked, work: Future[Response], client_left: asyncio.Future[None]
    ) -> Response:
        """Waits for an answer, and has it ended once nobody does any more."""
        answered = asyncio.wrap_future(work)
        waited_for: set[asyncio.Future[Any]] = {answered, client_left}
        while True:
            await self._wait(asked, waited_for, late_s=_GRACE_S)
            if answered.done():
                return answered.result()
            if client_left.done():
                asked.cancelled.set()
                waited_for = {answered}
            try:
                # Past its deadline it is at the end of a kernel: nobody waits for that.
                self._require_waiting(asked, late_s=_GRACE_S)
            except QueryTimeoutError:
                asked.cancelled.set()
                work.add_done_callback(_discard)
                raise
            except QueryCanceledError:
                asked.cancelled.set()

    async def _wait(
        self, asked: _Asked, futures: set[asyncio.Future[Any]], *, late_s: float
    ) -> None:
        """Waits until one of them is done, until the deadline has passed, or for _LOOK_S."""
        left_s = asked.deadline_s + late_s - time.monotonic()
        await asyncio.wait(
            futures,
            timeout=min(max(left_s, 0.0) + 0.001, _LOOK_S),
            return_when=asyncio.FIRST_COMPLETED,
        )

    def _require_waiting(self, asked: _Asked, *, late_s: float) -> None:
        if time.monotonic() > asked.deadline_s + late_s:
            raise QueryTimeoutError
        if self._service.stopping.is_set():
            raise QueryCanceledError("the service ends")

    async def _require_client(self, asked: _Asked) -> None:
        if await asked.request.is_disconnected():
            asked.cancelled.set()
            raise QueryCanceledError("query was canceled in query execution")

    def _answer_at_once(self, asked: _Asked, view: View, key: Key) -> Response | None:
        """On the event loop; None if that takes too long there."""
        asked.took_s = MISSED_S
        try:
            return self._answer(asked, view, time.monotonic(), PATIENCE_S)
        except (QueryTimeoutError, FileGone):
            return None
        finally:
            self._brief.learn(key, asked.took_s)

    def _answer(
        self, asked: _Asked, view: View, began_s: float, patience_s: float = math.inf
    ) -> Response:
        """In a thread of a pool. With a patience, QueryTimeoutError if it takes longer, FileGone
        if a newer view has to be waited for.
        """
        service, endpoint = self._service, asked.endpoint
        now_ms, text = service.clock.now_ms(), asked.given.get("query")
        until_s = began_s + patience_s
        if endpoint.pool == METADATA:
            return self._answered(asked, view, now_ms, until_s)
        number = service.active.begin(endpoint.name, text, asked.who, now_ms, asked.cancelled)
        try:
            return self._answered(asked, view, now_ms, until_s)
        finally:
            service.active.end(number)
            took_s = time.monotonic() - asked.arrived_s
            if 0 < service.slow_s <= took_s:
                log.warning(
                    "slow query: %.1f s, of which it waited %.1f s: %s by %s: %s",
                    took_s,
                    began_s - asked.arrived_s,
                    endpoint.name,
                    asked.who or "anybody",
                    text[:_LOGGED_TEXT],
                )

    def _answered(self, asked: _Asked, view: View, now_ms: int, until_s: float) -> Response:
        """The answer, or what is wrong. Where until_s is before the deadline it raises
        QueryTimeoutError and FileGone as they come.
        """
        service, request, given = self._service, asked.request, asked.given
        at_once = until_s < asked.deadline_s
        deadline_s, watch = min(until_s, asked.deadline_s), Stopwatch()
        # The event loop waits for nobody.
        give_way = never if at_once or asked.turn is None else asked.turn.give_way
        options = replace(
            service.options, cancelled=asked.cancelled, deadline_s=deadline_s, give_way=give_way
        )
        if at_once:
            options = replace(options, newer_view=None)
        accept = request.headers.get("accept", "")
        try:
            options.check_running()
            with Reservation(service.memory) as memory:
                options = replace(options, memory=memory)
                chosen = view_of(given, view, service.snapshots)
                if chosen is not view:
                    # A file that is gone from a snapshot is in no newer view of it.
                    options = replace(options, newer_view=None)
                call = Call(
                    chosen,
                    given,
                    options,
                    now_ms,
                    service.process,
                    request.path_params,
                    accept,
                    asked.body,
                    service.sql,
                    rules=service.rules,
                    scraping=service.scraping,
                    store=service.store,
                )
                answer = asked.endpoint.function(call)
                provenance, check = answer.provenance or chosen.provenance, options.check_running
                response = success(request, answer, provenance, service.memory, check)
                service.metrics.samples.inc(answer.samples)
                asked.took_s = watch.took_s()
                return response
        except BadRequest as err:
            return failure(request, "bad_data", str(err))
        except ParseError as err:
            # Where the query is wrong, in bytes of its UTF-8: the page marks it.
            span = {"start": err.span.start, "end": err.span.end}
            text = f'invalid parameter "query": {err}'
            return failure(request, "bad_data", text, position=span)
        except QueryError as err:
            if at_once and isinstance(err, FileGone | QueryTimeoutError):
                raise
            is_gone = isinstance(err, FileGone) and given.get("as_of")
            return failure(request, "gone" if is_gone else err.error_type, str(err))


class _LateRequestError(QueryTimeoutError):
    """What a client sends did not come in time."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self.args = (f"the request did not come whole in query.timeout_s = {timeout_s:g}",)


async def _left(request: Request) -> None:
    """Ends when the client has left. What else it sends is for nobody."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _leaves(queue: FairQueue, place: Place) -> Callable[[Future[Response]], None]:
    """What gives a place back, from whichever thread the work ends in."""
    loop = asyncio.get_running_loop()

    def leave(_: Future[Response]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(queue.leave, place)

    return leave


def _discard(work: Future[Response]) -> None:
    """Takes an answer that came too late to be sent."""
    if work.exception() is None and isinstance(response := work.result(), HeldResponse):
        response.release()
