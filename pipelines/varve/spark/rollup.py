"""The rollups as one Structured Streaming query, whose source only wakes it.

Everything a batch does is planned from the tables (varve.rollups.tier).
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from varve.model import compiled
from varve.model.clock import Clock, SystemClock
from varve.model.errors import Conflict, TemporaryError
from varve.model.window import TIERS, Window
from varve.rollups.repair_throttle import RepairThrottle
from varve.rollups.round_robin import RoundRobin
from varve.rollups.task import RollupTask, TaskOutcome, attempt_task
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import PlannedCommit, TierPlan, TierProgress
from varve.spark.broadcasts import handed_over
from varve.spark.pacing import Pacer
from varve.spark.woken_stream import start_woken
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
        self._at_work = threading.Lock()
        """Held while a commit is made, from its tasks on."""
        self._pacer = Pacer(plan.trigger_s, self._stopping)
        self._scratch = tempfile.TemporaryDirectory(prefix="varve-rollup-")
        self.stream = start_woken(spark, self._pacer, "rollup", self._scratch.name, self._batch)

    def stop(self) -> None:
        """Ends after the commit that is under way."""
        self._stopping.set()
        # Spark's stop cancels the tasks that run.
        with self._at_work:
            pass
        self.stream.stop()
        self._scratch.cleanup()

    def problems(self) -> list[str]:
        """What keeps tiers from their work, for a person; empty while all is well."""
        found = []
        for worker in self._workers:
            name = worker.tier.name
            if failure := self._round_robin.failure(worker):
                found.append(f"tier {name}: {failure}")
            found += [f"tier {name}: {text}" for text in worker.progress().unreadable]
        return found

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        error = self.stream.exception()
        if error is not None:
            raise error

    def _batch(self, _wake: DataFrame, _number: int) -> None:
        with self._pacer.batch():
            while self._step():
                pass
            for worker in self._workers:
                self._report(worker)

    def _step(self) -> bool:
        """Makes the next commit, unless there is none or the query is to stop; whether it did."""
        with self._at_work:
            if self._stopping.is_set():
                return False
            next_commit = self._round_robin.next()
            if next_commit is None:
                return False
            worker, planned = next_commit
            try:
                self._do(worker, planned)
            except Exception as err:  # noqa: BLE001 - the other tiers can go on
                self._round_robin.failed(worker, err)
            return True

    def _do(self, worker: TierWorker, planned: PlannedCommit) -> None:
        """Makes one commit of a tier."""
        begun = time.monotonic()
        outcomes, cpu_s = self._distribute(planned.tasks)
        ran = time.monotonic()
        files = [outcome.file for outcome in outcomes if outcome.file is not None]
        gaps: list[Window] = [gap for outcome in outcomes for gap in outcome.gaps]
        unreadable = [text for outcome in outcomes for text in outcome.unreadable]
        try:
            accounting = worker.commit(planned, files, gaps=gaps, unreadable=unreadable)
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
        self._round_robin.succeeded(worker)
        self._report(worker)

    def _report(self, worker: TierWorker) -> None:
        if self._plan.on_look:
            progress = replace(worker.progress(), failure=self._round_robin.failure(worker))
            self._plan.on_look(worker.tier.name, progress)

    def _distribute(self, tasks: Sequence[RollupTask]) -> tuple[list[TaskOutcome], float]:
        """Runs tasks; returns what became of them and the CPU seconds they took.

        Raises TemporaryError if the storage was out of a task's reach.
        """
        if not tasks:
            return [], 0.0
        # A partition each: repartition() would put two into one now and then.
        numbers = self._spark.range(0, len(tasks), 1, len(tasks))
        columns = "outcome string, error string, cpu_s double"
        with handed_over(self._spark, tuple(tasks)) as handed:
            ran = numbers.mapInArrow(_runner(handed), columns).collect()
        for row in ran:
            if row.error is not None:
                raise TemporaryError(row.error)
        outcomes = [TaskOutcome.from_json(row.outcome) for row in ran]
        return outcomes, sum(row.cpu_s for row in ran)


def _runner(
    tasks: Callable[[], Sequence[RollupTask]],
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for mapInArrow: it takes numbers of tasks and gives their outcomes."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                begun = time.process_time()
                outcome = error = None
                try:
                    outcome = attempt_task(tasks()[number]).to_json()
                except OSError as err:  # the storage is away: no fault of Spark's
                    error = f"{type(err).__name__}: {err}"
                yield pa.record_batch(
                    {
                        "outcome": pa.array([outcome], pa.string()),
                        "error": pa.array([error], pa.string()),
                        "cpu_s": [time.process_time() - begun],
                    }
                )

    return run
