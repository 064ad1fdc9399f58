"""Compaction: small files of the tables become few sorted ones, every ten minutes."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, Metadata, dag, task
from varve_jobs import COMPACTED, DAG_DEFAULTS, RECORDS, ROLLUPS, submit_each

log = logging.getLogger(__name__)


@dag(
    **DAG_DEFAULTS,
    schedule=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
    dagrun_timeout=timedelta(hours=2),
    doc_md=__doc__,
)
def compaction() -> None:
    @task(outlets=[COMPACTED])
    def conclude(reports: list[dict[str, Any]]) -> Any:
        """Says what became of how many files. Merges that a rival prevented come again."""
        merged = [merge for report in reports for merge in report["done"]["merged"]]
        left = sum(report["done"]["left"] for report in reports)
        before = sum(merge["files_before"] for merge in merged)
        after = sum(merge["files_after"] for merge in merged)
        log.info("%d files became %d; %d merges are left to the next run", before, after, left)
        yield Metadata(COMPACTED, {"files_before": before, "files_after": after})

    tables = ("samples", *RECORDS, "series", *ROLLUPS)
    conclude(submit_each("compact", tables, execution_timeout=timedelta(hours=1)))


compaction()
