"""`varve serve collector`: this machine's metrics, and Varve's own, to Kafka until told to stop."""

from __future__ import annotations

import logging
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from varve.client import Counts, Producer, Sample
from varve.collectors.host import HostCollector
from varve.collectors.pages import ACCEPT, Page, PageTarget, fetch
from varve.collectors.readings import as_text
from varve.collectors.schedule import ticks
from varve.model.clock import SystemClock
from varve.services.own_services import opener_of_home
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus, read_status
from varve.settings import Settings
from varve.telemetry.metrics import CollectorMetrics
from varve.telemetry.registry import Telemetry

COMPONENT = "collector"
_QUERY = "query"

_log = logging.getLogger("varve.collector")

# While Kafka is away, what was measured waits as long as there is room: half an hour and more.
_DELIVERY_S = 3_600.0
# How long the stale markers of the end may take to be acknowledged.
_FLUSH_S = 10.0
# Pages fetched at once: one slow component must not hold up another's.
_AT_ONCE = 4


def instance_name(settings: Settings) -> str:
    """The label `instance` of this machine's series."""
    return settings.collector.instance or as_text(platform.node()) or "localhost"


class OwnPages:
    """The pages of metrics of this home's components, each a job varve-<component>.

    A component says in its status file where its page is; once it has, it stays a target, whose
    `up` is 0 while it does not answer.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        """telemetry: the metrics of this process."""
        self._settings = settings
        self._instance = instance_name(settings)
        # Less than an interval, so that no tick is left out.
        self._timeout_s = min(2.0, settings.collector.interval_s * 0.8)
        self._urls: dict[str, str] = {}
        self._targets = {
            COMPONENT: PageTarget(
                f"varve-{COMPONENT}", self._instance, lambda: _read_own(telemetry)
            )
        }
        self._failing: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pages")

    def scrape(self, ts_ms: int) -> list[Sample]:
        """Samples of all pages, all at ts_ms."""
        for name, record in read_status(self._settings.home).items():
            if url := record.detail.get("metrics"):
                self._urls[name] = url
                if name not in self._targets:
                    self._targets[name] = PageTarget(
                        f"varve-{name}", self._instance, partial(self._fetch, name)
                    )
        scraped = self._pool.map(lambda target: target.scrape(ts_ms), self._targets.values())
        samples = [sample for page in scraped for sample in page]
        self._say_what_changed()
        return samples

    def end(self, ts_ms: int) -> list[Sample]:
        """A staleness marker for every living series."""
        self._pool.shutdown()
        return [sample for target in self._targets.values() for sample in target.end(ts_ms)]

    def _fetch(self, name: str) -> Page:
        if name == _QUERY:  # it may want a token
            return fetch(self._urls[name], self._timeout_s, opener_of_home(self._settings))
        return fetch(self._urls[name], self._timeout_s)

    def _say_what_changed(self) -> None:
        failing = {name: t.error for name, t in self._targets.items() if t.error}
        for name in failing.keys() - self._failing.keys():
            _log.warning("no metrics of %s at %s: %s", name, self._urls.get(name), failing[name])
        for name in self._failing.keys() - failing.keys():
            _log.info("metrics of %s again", name)
        self._failing = failing


def run(settings: Settings) -> int:
    """Blocks until SIGTERM or SIGINT; 0 if every sample reached Kafka by then, else 1."""
    stop = stop_requested()
    status = ComponentStatus(settings.home, COMPONENT)
    status.update(state="starting")
    clock = SystemClock()
    interval_ms = round(settings.collector.interval_s * 1000)
    last_ms, reported = 0, 0
    telemetry = Telemetry()
    metrics = CollectorMetrics(telemetry)
    pages = OwnPages(settings, telemetry) if settings.telemetry.collected else None
    with Producer(
        settings.kafka.servers(),
        settings.kafka.topics.raw,
        options=settings.kafka.client_options(),
        client_id="varve-collector",
        delivery_s=_DELIVERY_S,
    ) as producer:
        collector = HostCollector(
            instance_name(settings),
            on_unreadable=lambda source, parts: metrics.unreadable.labels(source).set(parts),
        )
        shown = Counts(0, 0, 0, "")
        for tick_ms in ticks(clock, interval_ms, stop):
            counts = producer.counts()
            _record(metrics, counts, since=shown)
            shown = counts
            samples = collector.scrape(tick_ms)
            # The machine's are not held up by a component that is slow to answer.
            producer.put(samples)
            if pages is not None:
                own = pages.scrape(tick_ms)
                producer.put(own)
                samples += own
            if counts.lost > reported:
                _log.warning("%d samples lost: %s", counts.lost - reported, counts.last_error)
                reported = counts.lost
            last_ms = tick_ms
            status.update(state="ready", detail=_detail(counts, len(samples), tick_ms))
            status.progressed()
        # After the last sample, even if the clock was set back.
        end_ms = max(clock.now_ms(), last_ms + 1)
        producer.put(collector.end(end_ms))
        if pages is not None:
            producer.put(pages.end(end_ms))
        counts = producer.close(_FLUSH_S)
    status.update(state="stopped", detail=_detail(counts, 0, last_ms))
    if counts.lost:
        _log.warning("%d samples never reached Kafka: %s", counts.lost, counts.last_error)
    return 1 if counts.lost else 0


def _read_own(telemetry: Telemetry) -> Page:
    body, content_type = telemetry.page(ACCEPT)
    return body.decode(), content_type


def _record(metrics: CollectorMetrics, counts: Counts, *, since: Counts) -> None:
    metrics.sent.inc(counts.acknowledged - since.acknowledged)
    metrics.lost.inc(counts.lost - since.lost)
    metrics.waiting.set(counts.waiting)


def _detail(counts: Counts, series: int, tick_ms: int) -> dict[str, object]:
    return {
        "series": series,
        "newest_ms": tick_ms,
        "samples": counts.acknowledged,
        "waiting": counts.waiting,
        "lost": counts.lost,
        "last_error": counts.last_error or None,
    }
