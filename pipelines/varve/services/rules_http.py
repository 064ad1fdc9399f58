"""HTTP of the rules service: what it evaluates in Prometheus' shapes, health, reload, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from varve.access.browsers import BrowserRules
from varve.api.access_check import BrowserCheck
from varve.api.failures import JSON, encoded, failure, to_json
from varve.model.errors import BadRequest
from varve.rules import api_json
from varve.rules.api_filter import RuleFilter
from varve.rules.group_run import Evaluator, GroupRun
from varve.telemetry.registry import Telemetry


@dataclass(frozen=True, slots=True)
class RulesService:
    """What the endpoints ask. reload: why the old rules stay, or "". waiting: why nothing is
    evaluated yet, or "".
    """

    groups: Callable[[], list[GroupRun]]
    evaluator: Evaluator
    notifiers: Callable[[], dict[str, Any]]
    reload: Callable[[], str]
    waiting: Callable[[], str]
    telemetry: Telemetry
    browsers: BrowserRules


Handler = Callable[[RulesService, Request], Awaitable[Response]]


def create_app(service: RulesService) -> Starlette:
    """The application."""
    routes = [
        Route(path, _handled(service, handler), methods=methods)
        for path, methods, handler in _ROUTES
    ]
    return Starlette(routes=routes, middleware=[Middleware(BrowserCheck, rules=service.browsers)])


def _handled(service: RulesService, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            return await handler(service, request)
        except BadRequest as err:
            return failure(request, "bad_data", str(err))

    return handle


async def _rules(service: RulesService, request: Request) -> Response:
    wanted = RuleFilter.of(request.query_params.multi_items())
    found = await run_in_threadpool(
        lambda: wanted.apply(api_json.rules(service.groups(), service.evaluator)["groups"])
    )
    return _data(request, found)


async def _alerts(service: RulesService, request: Request) -> Response:
    return _data(request, await run_in_threadpool(lambda: api_json.alerts(service.groups())))


async def _notifiers(service: RulesService, request: Request) -> Response:
    return _data(request, service.notifiers())


async def _reload(service: RulesService, request: Request) -> Response:  # noqa: ARG001
    if why := await run_in_threadpool(service.reload):
        return PlainTextResponse(f"failed to reload rules: {why}\n", status_code=500)
    return Response(status_code=200)


async def _healthy(service: RulesService, request: Request) -> Response:  # noqa: ARG001
    return PlainTextResponse("Varve rules is Healthy.\n")


async def _ready(service: RulesService, request: Request) -> Response:  # noqa: ARG001
    if why := service.waiting():
        return PlainTextResponse(f"not ready: {why}\n", status_code=503)
    return PlainTextResponse("Varve rules is Ready.\n")


async def _metrics(service: RulesService, request: Request) -> Response:
    body, kind = service.telemetry.page(request.headers.get("accept", ""))
    return Response(body, media_type=kind)


_READ: Final = ["GET", "HEAD"]
_ROUTES: Final[tuple[tuple[str, list[str], Handler], ...]] = (
    ("/api/v1/rules", _READ, _rules),
    ("/api/v1/alerts", _READ, _alerts),
    ("/api/v1/alertmanagers", _READ, _notifiers),
    ("/-/reload", ["POST", "PUT"], _reload),
    ("/-/healthy", _READ, _healthy),
    ("/-/ready", _READ, _ready),
    ("/metrics", _READ, _metrics),
)


def _data(request: Request, data: Any) -> Response:
    body, headers = encoded(request, to_json({"status": "success", "data": data}))
    return Response(body, 200, headers, JSON)
