"""Reads a target: what is asked for, what may come back.

Source: Prometheus, scrape/scrape.go, targetScraper, acceptHeader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from varve.gateway.content_encoding import plain_body
from varve.gateway.exposition.formats import OPEN_METRICS, PROTOBUF, TEXT
from varve.gateway.refusals import Refused
from varve.gateway.scrape.config import ScrapeConfig
from varve.notify.receivers.addresses import GuardedBackend, Networks
from varve.notify.receivers.http_client import HttpClient
from varve.promql.syntax.literals import format_number

_MESSAGE = f"{PROTOBUF};proto=io.prometheus.client.MetricFamily;encoding=delimited"
_MEDIA_TYPES = {
    "PrometheusProto": _MESSAGE,
    "OpenMetricsText1.0.0": f"{OPEN_METRICS};version=1.0.0",
    "OpenMetricsText0.0.1": f"{OPEN_METRICS};version=0.0.1",
    "PrometheusText1.0.0": f"{TEXT};version=1.0.0",
    "PrometheusText0.0.4": f"{TEXT};version=0.0.4",
}
_WITH_ESCAPING = ("OpenMetricsText1.0.0", "PrometheusText1.0.0")
_FALLBACKS = {
    "PrometheusProto": PROTOBUF,
    "OpenMetricsText1.0.0": OPEN_METRICS,
    "OpenMetricsText0.0.1": OPEN_METRICS,
    "PrometheusText1.0.0": TEXT,
    "PrometheusText0.0.4": TEXT,
}
MOST_BYTES = 256 * 2**20
"""Of a body without body_size_limit, once it is expanded."""


class ScrapeFailed(ValueError):
    """A target could not be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """A body, expanded, and what it says it is. size: as it counts for scrape_body_size_bytes."""

    body: bytes
    content_type: str


class TargetClient:
    """Reads the targets of a job. For one event loop."""

    def __init__(self, job: ScrapeConfig, networks: Networks) -> None:
        """networks: those that may be connected to; empty for all but what is never connected to:
        link-local addresses and metadata services of clouds.
        """
        self._job = job
        self._most = job.body_size_limit or MOST_BYTES
        self._client = HttpClient(
            job,
            backend=NetworksBackend(networks),
            longest_body=self._most,
            most_connections=10_000,
        )
        self._headers = {
            "accept": accept_header(job.protocols, job.escaping),
            "accept-encoding": "gzip" if job.enable_compression else "identity",
        }

    async def read(self, url: str, timeout_ms: int) -> Scraped:
        """Raises ScrapeFailed. The caller bounds the time."""
        headers = self._headers | {
            "x-prometheus-scrape-timeout-seconds": format_number(timeout_ms / 1000)
        }
        try:
            answer = await self._client.get(url, headers)
        except (httpx.HTTPError, OSError) as err:
            raise ScrapeFailed(str(err) or type(err).__name__) from err
        if answer.status_code != 200:
            reason = answer.reason_phrase
            raise ScrapeFailed(f"server returned HTTP status {answer.status_code} {reason}".strip())
        encoding = answer.extensions.get("content_encoding", "")
        if len(answer.content) > self._most:
            raise ScrapeFailed(f"body size limit exceeded: over {self._most:,} bytes")
        try:
            body = plain_body(answer.content, encoding, self._most)
        except Refused as err:
            why = "body size limit exceeded" if err.status == 413 else "body cannot be expanded"
            raise ScrapeFailed(f"{why}: {err}") from err
        return Scraped(body, answer.headers.get("content-type", ""))

    def fallback(self) -> str:
        """The format of bodies whose content type says none; "" to refuse them."""
        return _FALLBACKS.get(self._job.fallback_scrape_protocol, "")

    async def close(self) -> None:
        await self._client.close()


def accept_header(protocols: Sequence[str], escaping: str) -> str:
    """What is asked for, the best first.

    >>> accept_header(["PrometheusText0.0.4"], "underscores")
    'text/plain;version=0.0.4;q=0.6,*/*;q=0.5'
    """
    weight = len(_MEDIA_TYPES) + 1
    parts = []
    for protocol in protocols:
        part = _MEDIA_TYPES[protocol]
        if protocol in _WITH_ESCAPING:
            part += f";escaping={escaping}"
        parts.append(f"{part};q=0.{weight}")
        weight -= 1
    return ",".join([*parts, f"*/*;q=0.{weight}"])


class NetworksBackend(GuardedBackend):
    """Connects to addresses of some networks only, whatever a name or a redirect says."""

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks, "scrape.networks")
