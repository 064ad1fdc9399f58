"""Baselines: what is usual of every series, brought up to date with the hours that have closed."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, Metadata, dag, task
from varve_jobs import BASELINES, DAG_DEFAULTS, READ_POOL, submit

log = logging.getLogger(__name__)


@dag(
    **DAG_DEFAULTS,
    schedule=CronTriggerTimetable("20 * * * *", timezone="UTC"),
    dagrun_timeout=timedelta(hours=3),
    doc_md=__doc__,
)
def baselines() -> None:
    @task(outlets=[BASELINES])
    def conclude(report: dict[str, Any]) -> Any:
        """Says what was done, and puts it on the asset for those that detect anomalies."""
        log.info("baselines: %s", report["done"])
        yield Metadata(BASELINES, report["done"])

    conclude(
        submit(
            "baseline",
            task_id="baseline",
            pool=READ_POOL,
            execution_timeout=timedelta(hours=1),
        )
    )


baselines()
