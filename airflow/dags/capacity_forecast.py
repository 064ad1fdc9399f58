"""Capacity: a week ahead of the series that capacity.toml selects, and when resources run out."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Metadata, dag, task
from varve_jobs import BASELINES, DAG_DEFAULTS, FORECASTS, READ_POOL, submit

log = logging.getLogger(__name__)


@dag(
    **DAG_DEFAULTS,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("40 3 * * *", timezone="UTC"), assets=[BASELINES]
    ),
    dagrun_timeout=timedelta(hours=8),
    doc_md=__doc__,
)
def capacity_forecast() -> None:
    @task(outlets=[FORECASTS])
    def conclude(report: dict[str, Any]) -> Any:
        """Says what was done. Series that a rival or an error left out come again."""
        log.info("forecasts: %s", report["done"])
        yield Metadata(FORECASTS, report["done"] or {})

    conclude(
        submit(
            "forecast",
            task_id="forecast",
            pool=READ_POOL,
            execution_timeout=timedelta(hours=4),
        )
    )


capacity_forecast()
