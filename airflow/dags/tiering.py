"""Tiering: files whose rows are old move to the colder root, hourly and after retention has run.

A file is copied in one run and leaves the root above in a later one, when every reader knows the
copy. Needs storage.cold_root in the settings of the jobs.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Metadata, dag, task
from varve_jobs import DAG_DEFAULTS, RETAINED, ROLLUPS, TIERED, rewrite_pool, submit

log = logging.getLogger(__name__)


@dag(
    **DAG_DEFAULTS,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("5 * * * *", timezone="UTC"), assets=[RETAINED]
    ),
    dagrun_timeout=timedelta(hours=6),
    doc_md=__doc__,
)
def tiering() -> None:
    @task(outlets=[TIERED])
    def conclude(reports: list[dict[str, Any]]) -> Any:
        """Says how many files have moved. Those that were rewritten meanwhile come again."""
        moved = [one for report in reports for one in report["done"]["moved"]]
        copied, removed, kept = (
            sum(one[what] for one in moved) for what in ("copied", "removed", "kept")
        )
        log.info("%d files copied, %d removed above, %d stay above", copied, removed, kept)
        yield Metadata(TIERED, {"copied": copied, "removed": removed})

    conclude(
        [
            submit(
                "tier",
                *("--table", table),
                task_id=f"tier_{table}",
                pool=rewrite_pool(table),
                execution_timeout=timedelta(hours=2),
            )
            for table in ("samples", *ROLLUPS)
        ]
    )


tiering()
