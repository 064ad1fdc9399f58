"""Quality: expectations of what was stored on a day, checked the night after.

A run checks its data interval, so days that have gone are checked by a backfill.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Metadata, dag, task
from varve_jobs import DAG_DEFAULTS, QUALITY, READ_POOL, submit

log = logging.getLogger(__name__)


@dag(
    **DAG_DEFAULTS,
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
)
def quality() -> None:
    @task(outlets=[QUALITY])
    def conclude(report: dict[str, Any]) -> Any:
        """Says what is not as expected. The job itself has put it on the topic alerts."""
        done = report["done"]
        for failed in done["failed"]:
            log.warning("not met: %s", failed)
        log.info("%d expectations, %d not met", done["expectations"], len(done["failed"]))
        yield Metadata(
            QUALITY, {"expectations": done["expectations"], "failed": len(done["failed"])}
        )

    conclude(
        submit(
            "check_quality",
            *("--from", "{{ data_interval_start.isoformat() }}"),
            *("--to", "{{ data_interval_end.isoformat() }}"),
            task_id="check_quality",
            pool=READ_POOL,
            execution_timeout=timedelta(hours=1),
        )
    )


quality()
