"""The HTTP of scraping: its targets as a page and as Prometheus tells of them, probes and metrics.
Plain ASGI.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

from varve.access.credentials import Credentials, TooManyAttempts, Unauthenticated
from varve.gateway.push import Answer, json_answer, text_answer, text_refusal
from varve.gateway.refusals import Refused
from varve.gateway.scrape import targets_api
from varve.gateway.scrape.manager import Pool
from varve.gateway.selectors import any_of
from varve.model.errors import NeedsOperator

_PAGE = Path(__file__).with_name("page.html").read_bytes()
_SCRIPT = _PAGE.partition(b"<script>")[2].partition(b"</script>")[0]
# The page runs its own script and no other, whatever a label says.
_POLICY = (
    b"default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; form-action 'none';"
    b" base-uri 'none'; frame-ancestors 'none'; script-src"
    b" 'sha256-" + base64.b64encode(hashlib.sha256(_SCRIPT).digest()) + b"'"
)
_PAGE_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", _POLICY),
]


class About(Protocol):
    """What the application tells of."""

    @property
    def pools(self) -> Mapping[str, Pool]: ...

    def why_not_ready(self) -> str: ...

    def page(self, accept: str) -> tuple[bytes, str]: ...


class ScrapeApp:
    """An ASGI application."""

    def __init__(self, about: About, credentials: Credentials) -> None:
        self._about = about
        self._credentials = credentials

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],  # noqa: ARG002 - ASGI's
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            answer = await self._answer(scope, headers)
        except Refused as refused:
            answer = text_refusal(refused)
        size = (b"content-length", b"%d" % len(answer.body))
        start = {"type": "http.response.start", "status": answer.status}
        await send(start | {"headers": [*answer.headers, size]})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Mapping[str, Any], headers: Mapping[bytes, str]) -> Answer:
        path = scope["path"]
        if path == "/-/healthy":
            return text_answer(200, "Varve's scraping is healthy.\n")
        if path == "/-/ready":
            why = self._about.why_not_ready()
            return text_answer(503 if why else 200, f"not ready: {why}\n" if why else "ready\n")
        if path == "/metrics":
            body, kind = self._about.page(headers.get(b"accept", ""))
            return Answer(200, body, [(b"content-type", kind.encode())])
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, "this is read by GET")
        await self._require_login(headers.get(b"authorization", ""))
        if path in ("/", "/targets"):
            return Answer(200, _PAGE, _PAGE_HEADERS)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = {name: values[-1] for name, values in query.items()}
        return self._told(path, given)

    def _told(self, path: str, given: Mapping[str, str]) -> Answer:
        pools = self._about.pools
        if path == "/api/v1/targets":
            state, pool = given.get("state", ""), given.get("scrapePool", "")
            return _success(targets_api.targets(pools, state, pool))
        if path == "/api/v1/scrape_pools":
            return _success(targets_api.scrape_pools(pools))
        if path == "/api/v1/targets/metadata":
            limit = given.get("limit", "0")
            if not limit.lstrip("-").isdecimal():
                return _failure("limit must be a number")
            try:
                matches = any_of(given.get("match_target", "") or "{}", "match_target")
            except NeedsOperator as bad:
                return _failure(str(bad))
            metric = given.get("metric", "")
            return _success(targets_api.metadata(pools, matches, metric, max(int(limit), 0)))
        text = f"there is nothing at {path[:100]}: targets are at /api/v1/targets\n"
        return text_answer(404, text)

    async def _require_login(self, authorization: str) -> None:
        try:
            await self._credentials.principal(authorization)
        except Unauthenticated as err:
            raise Refused(401, str(err)) from None
        except TooManyAttempts as err:
            raise Refused(429, str(err), 5.0) from None


def _success(data: object) -> Answer:
    return json_answer(200, {"status": "success", "data": data})


def _failure(text: str) -> Answer:
    return json_answer(400, {"status": "error", "errorType": "bad_data", "error": text})
