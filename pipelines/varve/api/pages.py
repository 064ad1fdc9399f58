"""What is not Prometheus' JSON: health, the service's own metrics, and the web page."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from pathlib import Path
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from varve.api import status_endpoints
from varve.api.failures import failure
from varve.api.parameters import read_parameters
from varve.api.route_prefix import PREFIX
from varve.api.service import Service
from varve.model.errors import BadRequest, VarveError
from varve.query.times import parse_duration_ms, parse_time_ms

STATIC = Path(__file__).parent / "static"

# A parameter of a panel of Prometheus' page.
_PANEL = re.compile(r"g\d+\.")

# The page runs its own scripts only, talks to nobody else and is in nobody's frame.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


async def healthy(_: Service, __: Request) -> Response:
    return PlainTextResponse("Varve is healthy.\n")


async def ready(service: Service, _: Request) -> Response:
    state = service.state()
    if state:
        return PlainTextResponse(f"Varve is not ready: {state}\n", 503)
    lag = service.lag()
    return PlainTextResponse(
        f"Varve is ready, but its view lags: {lag}\n" if lag else "Varve is ready.\n"
    )


async def reload(service: Service, request: Request) -> Response:
    try:
        service.credentials = await asyncio.to_thread(service.reread_credentials)
    except VarveError as err:
        return failure(request, "execution", f"nothing is changed: {err}")
    return PlainTextResponse("")


async def active_queries(service: Service, _: Request) -> Response:
    found = {"status": "success", "data": {"queries": service.active.listed()}}
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


async def cancel(service: Service, request: Request) -> Response:
    try:
        number = (await read_parameters(request)).limit("id")
    except BadRequest as err:
        return failure(request, "bad_data", str(err))
    if not service.active.cancel(number):
        return failure(request, "not_found", f"no query with the id {number} is under way")
    return PlainTextResponse("")


async def components(service: Service, _: Request) -> Response:
    found = await asyncio.to_thread(service.components)
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


async def metrics(service: Service, request: Request) -> Response:
    metrics, view = service.metrics, service.view()
    if view is not None:
        metrics.series.set(view.index.size)
        metrics.cached_bytes.set(view.cached_bytes)
        complete_ms = view.provenance.complete_until_ms
        metrics.complete.set(math.nan if complete_ms is None else complete_ms / 1000)
        for table, version in view.provenance.versions.items():
            metrics.version.labels(table).set(version)
    for use, nbytes in service.memory.used.items():
        metrics.memory.labels(use).set(nbytes)
    text, content_type = metrics.telemetry.page(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})


async def page(_: Service, __: Request) -> Response:
    return _html("index.html")


async def alerts(_: Service, __: Request) -> Response:
    return _html("alerts.html")


async def anomalies(_: Service, __: Request) -> Response:
    return _html("anomalies.html")


async def capacity(_: Service, __: Request) -> Response:
    return _html("capacity.html")


async def graph(_: Service, request: Request) -> Response:
    prefix = request.scope.get(PREFIX, "")
    return RedirectResponse(f"{prefix}/?{urlencode(_shown(request.query_params))}")


async def version(_: Service, __: Request) -> Response:
    return JSONResponse(status_endpoints.version())


def _html(name: str) -> Response:
    text = (STATIC / name).read_bytes()
    return Response(text, headers=_PAGE_HEADERS, media_type="text/html; charset=utf-8")


def _shown(given: QueryParams) -> dict[str, str]:
    """What our page is asked for by a link to Prometheus' page: the first expression, its range,
    end, step and tab. Parameters of ours stay; times that cannot be read are left out.
    """
    shown = {name: value for name, value in given.items() if not _PANEL.match(name)}
    first = {name[3:]: value for name, value in given.items() if name.startswith("g0.")}
    if "expr" in first:
        shown["expr"] = first["expr"]
    for ours, name in (("range", "range_input"), ("step", "step_input")):
        with contextlib.suppress(ValueError):
            shown[ours] = str(max(1, parse_duration_ms(first.get(name, "")) // 1000))
    with contextlib.suppress(ValueError):
        end_ms = parse_time_ms(first.get("end_input", "").replace(" ", "T", 1) + "Z")
        shown["end"] = f"{end_ms / 1000:.0f}"
    # 0 and graph are the chart.
    if first.get("tab") in ("1", "table"):
        shown["tab"] = "table"
    return shown
