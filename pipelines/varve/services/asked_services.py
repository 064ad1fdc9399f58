"""What services of one kind say, rules or scraping, for the query service to tell as one."""

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


class AskedServices:
    """Asks them whenever it is asked: what they do, and how that goes, is nowhere else."""

    def __init__(self, settings: Settings, component: str, addresses: str) -> None:
        """component: which they are. addresses: where, comma separated; "" for the one that
        `varve up` runs in the home of the settings.
        """
        self._home = settings.home
        self._component = component
        self._addresses = [url.rstrip("/") for url in listed(addresses)]

    def ask(self, path: str) -> tuple[list[Any], list[str]]:
        """What each says under an address of Prometheus' API, and who says nothing and why."""
        urls = self._urls()
        if not urls:
            return [], []
        with ThreadPoolExecutor(len(urls)) as pool:
            answers = list(pool.map(lambda url: self._ask(f"{url}/api/v1/{path}"), urls))
        found = [answer for answer in answers if not isinstance(answer, str)]
        return found, [answer for answer in answers if isinstance(answer, str)]

    def _urls(self) -> list[str]:
        if self._addresses:
            return self._addresses
        record = read_status(self._home).get(self._component)
        if record is None or not record.alive() or "url" not in record.detail:
            return []
        return [str(record.detail["url"])]

    def _ask(self, url: str) -> Any:
        """The data of an answer, or why there is none."""
        try:
            with opener_to(url).open(url, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)["data"]
        except (OSError, http.client.HTTPException, ValueError, KeyError) as err:
            return f"the {self._component} service at {url} does not answer: {err}"
