"""Retention: rows older than their retention go once a day, with them definitions of series without
any row, then the files that nobody needs.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, Metadata, dag, task
from varve_jobs import DAG_DEFAULTS, RECORDS, RETAINED, ROLLUPS, submit, submit_each

log = logging.getLogger(__name__)


@dag(
    **DAG_DEFAULTS,
    schedule=CronTriggerTimetable("30 1 * * *", timezone="UTC"),
    dagrun_timeout=timedelta(hours=6),
    doc_md=__doc__,
)
def retention() -> None:
    @task(outlets=[RETAINED])
    def conclude(reports: list[dict[str, Any]]) -> Any:
        """Says how much has gone. What a rival prevented comes again."""
        gone = [one for report in reports for one in report["done"]["expired"]]
        rows = sum(one["rows"] for one in gone)
        left = sum(not one["is_done"] for one in gone)
        log.info("%d rows have gone; %d expiries are left to the next run", rows, left)
        yield Metadata(RETAINED, {"rows": rows})

    tables = ("samples", *RECORDS, *ROLLUPS)
    reports = submit_each("expire", tables, execution_timeout=timedelta(hours=2))
    vacuum = submit("vacuum", task_id="vacuum", execution_timeout=timedelta(hours=2))
    conclude(reports) >> vacuum


retention()
