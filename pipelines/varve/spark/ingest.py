"""Ingest as a Structured Streaming query: Kafka in, samples, series and quarantine out.

Spark hands each task its messages; varve.ingest.task makes files of them; the driver commits them.
The checkpoint only serves Spark within one run: positions are in the table samples, so every
start uses a fresh one. Exactly once by the commit protocol (docs/adr/0006, 0007).
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from varve.ingest.batch import BatchCommitter
from varve.ingest.kafka import Topics
from varve.ingest.position import OffsetRange, Partition, Start, starts
from varve.ingest.registry import Registry
from varve.ingest.task import Message, Outcome, TaskPlan, run_task
from varve.model.clock import Clock, SystemClock
from varve.model.errors import NeedsOperator, VarveError
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

_COLUMNS = ("topic", "partition", "offset", "timestamp_ms", "value")


@dataclass(frozen=True)
class IngestPlan:
    """One ingest query: its name ("bulk", "critical"), topics and bounds.

    kafka: options of kafka-python's clients, bootstrap_servers among them.
    """

    query: str
    topics: tuple[str, ...]
    store: Store
    kafka: Mapping[str, Any]
    raw_retention_ms: int
    trigger_s: float = 2.0
    max_messages_per_batch: int = 20_000
    max_message_bytes: int = 8 * 2**20
    max_future_ms: int = 600_000
    late_after_ms: int = 7_200_000
    complete_every_s: float = 2.0
    on_expired_offsets: str = "stop"
    on_batch: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the accounting of every committed batch, seconds taken included."""


