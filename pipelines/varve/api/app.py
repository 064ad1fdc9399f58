"""The query service as an ASGI application: Prometheus' HTTP API, the page, health and metrics.

endpoints.py has the addresses, runner.py answers them in threads; the event loop only waits.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from varve.api.access_check import Authentication, BrowserCheck, needs_scope, principal_of
from varve.api.endpoints import ENDPOINTS, PAGES, Page
from varve.api.failures import failure
from varve.api.pages import STATIC
from varve.api.route_prefix import Prefixed
from varve.api.runner import Handler, Runner
from varve.api.service import Service
from varve.query.provenance import HEADERS


def create_app(service: Service) -> ASGIApp:
    """The application; it owns no threads but those that its queries run in."""
    runner = Runner(service)
    routes: list[BaseRoute] = [
        Route(e.address, runner.handler(e), methods=list(e.methods)) for e in ENDPOINTS
    ]
    routes += [Route(e.address, _options, methods=["OPTIONS"]) for e in ENDPOINTS]
    routes += [Route(p.path, _handler(service, p), methods=list(p.methods)) for p in PAGES]
    routes.append(Mount("/static", StaticFiles(directory=STATIC)))
    middleware = [Middleware(BrowserCheck, rules=service.browsers)]
    if service.browsers.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=sorted(service.browsers.origins),
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization"],
                expose_headers=sorted(HEADERS),
            )
        )
    middleware.append(Middleware(Authentication, credentials=lambda: service.credentials))
    app = Starlette(routes=routes, middleware=middleware, exception_handlers={Exception: _internal})
    return Prefixed(app, service.route_prefix) if service.route_prefix else app


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
