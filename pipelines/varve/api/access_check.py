"""ASGI middleware that refuses requests: of foreign pages, and of those who are not known."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from varve.access.browsers import BrowserRules
from varve.access.credentials import (
    ANYBODY,
    CHALLENGE,
    Credentials,
    Principal,
    TooManyAttempts,
    Unauthenticated,
)
from varve.access.credentials import Scope as Permission
from varve.api.failures import failure

# Probes name no host that is known here, and learn nothing from the answer.
_PROBES = frozenset({"/-/healthy", "/-/ready"})
# Pages have nothing of the tables, and ask for a token themselves.
_PAGES = frozenset({"/", "/graph", "/query", "/alerts", "/anomalies", "/capacity"})
_STATIC = "/static/"
_PRINCIPAL = "varve.principal"
_ASK_AGAIN_S = 5


class BrowserCheck:
    """Refuses with 403 what the rules for browsers do not allow."""

    def __init__(self, app: ASGIApp, rules: BrowserRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (why := self._refusal(Request(scope))):
            await failure(Request(scope), "forbidden", why)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> str:
        """Why the request is refused; "" if it is not."""
        headers = request.headers
        host = headers.get("host", "")
        if request.scope["path"] not in _PROBES and not self._rules.allows_host(host):
            return f"the host {host!r} is not known here: {self._rules.host_remedy}"
        origin, site = headers.get("origin", ""), headers.get("sec-fetch-site", "")
        if not self._rules.allows_origin(request.method, host, origin, site):
            return (
                f"a page of {origin or 'another site'} may not send this:"
                f" {self._rules.origin_remedy}"
            )
        return ""


class Authentication:
    """Refuses with 401 who is not known, and notes on the request who it is from.

    Probes, the page itself and questions of CORS are answered in any case.
    """

    def __init__(self, app: ASGIApp, credentials: Callable[[], Credentials]) -> None:
        """credentials: those that count now."""
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope):
            request = Request(scope)
            given = request.headers.get("authorization", "")
            try:
                scope[_PRINCIPAL] = await self._credentials().principal(given)
            except Unauthenticated as err:
                refusal = failure(request, "unauthorized", str(err))
                # A browser would ask on its own, over the page, which asks as well.
                if "sec-fetch-mode" not in request.headers:
                    refusal.headers["WWW-Authenticate"] = CHALLENGE
                await refusal(scope, receive, send)
                return
            except TooManyAttempts as err:
                refusal = failure(request, "unavailable", str(err), retry_after_s=_ASK_AGAIN_S)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def principal_of(request: Request) -> Principal:
    """Who a request is from; anybody where nobody is asked who they are."""
    found: Principal = request.scope.get(_PRINCIPAL, ANYBODY)
    return found


def needs_scope(scope: Permission) -> str:
    """What somebody is told who may not do something."""
    return f"this needs the scope {scope.value}: name the token or user in query.admins"


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return (
        scope["method"] == "OPTIONS"
        or path in _PROBES
        or path in _PAGES
        or path.startswith(_STATIC)
    )
