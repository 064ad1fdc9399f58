"""`varve serve collector`: this machine's metrics to Kafka until told to stop."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator

from varve.client import Counts, Producer
from varve.collectors.host import LOST, SOURCES, HostCollector, Reading
from varve.collectors.schedule import ticks
from varve.model.clock import SystemClock
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus
from varve.settings import Settings

_log = logging.getLogger("varve.collector")

# How long the stale markers of the end may take to be acknowledged.
_FLUSH_S = 10.0


def instance_name(settings: Settings) -> str:
    """Label instance of this machine's series."""
    return settings.collector.instance or platform.node() or "localhost"


def run(settings: Settings) -> int:
    """Blocks until SIGTERM or SIGINT; 0 if every sample reached Kafka by then, else 1."""
    stop = stop_requested()
    status = ComponentStatus(settings.home, "collector")
    status.update(state="starting")
    clock = SystemClock()
    interval_ms = round(settings.collector.interval_s * 1000)
    last_ms, reported = 0, 0
    with Producer(
        settings.kafka.servers(),
        settings.kafka.topics.raw,
        options=settings.kafka.client_options(),
        client_id="varve-collector",
    ) as producer:

        def losses() -> Iterator[Reading]:
            yield Reading(LOST, {}, float(producer.counts().lost))

        collector = HostCollector(instance_name(settings), SOURCES | {"losses": losses})
        for tick_ms in ticks(clock, interval_ms, stop):
            counts = producer.counts()
            samples = collector.scrape(tick_ms)
            producer.put(samples)
            if counts.lost > reported:
                _log.warning("%d samples lost: %s", counts.lost - reported, counts.last_error)
                reported = counts.lost
            last_ms = tick_ms
            status.update(state="ready", detail=_detail(counts, len(samples), tick_ms))
        # After the last sample, even if the clock was set back.
        producer.put(collector.end(max(clock.now_ms(), last_ms + 1)))
        counts = producer.close(_FLUSH_S)
    status.update(state="stopped", detail=_detail(counts, 0, last_ms))
    if counts.lost:
        _log.warning("%d samples never reached Kafka: %s", counts.lost, counts.last_error)
    return 1 if counts.lost else 0


def _detail(counts: Counts, series: int, tick_ms: int) -> dict[str, object]:
    return {
        "series": series,
        "newest_ms": tick_ms,
        "samples": counts.acknowledged,
        "waiting": counts.waiting,
        "lost": counts.lost,
        "last_error": counts.last_error or None,
    }
