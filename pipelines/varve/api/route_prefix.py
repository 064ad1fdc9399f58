"""The service below a path of a proxy's, such as /varve."""

from __future__ import annotations

from typing import Final

from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "varve.prefix"
"""Key of a request's scope: what was taken off its path."""


class Prefixed:
    """An application whose addresses all begin with a prefix; nothing is elsewhere."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """prefix: with a slash at its beginning and none at its end."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path in ("/", self._prefix):
            await RedirectResponse(f"{self._prefix}/")(scope, receive, send)
        elif path.startswith(f"{self._prefix}/"):
            inner = {**scope, "path": path[len(self._prefix) :], PREFIX: self._prefix}
            await self._app(inner, receive, send)
        else:
            text = f"there is nothing here: all is below {self._prefix}/\n"
            await Response(text, 404)(scope, receive, send)
