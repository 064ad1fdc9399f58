"""`varve serve forecasts`: forecasts what capacity.toml selects, as jobs/forecast.py does.

It needs no JVM: one machine has few series to forecast, one after the other at a low priority.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from varve.forecast.forecast_job import (
    Fit,
    FitTask,
    Forecasted,
    Forecasting,
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
from varve.model.errors import NeedsOperator, VarveError
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
) -> Forecasting:
    """The job, by the resources as they are now."""
    tell, calendar = alert_teller(settings), settings.holidays.calendar()
    return Forecasting(table_store(settings), resources.current(), fit, tell, progress, calendar)


def alert_teller(settings: Settings) -> Tell:
    """What sends alert events to the topic alerts."""

    def tell(events: Sequence[AlertEvent]) -> None:
        kafka = with_running_kafka(settings).kafka
        send_alerts(Cluster(kafka.servers(), kafka.client_options()), kafka.topics.alerts, events)

    return tell


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

    status.update(state="ready")
    seen: int | None = None
    while not stopping.wait(settings.forecasts.look_every_s):
        try:
            version = Table(table_store(settings), "rollup_1h").version
            if version != seen:
                job = forecasting(settings, resources, fit)
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