class IngestQuery:
    """A running query. It ends by itself only with an error, which `await_end` raises."""

    def __init__(self, spark: SparkSession, plan: IngestPlan, clock: Clock | None = None) -> None:
        """Starts it. Raises NeedsOperator where going on would lose samples."""
        self._plan = plan
        self._clock = clock or SystemClock()
        self._registry = Registry(plan.store)
        self._topics = Topics(plan.kafka, plan.topics)
        self._partitions = {(p.topic, p.number): p for p in self._topics.partitions()}
        begin = self._begin()
        self._committer = BatchCommitter(plan.store, plan.query, begin)
        self._initial = {p: s.offset for p, s in begin.items()}
        self._scratch = tempfile.TemporaryDirectory(prefix=f"varve-{plan.query}-")
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self.stream = self._start(spark)
        self._noter = threading.Thread(target=self._note_completeness, daemon=True)
        self._noter.start()

    def stop(self) -> None:
        """Ends after the batch that is running."""
        self._stopping.set()
        self._noter.join()
        self.stream.stop()
        self._topics.close()
        self._scratch.cleanup()

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        if self._failure is not None:
            raise self._failure
        error = self.stream.exception()
        if error is not None:
            raise error

    def _begin(self) -> dict[Partition, Start]:
        partitions = list(self._partitions.values())
        earliest, latest = self._topics.earliest(partitions), self._topics.latest(partitions)
        begin = starts(Table(self._plan.store, "samples"), self._plan.query, earliest, latest)
        for partition, start in begin.items():
            if start.gap and self._plan.on_expired_offsets == "stop":
                raise NeedsOperator(
                    f"{self._plan.query}: Kafka has dropped offsets {start.gap.start} to"
                    f" {start.gap.end - 1} of {partition.topic}-{partition.number} before they"
                    " were stored. Set ingest.on_expired_offsets to count to go on without them"
                )
        return begin

    def _start(self, spark: SparkSession) -> StreamingQuery:
        plan = self._plan
        offsets: dict[str, dict[str, int]] = {}
        for partition, offset in self._initial.items():
            offsets.setdefault(partition.topic, {})[str(partition.number)] = offset
        source = (
            spark.readStream.format("kafka")
            .options(**_spark_options(plan.kafka))
            .option("subscribe", ",".join(plan.topics))
            .option("startingOffsets", json.dumps(offsets))
            .option("maxOffsetsPerTrigger", plan.max_messages_per_batch)
            .option("failOnDataLoss", "true")
            .load()
            .selectExpr(
                "topic", "partition", "offset", "unix_millis(timestamp) timestamp_ms", "value"
            )
        )
        return (
            source.writeStream.queryName(f"ingest-{plan.query}")
            .option("checkpointLocation", f"file://{self._scratch.name}/checkpoint")
            .trigger(processingTime=f"{int(plan.trigger_s * 1000)} milliseconds")
            .foreachBatch(self._batch)
            .start()
        )

    def _batch(self, messages: DataFrame, number: int) -> None:
        begun, cpu = time.monotonic(), time.process_time()
        ranges = self._ranges(number)
        outcomes = self._run(messages, self._task_plan())
        accounting = self._committer.commit(ranges, outcomes)
        accounting["seconds"] = round(time.monotonic() - begun, 3)
        accounting["driver_cpu_s"] = round(time.process_time() - cpu, 3)
        if self._plan.on_batch:
            self._plan.on_batch(accounting)

    def _task_plan(self) -> TaskPlan:
        plan, now_ms = self._plan, self._clock.now_ms()
        return TaskPlan(
            store=plan.store,
            query=plan.query,
            now_ms=now_ms,
            oldest_ms=now_ms - plan.raw_retention_ms * 4 // 5,
            newest_ms=now_ms + plan.max_future_ms,
            late_ms=now_ms - plan.late_after_ms,
            max_message_bytes=plan.max_message_bytes,
            series_version=self._registry.known.version,
        )

    def _run(self, messages: DataFrame, task_plan: TaskPlan) -> list[Outcome]:
        """Runs the tasks and registers the series they found; runs them once more, without
        those that were refused, if any was.
        """
        outcomes = _distribute(messages, task_plan)
        found = [d for outcome in outcomes for d in outcome.definitions]
        refused = self._registry.register(found) if found else frozenset()
        if refused:
            outcomes = _distribute(
                messages,
                replace(
                    task_plan,
                    refused=refused,
                    series_version=self._registry.known.version,
                ),
            )
        return outcomes

    def _ranges(self, number: int) -> dict[Partition, OffsetRange]:
        """What batch `number` reads, from Spark's offset log: written before the batch runs."""
        ends = self._logged_offsets(number)
        begins = self._logged_offsets(number - 1) if number else {}
        ranges = {}
        for key, end in ends.items():
            partition = self._partition(*key)
            begin = begins.get(key, self._initial.get(partition))
            if begin is None:
                begin = self._topics.earliest([partition])[partition]
            if end > begin:
                ranges[partition] = OffsetRange(begin, end)
        return ranges

    def _partition(self, topic: str, number: int) -> Partition:
        if (topic, number) not in self._partitions:
            self._partitions = {(p.topic, p.number): p for p in self._topics.partitions()}
        return self._partitions[topic, number]

    def _logged_offsets(self, number: int) -> dict[tuple[str, int], int]:
        text = (Path(self._scratch.name) / "checkpoint" / "offsets" / str(number)).read_text()
        by_topic: dict[str, dict[str, int]] = json.loads(text.splitlines()[-1])
        return {
            (topic, int(partition)): offset
            for topic, offsets in by_topic.items()
            for partition, offset in offsets.items()
        }

    def _note_completeness(self) -> None:
        topics = Topics(self._plan.kafka, self._plan.topics)
        try:
            while not self._stopping.wait(self._plan.complete_every_s):
                now_ms = self._clock.now_ms()
                self._committer.note(now_ms, topics.latest(topics.partitions()))
        except VarveError as err:
            log.exception("completeness of %s is no longer noted", self._plan.query)
            self._failure = err
        finally:
            topics.close()


def _distribute(messages: DataFrame, plan: TaskPlan) -> list[Outcome]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for outcome in run_task(_messages(batches), plan):
            yield pa.record_batch({"outcome": [outcome.to_json()]})

    rows = messages.select(*_COLUMNS).mapInArrow(run, "outcome string").collect()
    return [Outcome.from_json(row.outcome) for row in rows]


def _messages(batches: Iterable[pa.RecordBatch]) -> Iterator[Message]:
    for batch in batches:
        columns: Sequence[Sequence[Any]] = [batch.column(c).to_pylist() for c in _COLUMNS]
        for row in zip(*columns, strict=True):
            yield Message(*row)


def _spark_options(kafka: Mapping[str, Any]) -> dict[str, str]:
    """kafka-python's option names as the Java client's, which Spark wants behind `kafka.`."""
    return {f"kafka.{name.replace('_', '.')}": str(value) for name, value in kafka.items()}
