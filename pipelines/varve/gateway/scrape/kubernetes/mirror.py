"""Keeps what a list of Kubernetes' API has: listed once, then watched.

Source: Kubernetes, "API concepts": efficient detection of changes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from varve.gateway.scrape.kubernetes.objects import Key, Object, key_of
from varve.notify.receivers.http_client import HttpClient

_PAGE = 500
_GONE = 410
# How long a watch is held, at least and at most; then it goes on with another.
_WATCH_S = (300, 600)
# Beyond the end that the server was asked for.
_GRACE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.8, 30.0
_JSON = {"accept": "application/json"}

log = logging.getLogger("varve.scrape.discovery")


class Expired(Exception):
    """The server does not know any more what has changed since: everything is listed again."""


class Refused(ValueError):
    """The server answers otherwise than with what was asked for."""


class Mirror:
    """Objects of one kind, of all namespaces or of one. What is known stays while the server is
    away.
    """

    def __init__(
        self,
        client: HttpClient,
        url: str,
        selectors: Sequence[tuple[str, str]],
        changed: Callable[[], None],
        *,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        """url: of the list. selectors: parameters that say which objects are meant. changed: is
        called after each change, and once all are known.
        """
        self._client = client
        self._url = url
        self._selectors = list(selectors)
        self._changed = changed
        self._first_pause_s = first_pause_s
        self._version = ""
        self.objects: dict[Key, Object] = {}
        self.is_known = False

    async def run(self) -> None:
        """Follows the list until it is cancelled."""
        pause_s = self._first_pause_s
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Expired:
                log.info("kubernetes_sd_configs: %s: the list is read again", self._url)
                self._version = ""
            except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as err:
                log.warning("kubernetes_sd_configs: %s: %s", self._url, str(err) or type(err))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s = self._first_pause_s
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    async def _list(self) -> None:
        """Reads all objects, page by page. Raises Expired if pages do not belong together."""
        found: dict[Key, Object] = {}
        after = ""
        while True:
            params = [*self._selectors, ("limit", str(_PAGE))]
            params += [("continue", after)] if after else []
            async with asyncio.timeout(_GRACE_S):
                answer = await self._client.get(self._address(params), _JSON)
            if answer.status_code == _GONE:
                raise Expired
            if answer.status_code != 200:
                raise Refused(f"status {answer.status_code}: {answer.text[:200]}")
            page = answer.json()
            found |= {key_of(each): each for each in page.get("items") or ()}
            after = page["metadata"].get("continue", "")
            if not after:
                break
        self._version = page["metadata"]["resourceVersion"]
        self.objects = found
        self.is_known = True
        self._changed()

    async def _watch(self) -> None:
        """Takes changes until the server ends the watch. Raises Expired."""
        seconds = random.randint(*_WATCH_S)  # noqa: S311 - so that not all ask at once
        params = [
            *self._selectors,
            ("watch", "1"),
            ("resourceVersion", self._version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(seconds)),
        ]
        lines = self._client.lines(self._address(params), _JSON)
        try:
            async with asyncio.timeout(seconds + _GRACE_S):
                status = (await anext(lines)).decode()
                if status == str(_GONE):
                    raise Expired
                if status != "200":
                    raise Refused(f"status {status}")
                async for line in lines:
                    if line.strip():
                        self._take(json.loads(line))
        finally:
            await lines.aclose()

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            if found.get("code") == _GONE:
                raise Expired
            raise Refused(f"{found.get('reason', '')}: {found.get('message', '')}"[:300])
        self._version = found["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self.objects.pop(key_of(found), None)
        else:
            self.objects[key_of(found)] = found
        self._changed()

    def _address(self, params: Sequence[tuple[str, str]]) -> str:
        return str(httpx.URL(self._url, params=list(params)))
