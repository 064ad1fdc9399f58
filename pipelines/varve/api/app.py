"""The query service as an ASGI application: Prometheus' HTTP API, the page, health and metrics.

Work runs in threads; the event loop only waits. Nothing is written.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from varve.api import catalogue, exemplars
from varve.api.parameters import Parameters, parameters
from varve.api.queries import Answer, Options, explained, format_query, instant, parse_query, range_
from varve.api.responses import failure, success
from varve.model.clock import Clock
from varve.model.errors import BadRequest
from varve.promql.errors import QueryError
from varve.promql.syntax.cursor import ParseError
from varve.query.view import View
from varve.telemetry.metrics import QueryMetrics
from varve.telemetry.registry import Telemetry

STATIC = Path(__file__).parent / "static"
# How soon a query notices that nobody waits for its answer any more.
_DISCONNECT_S = 0.25
_READ = ["GET", "POST"]
# The page runs its own scripts only, talks to nobody else and is in nobody's frame.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

Handler = Callable[[Request], Awaitable[Response]]
Work = Callable[[View, Parameters, threading.Event], Answer]


@dataclass
class Service:
    """What the application needs. `view` is None until the tables are open.

    state: why it is not ready, or "". stopping: set at shutdown, ends the queries under way.
    """

    options: Options
    clock: Clock
    view: Callable[[], View | None]
    state: Callable[[], str]
    metrics: QueryMetrics = field(default_factory=lambda: QueryMetrics(Telemetry()))
    threads: int = 4
    stopping: threading.Event = field(default_factory=threading.Event)


def create_app(service: Service) -> Starlette:
    """The application; it owns no thread but the pool that its queries run in."""
    pool = ThreadPoolExecutor(service.threads, thread_name_prefix="query")
    api = _Api(service, pool)
    routes: list[BaseRoute] = [
        Route("/api/v1/query", api.answer("query", api.query), methods=_READ),
        Route("/api/v1/query_range", api.answer("query_range", api.query_range), methods=_READ),
        Route("/api/v1/explain", api.answer("explain", api.explain), methods=_READ),
        Route("/api/v1/series", api.answer("series", _series), methods=_READ),
        Route("/api/v1/labels", api.answer("labels", _labels), methods=_READ),
        Route("/api/v1/label/{name:path}/values", api.label_values),
        Route("/api/v1/metadata", api.answer("metadata", _metadata)),
        Route("/api/v1/format_query", api.answer("format_query", _format), methods=_READ),
        Route("/api/v1/parse_query", api.answer("parse_query", _parse), methods=_READ),
        Route("/api/v1/status/buildinfo", api.answer("buildinfo", _build_info)),
        Route("/api/v1/status/tsdb", api.answer("tsdb", _tsdb)),
        Route("/api/v1/query_exemplars", api.answer("exemplars", _exemplars), methods=_READ),
        *(Route(f"/api/v1/{path}", api.answer(path, _none_of(path))) for path in exemplars.EMPTY),
        Route("/-/healthy", _healthy),
        Route("/-/ready", api.ready),
        Route("/metrics", api.metrics),
        Route("/", _page),
        Route("/graph", _to_page),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=routes, exception_handlers={Exception: _internal})


class _Api:
    def __init__(self, service: Service, pool: ThreadPoolExecutor) -> None:
        self._service = service
        self._pool = pool

    def query(self, view: View, given: Parameters, cancelled: threading.Event) -> Answer:
        now_ms = self._service.clock.now_ms()
        return instant(view, given, self._service.options, cancelled, now_ms)

    def query_range(self, view: View, given: Parameters, cancelled: threading.Event) -> Answer:
        return range_(view, given, self._service.options, cancelled)

    def explain(self, view: View, given: Parameters, cancelled: threading.Event) -> Answer:
        now_ms = self._service.clock.now_ms()
        return explained(view, given, self._service.options, cancelled, now_ms)

    def answer(self, route: str, work: Work) -> Handler:
        """A handler that runs `work` in a thread and turns what it raises into an answer."""

        async def handle(request: Request) -> Response:
            start, status = time.monotonic(), 500
            try:
                response = await self._respond(request, work)
                status = response.status_code
            finally:
                metrics = self._service.metrics
                metrics.requests.labels(route, status).inc()
                metrics.seconds.labels(route).observe(time.monotonic() - start)
            return response

        return handle

    async def label_values(self, request: Request) -> Response:
        name = request.path_params["name"]

        def work(view: View, given: Parameters, _: threading.Event) -> Answer:
            return Answer(*catalogue.label_values(view, given, name))

        return await self.answer("label_values", work)(request)

    async def ready(self, _: Request) -> Response:
        state = self._service.state()
        if state:
            return PlainTextResponse(f"Varve is not ready: {state}\n", 503)
        return PlainTextResponse("Varve is ready.\n")

    async def metrics(self, request: Request) -> Response:
        metrics, view = self._service.metrics, self._service.view()
        if view is not None:
            metrics.series.set(view.index.size)
            metrics.cached_bytes.set(view.cached_bytes)
            complete_ms = view.provenance.complete_until_ms
            metrics.complete.set(math.nan if complete_ms is None else complete_ms / 1000)
            for table, version in view.provenance.versions.items():
                metrics.version.labels(table).set(version)
        text, content_type = metrics.telemetry.page(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    async def _respond(self, request: Request, work: Work) -> Response:
        view = self._service.view()
        if view is None:
            return failure(request, "unavailable", f"not ready: {self._service.state()}")
        try:
            given = await parameters(request)
        except BadRequest as err:
            return failure(request, "bad_data", str(err))
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._run, request, view, given, work, cancelled)
        while not (await asyncio.wait({future}, timeout=_DISCONNECT_S))[0]:
            if self._service.stopping.is_set() or await request.is_disconnected():
                cancelled.set()
        return future.result()

    def _run(
        self,
        request: Request,
        view: View,
        given: Parameters,
        work: Work,
        cancelled: threading.Event,
    ) -> Response:
        try:
            answer = work(view, given, cancelled)
        except BadRequest as err:
            return failure(request, "bad_data", str(err))
        except ParseError as err:
            # Where the query is wrong, in bytes of its UTF-8: the page marks it.
            span = {"start": err.span.start, "end": err.span.end}
            text = f'invalid parameter "query": {err}'
            return failure(request, "bad_data", text, position=span)
        except QueryError as err:
            return failure(request, err.error_type, str(err))
        self._service.metrics.samples.inc(answer.samples)
        return success(request, answer.data, view.provenance, answer.warnings, answer.infos)


def _series(view: View, given: Parameters, _: threading.Event) -> Answer:
    return Answer(*catalogue.series(view, given))


def _labels(view: View, given: Parameters, _: threading.Event) -> Answer:
    return Answer(*catalogue.label_names(view, given))


def _metadata(view: View, given: Parameters, _: threading.Event) -> Answer:
    return Answer(catalogue.metadata(view, given))


def _format(_: View, given: Parameters, __: threading.Event) -> Answer:
    return Answer(format_query(given))


def _parse(_: View, given: Parameters, __: threading.Event) -> Answer:
    return Answer(parse_query(given))


def _tsdb(view: View, given: Parameters, _: threading.Event) -> Answer:
    return Answer(catalogue.tsdb_status(view, given))


def _build_info(_: View, __: Parameters, ___: threading.Event) -> Answer:
    return Answer(catalogue.build_info())


def _exemplars(_: View, given: Parameters, __: threading.Event) -> Answer:
    return Answer(exemplars.exemplars(given))


def _none_of(path: str) -> Work:
    def work(_: View, __: Parameters, ___: threading.Event) -> Answer:
        return Answer(exemplars.EMPTY[path])

    return work


async def _internal(request: Request, err: Exception) -> Response:
    """A defect of ours: the answer names it, and Starlette raises it again for the log."""
    return failure(request, "internal", f"{type(err).__name__}: {err}; see the log of query")


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("Varve is healthy.\n")


async def _page(_: Request) -> Response:
    page = (STATIC / "index.html").read_bytes()
    return Response(page, headers=_PAGE_HEADERS, media_type="text/html; charset=utf-8")


async def _to_page(request: Request) -> Response:
    return RedirectResponse(f"/?{request.url.query}")
