"""`varve serve forecasts`: forecasts what capacity.toml selects, as jobs/forecast.py does.

It needs no JVM: one machine has few series to forecast, one after the other at a low priority.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from varve.client import Producer, Sample
from varve.forecast.forecast_job import (
    Fit,
    FitTask,
    Forecasted,
    Forecasting,
    Publish,
    Tell,
    fit_here,
)
from varve.forecast.resources import ResourcesFile
from varve.forecast.series_forecast import SeriesForecast
from varve.kafka.alert_topic import send_alerts
from varve.kafka.client_options import Cluster
from varve.maintenance.batch_job import execute
from varve.model.alert_event import AlertEvent
from varve.model.clock import SystemClock
from varve.model.errors import NeedsOperator, TemporaryError, VarveError
from varve.model.resources import conf_dir
from varve.services.discovery import with_running_kafka
from varve.services.progress import table_store
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus
from varve.settings import Settings
from varve.storage.table import Table

log = logging.getLogger(__name__)

COMPONENT = "forecasts"

_FILE = "capacity.toml"
_NICE = 10
_SEND_S = 30.0


def resources_file(settings: Settings) -> ResourcesFile:
    """The resources: of the home, or else those that Varve brings. Raises NeedsOperator if the file
    is malformed.
    """
    paths: tuple[Path, ...] = (settings.home / _FILE, conf_dir() / _FILE)
    return ResourcesFile(paths)


def forecasting(
    settings: Settings,
    resources: ResourcesFile,
    fit: Fit,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    published: Callable[[int], None] = lambda _samples: None,
) -> Forecasting:
    """The job, by the resources as they are now. published: is told how many samples Kafka took."""
    tell = alert_teller(settings)
    publish = series_publisher(settings, published)
    store = table_store(settings)
    return Forecasting(store, resources.current(), fit, tell, publish, progress)


def alert_teller(settings: Settings) -> Tell:
    """What sends alert events to the topic alerts."""

    def tell(events: Sequence[AlertEvent]) -> None:
        kafka = with_running_kafka(settings).kafka
        send_alerts(Cluster(kafka.servers(), kafka.client_options()), kafka.topics.alerts, events)

    return tell


def series_publisher(settings: Settings, published: Callable[[int], None]) -> Publish:
    """What sends samples to the topic of samples and waits until all have arrived."""

    def publish(samples: Iterable[Sample]) -> None:
        kafka = with_running_kafka(settings).kafka
        with Producer(
            kafka.servers(),
            kafka.topics.raw,
            options=kafka.client_options(),
            client_id="varve-forecasts",
        ) as producer:
            refused = producer.put(samples, wait_s=_SEND_S)
            counts = producer.close(_SEND_S)
        if refused or counts.lost or counts.waiting:
            raise TemporaryError(f"Kafka does not take forecasts as series: {counts.last_error}")
        published(counts.acknowledged)

    return publish


def show_progress(done: int, due: int) -> None:
    """Says on a terminal how far the fits are."""
    if sys.stderr.isatty() and due:
        end = "" if done < due else "\n"
        print(f"\r{done:,} of {due:,} series", end=end, file=sys.stderr)  # noqa: T201


def run(settings: Settings) -> int:
    """Blocks until SIGTERM or SIGINT; 0. Raises NeedsOperator if capacity.toml is malformed."""
    stopping = stop_requested()
    os.nice(_NICE)
    status = ComponentStatus(settings.home, COMPONENT)
    resources = resources_file(settings)

    def fit(tasks: Sequence[FitTask]) -> Iterator[SeriesForecast]:
        for task in tasks:
            if stopping.is_set():
                raise _Stopped
            yield from fit_here([task])
            status.progressed()

    sent = 0

    def published(samples: int) -> None:
        nonlocal sent
        sent += samples
        status.update(detail={"samples": sent})

    status.update(state="ready")
    seen: int | None = None
    while not stopping.wait(settings.forecasts.look_every_s):
        try:
            version = Table(table_store(settings), "rollup_1h").version
            if version != seen:
                job = forecasting(settings, resources, fit, published=published)
                done = execute(job, table_store(settings), SystemClock().now_ms()).done
                seen = version
                _report(status, done)
        except _Stopped:
            break
        except NeedsOperator as err:
            log.info("nothing to forecast yet: %s", err)
        except (OSError, VarveError) as err:
            log.warning("forecasts are left to the next look: %s", err)
        status.progressed()
    status.update(state="stopped")
    return 0


class _Stopped(Exception):
    """Somebody asked to stop."""


def _report(status: ComponentStatus, done: Any) -> None:
    if isinstance(done, Forecasted):
        detail = {"resources": done.resources, "breaches": done.breaches}
        status.update(detail=detail | {"last_error": done.waiting or None})
        if done.by_model or done.events or done.waiting:
            log.info("%s", "; ".join(done.lines()))
