"""Pages of metrics in the text formats of Prometheus and OpenMetrics, as samples."""

from __future__ import annotations

import http.client
import itertools
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

from varve.client import Sample
from varve.collectors.readings import Family, Reading, Target, gauge
from varve.model.identity import MetricType

MAX_SERIES = 2_000
"""The most series of a page: one that grows beyond is a defect, and must not become a storm."""
MAX_BYTES = 4 * 2**20

ACCEPT = "application/openmetrics-text; version=1.0.0, text/plain; version=0.0.4; q=0.5"
_OPEN = "application/openmetrics-text"
_TYPES: dict[str, MetricType] = {kind: kind for kind in get_args(MetricType)}
# One of our own pages is on this machine: no proxy, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

_UP = gauge("up", "", "1 while the target can be measured.")
_DURATION = gauge("scrape_duration_seconds", "seconds", "Time the scrape took.")
_SCRAPED = gauge("scrape_samples_scraped", "", "Samples the target had to give.")

Page = tuple[str, str]
"""The text of a page and its content type."""


class PageTarget:
    """A page that is scraped under a job and an instance. One thread at a time may use it."""

    def __init__(self, job: str, instance: str, fetch: Callable[[], Page]) -> None:
        """fetch: the page; raises OSError or ValueError if it cannot be had."""
        self._target = Target(job, instance)
        self._fetch = fetch
        self.error = ""
        """Why the last scrape failed; empty if it did not."""

    def scrape(self, ts_ms: int) -> list[Sample]:
        """Samples of every series, all at ts_ms, beside those of Prometheus on the scrape itself.

        If it fails, up is 0 and the series end.
        """
        began = time.perf_counter()
        try:
            readings = _bounded(parse(*self._fetch()))
            self.error = ""
        except Exception as err:  # noqa: BLE001 - whatever ails a page, the others are sent
            readings, self.error = [], str(err) or type(err).__name__
        itself = (
            Reading(_UP, {}, float(not self.error)),
            Reading(_DURATION, {}, time.perf_counter() - began),
            Reading(_SCRAPED, {}, float(len(readings))),
        )
        return self._target.samples((*readings, *itself), ts_ms)

    def end(self, ts_ms: int) -> list[Sample]:
        """A staleness marker for every living series."""
        return self._target.end(ts_ms)


def fetch(url: str, timeout_s: float, opener: urllib.request.OpenerDirector = _DIRECT) -> Page:
    """Fetches a page over HTTP.

    Raises OSError if nobody answers; ValueError for a page beyond MAX_BYTES, and if what answers
    does not speak HTTP.
    """
    request = urllib.request.Request(url, headers={"Accept": ACCEPT})  # noqa: S310 - http only
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            body = answer.read(MAX_BYTES + 1)
            kind = answer.headers.get("Content-Type", "")
    except http.client.HTTPException as err:
        raise ValueError(f"no answer of HTTP: {err!r}") from err
    if len(body) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    return body.decode(), kind


def parse(text: str, content_type: str) -> Iterator[Reading]:
    """Yields what a page says, without the times series began. Raises ValueError if malformed."""
    read = open_metrics if content_type.startswith(_OPEN) else prometheus_text
    for family in read(text):
        yield from _readings(family)


def _bounded(readings: Iterator[Reading]) -> list[Reading]:
    """All readings. Raises ValueError beyond MAX_SERIES."""
    found = list(itertools.islice(readings, MAX_SERIES + 1))
    if len(found) > MAX_SERIES:
        raise ValueError(f"over {MAX_SERIES} series")
    return found


def _readings(family: Metric) -> Iterator[Reading]:
    kind = _TYPES.get(family.type, "unknown")
    for name, labels, value, *_ in family.samples:
        if not name.endswith("_created"):
            yield Reading(Family(name, kind, family.unit, family.documentation), labels, value)
