"""The rollups as one Structured Streaming query, whose source only wakes it.

Everything a batch does is planned from the tables (varve.rollups.tier); the checkpoint means
nothing and every start uses a fresh one. The source is Spark's own that has a row for every batch,
whatever the clocks say: one written in Python lives in a worker process that must start within ten
seconds, which a busy machine does not manage.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from varve.model import compiled
from varve.model.clock import Clock, SystemClock
from varve.model.errors import Conflict
from varve.model.window import TIERS
from varve.rollups.repair_throttle import RepairThrottle
from varve.rollups.round_robin import RoundRobin
from varve.rollups.task import RollupTask, run_task
from varve.rollups.tier import PlannedCommit, TierPlan, TierProgress, TierWorker
from varve.spark.pacing import Pacer
from varve.storage.files import NewFile
from varve.storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RollupPlan:
    """How the rollups of one deployment are run."""

    store: Store
    queries: tuple[str, ...]
    """Names of the ingest queries that feed the table samples."""
    trigger_s: float = 5.0
    grace_ms: int = 10_000
    repair_every_ms: int = 60_000
    repair_keys: int = 100_000
    on_commit: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the accounting of every commit."""
    on_look: Callable[[str, TierProgress], None] | None = None
    """Called with a tier's name and progress whenever it was looked at and after every commit."""
    on_conflict: Callable[[str], None] | None = None
    """Called with a tier's name when a rival has moved it."""


class RollupQuery:
    """A running query over all tiers, the finest first."""

    def __init__(self, spark: SparkSession, plan: RollupPlan, clock: Clock | None = None) -> None:
        """Starts it; the tables must exist. Takes long the first time: kernels are compiled."""
        compiled.warm_up("varve.rollups.window_keys", "varve.rollups.kernel")
        self._spark = spark
        self._plan = plan
        throttle = RepairThrottle()
        self._workers = [
            TierWorker(
                TierPlan(
                    store=plan.store,
                    tier=tier,
                    queries=plan.queries,
                    grace_ms=plan.grace_ms,
                    # Above the first tier the repairs come gathered already.
                    repair_every_ms=plan.repair_every_ms if tier.source == "samples" else 0,
                    repair_keys=plan.repair_keys,
                    at_once=spark.sparkContext.defaultParallelism,
                ),
                clock or SystemClock(),
                throttle,
            )
            for tier in TIERS
        ]
        self._round_robin = RoundRobin(self._workers)
        self._stopping = threading.Event()
        self._pacer = Pacer(plan.trigger_s, self._stopping)
        self._scratch = tempfile.TemporaryDirectory(prefix="varve-rollup-")
        self.stream = self._start()

    def stop(self) -> None:
        """Ends after the commit that is under way."""
        self._stopping.set()
        self.stream.stop()
        self._scratch.cleanup()

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        error = self.stream.exception()
        if error is not None:
            raise error

    def _start(self) -> StreamingQuery:
        context = self._spark.sparkContext
        # The stream's jobs inherit the pool: next to a backlog of rollups, tasks of ingest still
        # get every other core that falls free.
        context.setLocalProperty("spark.scheduler.pool", "rollup")
        try:
            return self._stream()
        finally:
            context.setLocalProperty("spark.scheduler.pool", "default")

    def _stream(self) -> StreamingQuery:
        writer = (
            self._spark.readStream.format("rate-micro-batch")
            .option("rowsPerBatch", 1)
            .option("numPartitions", 1)
            .load()
            .writeStream.queryName("rollup")
            .option("checkpointLocation", f"file://{self._scratch.name}/checkpoint")
            .foreachBatch(self._batch)
        )
        return self._pacer.start(self._spark, writer)

    def _batch(self, _wake: DataFrame, _number: int) -> None:
        with self._pacer.batch():
            while not self._stopping.is_set():
                next_commit = self._round_robin.next()
                if next_commit is None:
                    break
                self._do(*next_commit)
            for worker in self._workers:
                self._report(worker)

    def _do(self, worker: TierWorker, planned: PlannedCommit) -> None:
        """Makes one commit of a tier."""
        begun = time.monotonic()
        files, cpu_s = self._distribute(planned.tasks)
        ran = time.monotonic()
        try:
            accounting = worker.commit(planned, files)
        except Conflict as err:
            log.warning("a rival rolls up the same tier: %s", err)
            if self._plan.on_conflict:
                self._plan.on_conflict(worker.tier.name)
            worker.recover()
            return
        now = time.monotonic()
        accounting["commit_s"], accounting["seconds"] = round(now - ran, 4), round(now - begun, 3)
        accounting["task_cpu_s"] = round(cpu_s, 4)
        if self._plan.on_commit:
            self._plan.on_commit(accounting)
        self._report(worker)

    def _report(self, worker: TierWorker) -> None:
        if self._plan.on_look:
            self._plan.on_look(worker.tier.name, worker.progress())

    def _distribute(self, tasks: Sequence[RollupTask]) -> tuple[list[NewFile], float]:
        """Runs tasks; returns the files they wrote and the CPU seconds they took."""
        if not tasks:
            return [], 0.0
        # A partition each: repartition() would put two into one now and then.
        numbers = self._spark.range(0, len(tasks), 1, len(tasks))
        ran = numbers.mapInArrow(_runner(tasks), "file string, cpu_s double").collect()
        files = [NewFile.from_json(row.file) for row in ran if row.file is not None]
        return files, sum(row.cpu_s for row in ran)


def _runner(
    tasks: Sequence[RollupTask],
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for mapInArrow: it takes numbers of tasks and gives files."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                begun = time.process_time()
                written = run_task(tasks[number])
                text = None if written is None else written.to_json()
                files = pa.array([text], pa.string())
                yield pa.record_batch({"file": files, "cpu_s": [time.process_time() - begun]})

    return run
