"""The rollups as one Structured Streaming query, whose source only wakes it.

Everything a batch does is planned from the tables (varve.rollups.tier); the checkpoint means
nothing and every start uses a fresh one. The source is Spark's own clock: one written in Python
lives in a worker process that must start within ten seconds, which a busy machine does not manage.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from varve.model.clock import Clock, SystemClock
from varve.model.errors import Conflict
from varve.model.window import TIERS
from varve.rollups import kernel
from varve.rollups.task import RollupTask, run_task
from varve.rollups.tier import TierPlan, TierState, TierWorker
from varve.storage.files import NewFile
from varve.storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RollupPlan:
    """The rollups of one deployment. queries: names of the ingest queries that feed samples."""

    store: Store
    queries: tuple[str, ...]
    trigger_s: float = 5.0
    grace_ms: int = 10_000
    repair_every_ms: int = 60_000
    repair_keys: int = 100_000
    on_commit: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the accounting of every commit."""
    on_look: Callable[[str, TierState], None] | None = None
    """Called with a tier's name and state whenever it was looked at and after every commit."""
    on_conflict: Callable[[str], None] | None = None
    """Called with a tier's name when a rival has moved it."""


class RollupQuery:
    """A running query over all tiers, the finest first."""

    def __init__(self, spark: SparkSession, plan: RollupPlan, clock: Clock | None = None) -> None:
        """Starts it; the tables must exist. Takes long the first time: kernels are compiled."""
        kernel.warm_up()
        self._spark = spark
        self._plan = plan
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
            )
            for tier in TIERS
        ]
        self._stopping = False
        self._scratch = tempfile.TemporaryDirectory(prefix="varve-rollup-")
        self.stream = self._start()

    def stop(self) -> None:
        """Ends after the commit that is under way."""
        self._stopping = True
        self.stream.stop()
        self._scratch.cleanup()

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        error = self.stream.exception()
        if error is not None:
            raise error

    def _start(self) -> StreamingQuery:
        return (
            # A row a second, so that there is one at every trigger.
            self._spark.readStream.format("rate")
            .option("rowsPerSecond", 1)
            .option("numPartitions", 1)
            .load()
            .writeStream.queryName("rollup")
            .option("checkpointLocation", f"file://{self._scratch.name}/checkpoint")
            .trigger(processingTime=f"{int(self._plan.trigger_s * 1000)} milliseconds")
            .foreachBatch(self._batch)
            .start()
        )

    def _batch(self, _wake: DataFrame, _number: int) -> None:
        # In turns, so that the backlog of one tier does not hold up the others.
        busy = True
        while busy and not self._stopping:
            busy = False
            for worker in self._workers:
                busy |= self._step(worker)

    def _step(self, worker: TierWorker) -> bool:
        """One commit of a tier; whether there is more to do at once."""
        begun = time.monotonic()
        work = worker.plan()
        if work is None:
            self._report(worker)
            return False
        files = self._distribute(work.tasks)
        ran = time.monotonic()
        try:
            accounting = worker.commit(work, files)
        except Conflict as err:
            log.warning("a rival rolls up the same tier: %s", err)
            if self._plan.on_conflict:
                self._plan.on_conflict(worker.tier.name)
            worker.recover()
            return True
        now = time.monotonic()
        accounting["commit_s"], accounting["seconds"] = round(now - ran, 4), round(now - begun, 3)
        if self._plan.on_commit:
            self._plan.on_commit(accounting)
        self._report(worker)
        return work.more

    def _report(self, worker: TierWorker) -> None:
        if self._plan.on_look:
            self._plan.on_look(worker.tier.name, worker.state())

    def _distribute(self, tasks: Sequence[RollupTask]) -> list[NewFile]:
        if not tasks:
            return []
        # A partition each: repartition() would put two into one now and then.
        numbers = self._spark.range(0, len(tasks), 1, len(tasks))
        written = numbers.mapInArrow(_runner(tasks), "file string").collect()
        return [NewFile.from_json(row.file) for row in written]


def _runner(
    tasks: Sequence[RollupTask],
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """For mapInArrow: numbers of tasks in, files out."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                written = run_task(tasks[number])
                if written is not None:
                    yield pa.record_batch({"file": [written.to_json()]})

    return run
