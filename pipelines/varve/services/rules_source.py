"""The rules and alerts of all rules services, for the query service."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from varve.services.own_services import opener_to
from varve.services.status import read_status
from varve.settings import Settings
from varve.settings.rules import listed

_TIMEOUT_S = 5.0
COMPONENT = "rules"


class RulesSource:
    """Asks them whenever it is asked: what they evaluate, with its health, is nowhere else."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def ask(self, path: str) -> tuple[list[Any], list[str]]:
        """What each says under an address of Prometheus' API, and who says nothing and why."""
        urls = self._urls()
        if not urls:
            return [], []
        with ThreadPoolExecutor(len(urls)) as pool:
            answers = list(pool.map(lambda url: _ask(f"{url}/api/v1/{path}"), urls))
        found = [answer for answer in answers if not isinstance(answer, str)]
        return found, [answer for answer in answers if isinstance(answer, str)]

    def _urls(self) -> list[str]:
        named = listed(self._settings.rules.services)
        if named:
            return [url.rstrip("/") for url in named]
        record = read_status(self._settings.home).get(COMPONENT)
        if record is None or not record.alive() or "url" not in record.detail:
            return []
        return [str(record.detail["url"])]


def _ask(url: str) -> Any:
    """The data of an answer, or why there is none."""
    try:
        with opener_to(url).open(url, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)["data"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as err:
        return f"the rules service at {url} does not answer: {err}"
