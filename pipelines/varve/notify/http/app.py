"""The ASGI application: API v2, health, reload and metrics under a prefix.

Requests run in the event loop, as the notifier does. Long answers are made in pieces: alerts and
timers come in between.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from varve.notify.driver import NotStored
from varve.notify.groups import Entry
from varve.notify.http import api, link_page, on_call_api
from varve.notify.http.bodies import Query, Refused, read_alerts
from varve.notify.http.service import NotifyService
from varve.notify.notifier import Notifier
from varve.notify.oncall import signed_links
from varve.notify.oncall.signed_links import Acknowledging
from varve.notify.times import format_ms

MOST_BODY_BYTES = 64 << 20
"""A request may be so long: 100,000 alerts are half of it."""

# So many alerts are made into JSON before others get their turn: some ms.
_PIECE = 200
# So many are taken in before others get their turn.
_ALERTS_AT_ONCE = 1_000

_PAGE = Path(__file__).with_name("page.html").read_text()
_SCRIPT = _PAGE.partition("<script>")[2].partition("</script>")[0]
# The page runs its own script and no other, whatever a label says.
_PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; form-action 'none';"
    " base-uri 'none'; frame-ancestors 'none'; script-src"
    f" 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'"
)

Linked = tuple[Acknowledging, list[Entry]]
Handler = Callable[[NotifyService, Request], Awaitable[Response]]


class LinkRefused(Refused):
    """A link in a message cannot be used: a person is told so, by a page."""


def create_app(service: NotifyService, middleware: Sequence[Middleware] = ()) -> Starlette:
    prefix = service.route_prefix.rstrip("/")
    routes = [
        Route(prefix + path, _handled(service, path, handler), methods=methods)
        for path, methods, handler in _ROUTES
    ]
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={
            404: partial(_no_route, prefix),
            405: partial(_no_method, routes),
            Exception: _internal,
        },
    )


def _handled(service: NotifyService, path: str, handler: Handler) -> Any:
    async def handle(request: Request) -> Response:
        began_s, status = time.monotonic(), 500
        try:
            response = await handler(service, request)
            status = response.status_code
        except LinkRefused as err:
            status = err.status
            response = link_page.refused(str(err), status)
        except Refused as err:
            status = err.status
            response = _json(err.body, status)
        except NotStored as err:
            status = 503
            response = _json(f"the change is not stored: {err}", status)
        finally:
            metrics = service.metrics
            metrics.requests.labels(path, request.method, status).inc()
            metrics.request_seconds.labels(path).observe(time.monotonic() - began_s)
        return response

    return handle


async def _post_alerts(service: NotifyService, request: Request) -> Response:
    sendings = read_alerts(await _json_body(request))
    wrong: list[str] = []
    for start in range(0, len(sendings), _ALERTS_AT_ONCE):
        part = sendings[start : start + _ALERTS_AT_ONCE]
        wrong += await service.driver.change(partial(service.notifier.put_alerts, part))
    api.refuse(wrong)
    return Response(status_code=200)


async def _get_alerts(service: NotifyService, request: Request) -> Response:
    return await _list(api.get_alerts(service.notifier, _query(service, request), service.now_ms()))


async def _get_groups(service: NotifyService, request: Request) -> Response:
    return await _list(api.get_groups(service.notifier, _query(service, request), service.now_ms()))


async def _post_silence(service: NotifyService, request: Request) -> Response:
    body = await _json_body(request)
    return _json(await service.driver.change(partial(api.post_silence, service.notifier, body)))


async def _get_silences(service: NotifyService, request: Request) -> Response:
    query = _query(service, request)
    return await _list(api.get_silences(service.notifier, query, service.now_ms()))


async def _get_silence(service: NotifyService, request: Request) -> Response:
    silence_id = request.path_params["id"]
    return _json(api.get_silence(service.notifier, silence_id, service.now_ms()))


async def _delete_silence(service: NotifyService, request: Request) -> Response:
    silence_id = request.path_params["id"]
    await service.driver.change(partial(api.delete_silence, service.notifier, silence_id))
    return Response(status_code=200)


async def _get_receivers(service: NotifyService, request: Request) -> Response:  # noqa: ARG001
    return _json(api.get_receivers(service.notifier))


async def _get_status(service: NotifyService, request: Request) -> Response:  # noqa: ARG001
    return _json(
        {
            "cluster": service.cluster(),
            "config": {"original": service.notifier.config.original},
            "uptime": format_ms(service.started_ms),
            "versionInfo": service.version,
        }
    )


async def _get_on_call(service: NotifyService, request: Request) -> Response:  # noqa: ARG001
    return _json(on_call_api.get_on_call(service.notifier, service.now_ms()))


async def _acknowledge(service: NotifyService, request: Request) -> Response:
    body = await _body(request)
    return _json(
        await service.driver.change(partial(on_call_api.acknowledge, service.notifier, body))
    )


async def _show_link(service: NotifyService, request: Request) -> Response:
    """Asks whether to acknowledge: programs that look at every link of a mail change nothing."""
    return link_page.asking(*_followed(on_call_api.linked, service, request, service.now_ms()))


async def _follow_link(service: NotifyService, request: Request) -> Response:
    change = partial(_followed, on_call_api.acknowledge_linked, service, request)
    return link_page.done(*await service.driver.change(change))


def _followed(
    follow: Callable[[Notifier, Mapping[str, str], int], Linked],
    service: NotifyService,
    request: Request,
    now_ms: int,
) -> Linked:
    """What a link is about. Raises LinkRefused."""
    try:
        return follow(service.notifier, request.query_params, now_ms)
    except Refused as err:
        raise LinkRefused(err.status, str(err)) from None


async def _reload(service: NotifyService, request: Request) -> Response:  # noqa: ARG001
    if why := await service.reload():
        return PlainTextResponse(f"failed to reload config: {why}\n", status_code=500)
    return Response(status_code=200)


async def _healthy(service: NotifyService, request: Request) -> Response:  # noqa: ARG001
    return PlainTextResponse("OK")


async def _ready(service: NotifyService, request: Request) -> Response:  # noqa: ARG001
    if not service.can_tell:
        return PlainTextResponse("starting", status_code=503)
    return PlainTextResponse("OK")


async def _metrics(service: NotifyService, request: Request) -> Response:
    service.refresh_metrics()
    accept = request.headers.get("accept", "")
    body, kind = service.metrics.telemetry.page(accept)
    return Response(body, media_type=kind)


async def _page(service: NotifyService, request: Request) -> Response:  # noqa: ARG001
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _PAGE_POLICY})


_ROUTES: tuple[tuple[str, list[str], Handler], ...] = (
    ("/", ["GET"], _page),
    ("/api/v2/alerts", ["GET"], _get_alerts),
    ("/api/v2/alerts", ["POST"], _post_alerts),
    ("/api/v2/alerts/groups", ["GET"], _get_groups),
    ("/api/v2/silences", ["GET"], _get_silences),
    ("/api/v2/silences", ["POST"], _post_silence),
    ("/api/v2/silence/{id}", ["GET"], _get_silence),
    ("/api/v2/silence/{id}", ["DELETE"], _delete_silence),
    ("/api/v2/receivers", ["GET"], _get_receivers),
    ("/api/v2/status", ["GET"], _get_status),
    ("/api/v1/oncall", ["GET"], _get_on_call),
    ("/api/v1/acknowledge", ["POST"], _acknowledge),
    (signed_links.PATH, ["GET"], _show_link),
    (signed_links.PATH, ["POST"], _follow_link),
    ("/-/reload", ["POST"], _reload),
    ("/-/healthy", ["GET", "HEAD"], _healthy),
    ("/-/ready", ["GET", "HEAD"], _ready),
    ("/metrics", ["GET"], _metrics),
)


def _query(service: NotifyService, request: Request) -> Query:
    return Query(request.query_params.multi_items(), service.notifier.options.mode)


async def _body(request: Request) -> bytes:
    """Raises Refused if it is too long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BODY_BYTES:
            raise Refused(413, f"the body is over {MOST_BODY_BYTES >> 20} MiB: send it in parts")
        parts.append(part)
    return b"".join(parts)


