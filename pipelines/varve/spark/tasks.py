"""Runs the tasks of a batch on Spark's executors, and again where they cannot stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.functions import col, lit

from varve.ingest.outcome import Outcome
from varve.ingest.plan import TaskPlan
from varve.ingest.series_id_index import SeriesKey
from varve.ingest.series_registry import SeriesRegistry
from varve.ingest.task import run_task
from varve.spark.kafka_source import messages


def run_tasks(frame: DataFrame, plan: TaskPlan, registry: SeriesRegistry) -> list[Outcome]:
    """Runs the tasks over messages and registers the series they found. Tasks with samples of a
    series that was refused, or that another task has defined, run once more.
    """
    outcomes = _distribute(frame, plan)
    found = [d for outcome in outcomes for d in outcome.definitions]
    refused = registry.register(found, plan.limits) if found else {}
    again = _partitions_to_repeat(outcomes, refused, registry)
    if not again:
        return outcomes
    plan = replace(
        plan, refused=refused, registration_done=True, series_version=registry.index.version
    )
    kept = [o for o in outcomes if again.isdisjoint(o.partitions)]
    chosen = lit(False)
    for topic, number in sorted(again):
        chosen |= (col("topic") == topic) & (col("partition") == number)
    return kept + _distribute(frame.where(chosen), plan)


def _distribute(frame: DataFrame, plan: TaskPlan) -> list[Outcome]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for outcome in run_task(messages(batches), plan):
            yield pa.record_batch({"outcome": [outcome.to_json()]})

    return [
        Outcome.from_json(row.outcome) for row in frame.mapInArrow(run, "outcome string").collect()
    ]


def _partitions_to_repeat(
    outcomes: Sequence[Outcome], refused: Collection[SeriesKey], registry: SeriesRegistry
) -> set[tuple[str, int]]:
    """Topic and number of the partitions whose tasks cannot stay as they are."""
    again: set[tuple[str, int]] = set()
    for outcome in outcomes:
        holds_refused = any((d.series_id, d.check) in refused for d, _ in outcome.definitions)
        if holds_refused or registry.knows_any(outcome.undefined):
            again.update(outcome.partitions)
    # A partition is read again as a whole, whatever tasks had parts of it.
    grown = True
    while grown:
        touched = [o.partitions for o in outcomes if not again.isdisjoint(o.partitions)]
        grown = not again.issuperset(p for partitions in touched for p in partitions)
        again.update(p for partitions in touched for p in partitions)
    return again
