"""The query service as an ASGI application: Prometheus' HTTP API, the page, health and metrics.

endpoints.py has the addresses. Work runs in threads; the event loop only waits. Nothing is written.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from varve.api.access_check import (
    Authentication,
    BrowserCheck,
    needs_scope,
    principal_of,
)
from varve.api.call import Call
from varve.api.endpoint import Endpoint
from varve.api.endpoints import ENDPOINTS, PAGES, Page
from varve.api.failures import failure
from varve.api.pages import STATIC
from varve.api.parameters import read_body, read_parameters
from varve.api.responses import HeldResponse, success
from varve.api.service import Service
from varve.api.view_choice import view_of
from varve.model.errors import BadRequest
from varve.promql.errors import LimitError, QueryError, QueryTimeoutError
from varve.promql.syntax.cursor import ParseError
from varve.query.memory import Reservation
from varve.query.provenance import HEADERS
from varve.query.view import FileGone

# How soon a query notices that nobody waits for its answer any more.
_DISCONNECT_S = 0.25
_MAX_BODY_BYTES = 10_000_000
# How long after its deadline a query may still say by itself that it is over.
_GRACE_S = 0.5

Handler = Callable[[Request], Awaitable[Response]]


def create_app(service: Service) -> Starlette:
    """The application; it owns no thread but the pool that its queries run in."""
    runner = _Runner(service)
    routes: list[BaseRoute] = [
        Route(e.address, runner.handler(e), methods=list(e.methods)) for e in ENDPOINTS
    ]
    routes += [Route(e.address, _options, methods=["OPTIONS"]) for e in ENDPOINTS]
    routes += [Route(p.path, _handler(service, p), methods=list(p.methods)) for p in PAGES]
    routes.append(Mount("/static", StaticFiles(directory=STATIC)))
    middleware = [
        Middleware(BrowserCheck, rules=service.browsers),
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(service.browsers.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization"],
            expose_headers=sorted(HEADERS),
        ),
        Middleware(Authentication, credentials=lambda: service.credentials),
    ]
    return Starlette(
        routes=routes, middleware=middleware, exception_handlers={Exception: _internal}
    )


class _Runner:
    """Runs the functions of endpoints in threads and turns what they raise into answers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pool = ThreadPoolExecutor(service.threads, thread_name_prefix="query")

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
        if endpoint.scope not in principal_of(request).scopes:
            return failure(request, "forbidden", needs_scope(endpoint.scope))
        with Reservation(self._service.memory) as sent:
            return await self._respond_to_form(request, endpoint, sent)

    async def _respond_to_form(
        self, request: Request, endpoint: Endpoint, sent: Reservation
    ) -> Response:
        """sent: the memory of what the client sends."""
        service, arrived_s = self._service, time.monotonic()
        view = service.view()
        if view is None:
            return failure(request, "unavailable", f"not ready: {service.state()}")
        timeout_s = service.options.limits.timeout_s or math.inf
        try:
            async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
                given = await read_parameters(request, sent.take)
                body = b""
                if endpoint.takes_body:
                    body = await read_body(request, _MAX_BODY_BYTES, sent.take)
            if (wanted_s := given.timeout_s()) is not None:
                timeout_s = min(wanted_s, timeout_s)
        except BadRequest as err:
            return failure(request, "bad_data", str(err))
        except LimitError as err:
            return failure(request, err.error_type, str(err))
        except TimeoutError:
            text = f"the request did not come whole in query.timeout_s = {timeout_s:g}"
            return failure(request, "timeout", text)
        cancelled = threading.Event()
        deadline_s = arrived_s + timeout_s
        options = replace(service.options, cancelled=cancelled, deadline_s=deadline_s)
        now_ms, path = service.clock.now_ms(), request.path_params
        accept = request.headers.get("accept", "")
        call = Call(
            *(view, given, options, now_ms, service.process, path, accept, body, service.sql),
            rules=service.rules,
        )
        work = self._pool.submit(self._answer, request, endpoint, call)
        answered = asyncio.wrap_future(work)
        while not (await asyncio.wait({answered}, timeout=_DISCONNECT_S))[0]:
            if time.monotonic() > deadline_s + _GRACE_S:
                # It still waits for a thread, or for the end of a kernel: nobody waits for that.
                cancelled.set()
                if not work.cancel():
                    work.add_done_callback(_discard)
                return failure(request, "timeout", str(QueryTimeoutError()))
            if service.stopping.is_set() or await request.is_disconnected():
                cancelled.set()
        return answered.result()

    def _answer(self, request: Request, endpoint: Endpoint, call: Call) -> Response:
        service = self._service
        try:
            call.options.check_running()
            with Reservation(service.memory) as memory:
                options = replace(call.options, memory=memory)
                view = view_of(call.parameters, call.view, options, service.snapshots)
                if view is not call.view and call.parameters.get("as_of"):
                    # A file that is gone from a snapshot is in no newer view of it.
                    options = replace(options, newer_view=None)
                answer = endpoint.function(replace(call, view=view, options=options))
                service.metrics.samples.inc(answer.samples)
                provenance = answer.provenance or view.provenance
                return success(request, answer, provenance, service.memory, options.check_running)
        except BadRequest as err:
            return failure(request, "bad_data", str(err))
        except ParseError as err:
            # Where the query is wrong, in bytes of its UTF-8: the page marks it.
            span = {"start": err.span.start, "end": err.span.end}
            text = f'invalid parameter "query": {err}'
            return failure(request, "bad_data", text, position=span)
        except FileGone as err:
            as_of = call.parameters.get("as_of")
            return failure(request, "gone" if as_of else err.error_type, str(err))
        except QueryError as err:
            return failure(request, err.error_type, str(err))


def _discard(work: Future[Response]) -> None:
    """Takes an answer that came too late to be sent."""
    if work.exception() is None and isinstance(response := work.result(), HeldResponse):
        response.release()


def _handler(service: Service, page: Page) -> Handler:
    async def handle(request: Request) -> Response:
        if page.scope not in principal_of(request).scopes:
            return failure(request, "forbidden", needs_scope(page.scope))
        return await page.function(service, request)

    return handle


async def _options(_: Request) -> Response:
    """What an OPTIONS request that is no question of CORS gets, as from Prometheus."""
    return Response(status_code=204)


async def _internal(request: Request, err: Exception) -> Response:
    """A defect of ours: the answer names it, and Starlette raises it again for the log."""
    return failure(request, "internal", f"{type(err).__name__}: {err}; see the log of query")
