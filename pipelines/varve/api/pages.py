"""What is not Prometheus' JSON: health, the service's own metrics, and the web page."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from varve.api.service import Service

STATIC = Path(__file__).parent / "static"

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
    text = (STATIC / "index.html").read_bytes()
    return Response(text, headers=_PAGE_HEADERS, media_type="text/html; charset=utf-8")


async def graph(_: Service, request: Request) -> Response:
    return RedirectResponse(f"/?{request.url.query}")
