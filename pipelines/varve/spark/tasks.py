"""Runs the tasks of a batch on Spark's executors, and again where they cannot stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, lit

from varve.ingest import definition_files
from varve.ingest.batch_size import Ranges
from varve.ingest.outcome import Outcome
from varve.ingest.plan import TaskPlan, after_registration
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesKey
from varve.ingest.series_registry import SeriesRegistry
from varve.ingest.task import run_task
from varve.kafka.client_options import Cluster
from varve.kafka.reader import read
from varve.spark.broadcasts import handed_over
from varve.spark.kafka_source import messages
from varve.storage.store import Store

Numbers = Collection[tuple[str, int]]
"""Topic and number of partitions."""


class Source(Protocol):
    """The messages of a batch."""

    def run(self, plan: TaskPlan, only: Numbers | None = None) -> list[Outcome]:
        """Runs tasks over the messages, or over those of some partitions only."""
        ...


class SparkSource:
    """Messages that Spark's Kafka source reads."""

    def __init__(self, frame: DataFrame) -> None:
        """frame: as of varve.spark.kafka_source."""
        self._frame = frame

    def run(self, plan: TaskPlan, only: Numbers | None = None) -> list[Outcome]:
        frame = self._frame
        if only is not None:
            chosen = lit(False)
            for topic, number in sorted(only):
                chosen |= (col("topic") == topic) & (col("partition") == number)
            frame = frame.where(chosen)

        with handed_over(frame.sparkSession, plan) as handed:

            def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
                for outcome in run_task(messages(batches), handed()):
                    yield pa.record_batch({"outcome": [outcome.to_json()]})

            return _collect(frame.mapInArrow(task, "outcome string"))


class PythonSource:
    """Messages that the tasks read themselves: slower, but whatever they are."""

    def __init__(self, spark: SparkSession, cluster: Cluster, ranges: Ranges) -> None:
        self._spark, self._cluster, self._ranges = spark, cluster, ranges

    def run(self, plan: TaskPlan, only: Numbers | None = None) -> list[Outcome]:
        cluster = self._cluster
        chosen = [
            (partition.topic, partition.number, offsets)
            for partition, offsets in sorted(self._ranges.items())
            if only is None or (partition.topic, partition.number) in only
        ]

        with handed_over(self._spark, plan) as handed:

            def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
                for batch in batches:
                    for n in batch.column("id").to_pylist():
                        for outcome in run_task(read(cluster, *chosen[n]), handed()):
                            yield pa.record_batch({"outcome": [outcome.to_json()]})

            numbers = self._spark.range(0, len(chosen), 1, len(chosen))
            return _collect(numbers.mapInArrow(task, "outcome string"))


def run_tasks(source: Source, plan: TaskPlan, registry: SeriesRegistry) -> list[Outcome]:
    """Runs the tasks over messages, notes what they say of metrics, and registers the series they
    found. Tasks with samples of a series that was refused, or that another task has defined, run
    once more.
    """
    store, outcomes = plan.settings.store, source.run(plan)
    for outcome in outcomes:
        registry.metadata.note(outcome.metadata)
    refused = definition_files.register(registry, store, outcomes, plan.limits)
    again = _partitions_to_repeat(store, outcomes, refused, registry)
    definition_files.remove(store, outcomes)
    if not again:
        return outcomes
    kept = [o for o in outcomes if again.isdisjoint(o.partitions)]
    return kept + source.run(after_registration(plan, registry, refused), again)


def _collect(frame: DataFrame) -> list[Outcome]:
    return [Outcome.from_json(row.outcome) for row in frame.collect()]


def _partitions_to_repeat(
    store: Store,
    outcomes: Sequence[Outcome],
    refused: Mapping[SeriesKey, Reason],
    registry: SeriesRegistry,
) -> set[tuple[str, int]]:
    """Topic and number of the partitions whose tasks cannot stay as they are."""
    again: set[tuple[str, int]] = set()
    for outcome in outcomes:
        holds_refused = definition_files.holds_any(store, outcome, refused)
        if holds_refused or registry.knows_any(outcome.undefined):
            again.update(outcome.partitions)
    # A partition is read again as a whole, whatever tasks had parts of it.
    grown = True
    while grown:
        touched = [o.partitions for o in outcomes if not again.isdisjoint(o.partitions)]
        grown = not again.issuperset(p for partitions in touched for p in partitions)
        again.update(p for partitions in touched for p in partitions)
    return again
