"""Ingest as a Structured Streaming query: Kafka in, samples, series and quarantine out.

Spark hands each task its messages; varve.ingest.task makes files of them; the driver commits them.
The checkpoint only serves Spark within one run: positions are in the table samples, so every
start uses a fresh one. Exactly once by the commit protocol (docs/adr/0006, 0007).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from varve.ingest.awaited_series import AwaitedSeries
from varve.ingest.batch import BatchCommitter, SeriesTrimmed
from varve.ingest.batch_size import BatchSize, Ranges, count, halves
from varve.ingest.clock_guard import ClockGuard
from varve.ingest.completeness_noter import CompletenessNoter
from varve.ingest.limits import LimitsFile
from varve.ingest.log_truncation import cuts, stored_epochs
from varve.ingest.outcome import Outcome
from varve.ingest.plan import IngestPlan, TaskPlan, task_plan
from varve.ingest.quarantine_budget import QuarantineBudget
from varve.ingest.quarantine_expiry import bytes_since
from varve.ingest.series_registry import SeriesRegistry
from varve.ingest.start_offsets import Start, starts
from varve.ingest.upkeep import Upkeep
from varve.kafka.offsets import TopicOffsets
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.clock import Clock, SteadyClock
from varve.model.errors import Conflict, NeedsOperator, TemporaryError, VarveError
from varve.spark import checkpoint_folder
from varve.spark.failures import cause_of, is_about_messages, is_unreadable_timestamp
from varve.spark.kafka_source import logged_offsets, read_ranges, read_stream
from varve.spark.pacing import Pacer
from varve.spark.tasks import PythonSource, SparkSource, run_tasks
from varve.storage.table import Table

log = logging.getLogger(__name__)

# So few messages are one task: several would each wait for a core, and each write a file.
_FEW_MESSAGES = 100


class IngestQuery:
    """A running query. It ends by itself with an error, which `raise_failure` raises, or when it
    is to store only what is available now.
    """

    def __init__(self, spark: SparkSession, plan: IngestPlan, clock: Clock | None = None) -> None:
        """Starts the query. Raises NeedsOperator where going on would lose samples."""
        self._plan = plan
        self._clock = SteadyClock(clock)
        self._registry = SeriesRegistry(plan.store, plan.tasks.scratch, plan.active_ms, self._clock)
        self._limits = LimitsFile(plan.limits_files)
        self._size = BatchSize(plan.batch)
        self._awaited = AwaitedSeries(plan.store, plan.query)
        self._rejects = self._budget_of_rejects()
        self._names = self._find_topics()
        self._topics = TopicOffsets(plan.cluster, self._names)
        self._partitions = {(p.topic, p.number): p for p in self._topics.partitions()}
        # In this order: what Kafka has by then is read, even by a query that reads no more.
        now_ms = self._clock.now_ms()
        ends = self._topics.latest(list(self._partitions.values()))
        begin = self._begin(ends)
        self._committer = BatchCommitter(plan.store, plan.query, begin, grace_ms=plan.grace_ms)
        sent_ms = self._topics.newest_timestamp_ms(list(ends))
        complete_ms = self._committer.state()[1]
        self._guard = ClockGuard(
            plan.query,
            self._clock,
            plan.cluster.bootstrap_servers,
            *(complete_ms, sent_ms),
            max_gap_ms=plan.max_clock_gap_ms,
        )
        if self._guard.look(self._topics) is not None:
            self._committer.note(now_ms, ends)
        self._initial = {p: s.offset for p, s in begin.items()}
        self._scratch = checkpoint_folder.make(self.name)
        self._checkpoint = Path(self._scratch.name) / "checkpoint"
        self._stopping = threading.Event()
        self._pacer = Pacer(0.0 if plan.available_now else plan.trigger_s, self._stopping)
        self._at_work = threading.Lock()
        self._failure: BaseException | None = None
        self.stream = self._start(spark)
        noter = CompletenessNoter(plan, self._names, self._committer, self._clock, self._guard)
        upkeep = Upkeep(plan, self._registry, self._clock, lambda: not self._guard.is_unconfirmed)
        self._threads = [
            threading.Thread(
                target=self._beside, args=(run,), name=f"{what} of {plan.query}", daemon=True
            )
            for what, run in (("completeness", noter.run), ("upkeep", upkeep.run))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def name(self) -> str:
        return f"ingest-{self._plan.query}"

    def stop(self) -> None:
        """Ends the query after the batch that is running."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        # Spark's stop interrupts a batch, which would have to be read again at the next start.
        with self._at_work:
            pass
        self.stream.stop()
        # If it fails, the next start says it.
        with contextlib.suppress(Conflict, OSError):
            self._committer.finish()
        self._topics.close()
        self._scratch.cleanup()

    @property
    def done(self) -> bool:
        """Whether all is stored that was available at the start, and no more was asked for."""
        return self._plan.available_now and not self.stream.isActive

    def problems(self) -> list[str]:
        """What is not as it should be while the query goes on, for a person."""
        error_s = self._guard.error_ms() / 1000
        if not error_s:
            return []
        if self._guard.is_unconfirmed:
            clock = f"{error_s / 86_400:.1f} days ahead of all that is stored, not confirmed yet"
        else:
            clock = f"{error_s:+.0f} s off"
        return [f"{self.name}: this machine's clock is {clock}"]

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        # A batch says why before Spark does, and more clearly.
        error = self.stream.exception()
        if self._failure is not None:
            raise self._failure
        if error is not None:
            raise error

    def _find_topics(self) -> tuple[str, ...]:
        """The plan's topics, without topics of definitions that do not exist."""
        plan = self._plan
        topics = TopicOffsets(plan.cluster, plan.topics)
        try:
            missing = plan.tasks.definition_topics - set(topics.existing())
        finally:
            topics.close()
        for name in missing:
            log.warning("no topic %s: definitions come with samples only until a restart", name)
        return tuple(name for name in plan.topics if name not in missing)

    def _begin(self, latest: Mapping[Partition, int]) -> dict[Partition, Start]:
        """Where every partition is read from. Raises NeedsOperator."""
        earliest = self._topics.earliest(list(latest))
        samples, query = Table(self._plan.store, self._plan.tasks.table), self._plan.query
        cut = cuts(
            self._topics,
            {p: at for p in latest if (at := samples.position(p.position(query))) is not None},
            stored_epochs(samples, query, latest),
        )
        reread = self._plan.on_truncation == "reread"
        begin = starts(samples, query, earliest, latest, cut, reread=reread)
        for partition, start in begin.items():
            if start.gap and self._plan.on_expired_offsets == "stop":
                raise NeedsOperator(
                    f"{self._plan.query}: Kafka has dropped offsets {start.gap.start} to"
                    f" {start.gap.end - 1} of {partition.topic}-{partition.number} before they"
                    " were stored. Set ingest.on_expired_offsets to count to go on without them"
                )
        return begin

    def _budget_of_rejects(self) -> QuarantineBudget:
        plan, now_ms = self._plan, self._clock.now_ms()
        written = bytes_since(plan.store, QuarantineBudget.counts_since_ms(now_ms))
        return QuarantineBudget(plan.query, plan.quarantine_bytes, written, now_ms)

    def _start(self, spark: SparkSession) -> StreamingQuery:
        plan = self._plan
        source = read_stream(spark, plan.cluster, self._names, self._initial, plan.batch.messages)
        writer = (
            source.writeStream.queryName(self.name)
            .option("checkpointLocation", f"file://{self._checkpoint}")
            .foreachBatch(self._batch)
        )
        # The stream's jobs inherit the pool, in which they wait for none but their own.
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", plan.query)
        try:
            if plan.available_now:
                return writer.trigger(availableNow=True).start()
            return self._pacer.start(spark, writer)
        finally:
            spark.sparkContext.setLocalProperty("spark.scheduler.pool", "default")

    def _batch(self, messages: DataFrame, number: int) -> None:
        # Spark takes a batch that returns for done; it is read again at the next start.
        with self._pacer.batch(), self._at_work:
            if self._stopping.is_set() or self._failure is not None:
                return
            try:
                self._store(messages, number)
            except BaseException as err:
                self._failure = err
                raise

    def _store(self, messages: DataFrame, number: int) -> None:
        """Stores what batch `number` of the stream has read: in pieces of the size that suits what
        messages hold, each in one commit of each table. A stop ends it after the piece under way.
        """
        whole = self._ranges(number)
        waiting: list[Ranges] = [whole] if whole else []
        while waiting and not self._stopping.is_set():
            piece, left = self._size.take(waiting.pop())
            if left:
                waiting.append(left)
            frame = messages if piece == whole else self._read(messages, piece)
            try:
                self._store_piece(frame, piece)
            except VarveError:
                raise
            except Exception as err:
                if not is_about_messages(err):
                    raise
                if count(piece) == 1:
                    raise self._stuck(piece, err) from err
                # Everything before the message that is the cause is stored; then it is named.
                log.warning("%s: a batch is tried again in halves: %s", self.name, cause_of(err))
                waiting += reversed(halves(piece))

    def _store_piece(self, frame: DataFrame, ranges: Ranges) -> None:
        while True:
            try:
                self._try_piece(frame, ranges)
            except SeriesTrimmed as err:
                log.info("%s: a batch is judged again: %s", self.name, err)
            else:
                return

    def _try_piece(self, frame: DataFrame, ranges: Ranges) -> None:
        begun, cpu, now_ms = time.monotonic(), time.thread_time(), self._clock.now_ms()
        unmoved = self._committer.begin()
        # Series that other queries have registered since, and those that are condemned.
        self._registry.index.advance()
        most = self._plan.tasks.reject_bytes
        reject_bytes = self._rejects.per_partition(most, len(ranges), now_ms)
        tasks = replace(self._plan.tasks, reject_bytes=reject_bytes)
        plan = task_plan(tasks, self._registry, now_ms, self._limits.current())
        epochs = self._epochs(ranges)
        outcomes = self._run(frame, ranges, plan)
        self._size.observe(outcomes)
        # An id never comes back, so all that was read is of the topics it started with.
        self._topics.require_same(ranges)
        if self._topics.leader_epochs(list(ranges)) != epochs:
            raise TemporaryError(
                f"{self._plan.query}: a leader changed while a batch was read from it; what was"
                " read is not stored and read again"
            )
        ran = time.monotonic()
        accounting = self._committer.commit(ranges, outcomes, epochs, unmoved)
        accounting["commit_s"] = round(time.monotonic() - ran, 4)
        self._rejects.spend(sum(file.size for o in outcomes for file in o.quarantine))
        self._replay_awaited(outcomes)
        accounting["series"] = len(self._registry.index)
        accounting["active_series"] = self._registry.series_of.total()
        accounting["awaited"] = len(self._awaited)
        accounting["seconds"] = round(time.monotonic() - begun, 3)
        # The time of this thread: other queries of the process have theirs.
        accounting["driver_cpu_s"] = round(time.thread_time() - cpu, 4)
        log.info("batch", extra={"fields": accounting})
        if self._plan.on_batch:
            self._plan.on_batch(accounting)

    def _epochs(self, ranges: Ranges) -> Mapping[Partition, int]:
        """The leader epochs of what is to be read. Raises TemporaryError if one of the logs was cut
        since it was read: the next start says where, and what to do.
        """
        epochs = self._topics.leader_epochs(list(ranges))
        stored = self._committer.epochs()
        moved = {p: e for p, e in stored.items() if p in ranges and e != epochs.get(p, e)}
        begins = {partition: read.start for partition, read in ranges.items()}
        for partition in cuts(self._topics, begins, moved):
            raise TemporaryError(
                f"{self._plan.query}: the log of {partition.topic}-{partition.number} was cut below"
                " what was read of it"
            )
        return epochs

    def _run(self, frame: DataFrame, ranges: Ranges, plan: TaskPlan) -> list[Outcome]:
        """Runs the tasks over a piece."""
        if count(ranges) <= _FEW_MESSAGES:
            frame = frame.coalesce(1)
        try:
            return run_tasks(SparkSource(frame), plan, self._registry)
        except Exception as err:
            if not is_unreadable_timestamp(err):
                raise
        log.warning("%s: a record's timestamp is out of Spark's range: read in Python", self.name)
        source = PythonSource(frame.sparkSession, self._plan.cluster, ranges)
        return run_tasks(source, plan, self._registry)

    def _read(self, messages: DataFrame, piece: Ranges) -> DataFrame:
        return read_ranges(messages.sparkSession, self._plan.cluster, piece)

    def _stuck(self, piece: Ranges, err: Exception) -> NeedsOperator:
        ((partition, read),) = piece.items()
        where = f"--topic {partition.topic} --partition {partition.number} --offset {read.start}"
        return NeedsOperator(
            f"{self._plan.query}: the message at offset {read.start} of"
            f" {partition.topic}-{partition.number} ends its task: {cause_of(err)}. If that is the"
            f" message's doing, `varve ingest skip --query {self._plan.query} {where}` parks it in"
            " quarantine"
        )

    def _replay_awaited(self, outcomes: list[Outcome]) -> None:
        """Stores quarantined samples whose definition has come."""
        self._awaited.add(outcomes)
        if not self._awaited.defined(self._registry):
            return
        now_ms, limits = self._clock.now_ms(), self._limits.current()
        plan = task_plan(self._plan.tasks, self._registry, now_ms, limits)
        counts = self._awaited.replay(plan, self._registry)
        if self._plan.on_replay:
            self._plan.on_replay(counts)

    def _ranges(self, number: int) -> dict[Partition, OffsetRange]:
        """What batch `number` reads, from Spark's offset log."""
        ends = logged_offsets(self._checkpoint, number)
        begins = logged_offsets(self._checkpoint, number - 1) if number else {}
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

    def _beside(self, run: Callable[[threading.Event], None]) -> None:
        """Runs what goes on beside the batches, in a thread of its own."""
        try:
            run(self._stopping)
        except BaseException as err:  # noqa: BLE001  # the main thread raises it
            self._failure = err