async def _json_body(request: Request) -> bytes:
    """Raises Refused if there is a body, and it is not said to be JSON."""
    body = await _body(request)
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0]
    if body and kind.strip().lower() != "application/json":
        why = f'unsupported media type "{kind}", only [application/json] are allowed'
        raise Refused(415, why, 415)
    return body


async def _list(found: Iterable[api.Json]) -> Response:
    """A list in JSON, made in pieces."""
    parts: list[bytes] = []
    piece: list[api.Json] = []
    for item in found:
        piece.append(item)
        if len(piece) == _PIECE:
            parts.append(msgspec.json.encode(piece)[1:-1])
            piece = []
            await asyncio.sleep(0)
    if piece:
        parts.append(msgspec.json.encode(piece)[1:-1])
    return Response(b"[" + b",".join(parts) + b"]", media_type="application/json")


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


async def _no_route(prefix: str, request: Request, err: Exception) -> Response:  # noqa: ARG001
    path = request.url.path
    if path.startswith(f"{prefix}/api/"):
        why = f"path {path.removeprefix(prefix)} was not found"
        return _json(Refused(404, why, 404).body, 404)
    return PlainTextResponse("Not Found", status_code=404)


async def _no_method(routes: Sequence[Route], request: Request, err: Exception) -> Response:  # noqa: ARG001
    """Names all methods of a path, each of which is a route of its own."""
    allowed = sorted(
        method
        for route in routes
        if route.path_regex.match(request.url.path)
        for method in (route.methods or set()) - {"HEAD"}
    )
    why = f"method {request.method} is not allowed, but [{','.join(allowed)}] are"
    response = (
        _json(Refused(405, why, 405).body, 405)
        if "/api/" in request.url.path
        else PlainTextResponse("Method Not Allowed", status_code=405)
    )
    response.headers["Allow"] = ",".join(allowed)
    return response


async def _internal(request: Request, err: Exception) -> Response:  # noqa: ARG001
    """A defect of ours: the answer names it, and Starlette raises it again for the log."""
    return _json(f"{type(err).__name__}; see the log of notify", 500)
