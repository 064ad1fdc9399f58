"""Ingest as a Structured Streaming query: Kafka in, samples, series and quarantine out.

Spark hands each task its messages; varve.ingest.task makes files of them; the driver commits them.
The checkpoint only serves Spark within one run: positions are in the table samples, so every
start uses a fresh one. Exactly once by the commit protocol (docs/adr/0006, 0007).
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, expr, lit, unix_millis
from pyspark.sql.streaming.query import StreamingQuery

from varve.ingest.batch import BatchCommitter
from varve.ingest.clock_guard import ClockGuard
from varve.ingest.limits import Limits, LimitsFile
from varve.ingest.quarantine_replay import Selection, awaited, replay
from varve.ingest.registry import ACTIVE_MS, Registry
from varve.ingest.reject_reasons import Reason
from varve.ingest.start_offsets import Start, starts
from varve.ingest.task import Message, Outcome, TaskPlan, run_task
from varve.ingest.upkeep import EVERY_S as UPKEEP_S
from varve.ingest.upkeep import Upkeep
from varve.kafka.client_options import client_options
from varve.kafka.offsets import Topics
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.clock import Clock, SteadyClock
from varve.model.errors import Conflict, NeedsOperator, TemporaryError
from varve.model.window import DAY_MS
from varve.spark.pacing import Pacer
from varve.storage.store import Store
from varve.storage.table import Table

log = logging.getLogger(__name__)

_COLUMNS = ("topic", "partition", "offset", "timestamp_ms", "value", "encoding")
# Kafka's default of 1 MiB a fetch is a round trip to the broker for every 40 messages of Arrow.
# And of every partition Spark keeps what a poll has brought, for minutes: by default 500 messages,
# which may be of megabytes each.
_FETCH = {"kafka.max.partition.fetch.bytes": str(8 * 2**20), "kafka.max.poll.records": "20"}
_MOST_AWAITED = 100_000
# So few are one task: several would each wait for a core, and each write a file.
_FEW_MESSAGES = 100
# get() gives NULL where [0] is an error: most messages with headers have others.
_ENCODING = (
    "string(get(filter(headers, h -> lower(h.key) = 'content-encoding'), 0).value) AS encoding"
)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a query was at at_ms. ends: of the partitions in Kafka, exclusive. stored: next
    offset to read, without those never read. complete_ms: everything produced by then is stored.
    clock_error_ms: how far the machine's clock is ahead of at_ms, 0 while it is believed.
    """

    at_ms: int
    ends: Mapping[Partition, int]
    stored: Mapping[Partition, int]
    complete_ms: int | None
    clock_error_ms: int = 0


@dataclass(frozen=True)
class IngestPlan:
    """One ingest query: its name ("bulk", "critical"), topics and bounds.

    brokers: host:port, comma separated. kafka: further options of Kafka's clients by its names.
    definition_topics: those of the topics that hold definitions of series and no samples.
    """

    query: str
    topics: tuple[str, ...]
    store: Store
    brokers: str
    raw_retention_ms: int
    kafka: Mapping[str, str] = field(default_factory=dict, repr=False)
    definition_topics: frozenset[str] = frozenset()
    trigger_s: float = 2.0
    max_messages_per_batch: int = 10_000
    max_message_bytes: int = 8 * 2**20
    max_future_ms: int = 600_000
    late_after_ms: int = 7_200_000
    complete_every_s: float = 2.0
    grace_ms: int = 10_000
    """How long rollups leave a window open after its input is complete."""
    on_expired_offsets: str = "stop"
    limits_files: tuple[Path, ...] = ()
    """The first of them that exists says what metrics may cost; read again when it changes."""
    reject_bytes: int = 8 * 2**20
    """Of refused records that a batch keeps of one partition; the rest is counted."""
    active_ms: int = ACTIVE_MS
    """A series counts against the limits for so long after the last hour it was seen in."""
    quarantine_retention_ms: int = 30 * DAY_MS
    scratch: str = ""
    """Folder on every machine for its index of known series: as in varve.ingest.mapped_runs."""
    available_now: bool = False
    """End by itself once everything is stored that Kafka had at the start."""
    on_batch: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the accounting of every committed batch, seconds taken included."""
    on_look: Callable[[Reach], None] | None = None
    """Called whenever the query has asked Kafka how far input goes."""
    on_replay: Callable[[Mapping[str, int]], None] | None = None
    """Called with the counts of every replay of quarantine."""


class IngestQuery:
    """A running query. It ends by itself with an error, which `raise_failure` raises, or when it
    is to store only what is available now.
    """

    def __init__(self, spark: SparkSession, plan: IngestPlan, clock: Clock | None = None) -> None:
        """Starts it. Raises NeedsOperator where going on would lose samples."""
        self._plan = plan
        self._clock = SteadyClock(clock)
        self._registry = Registry(plan.store, plan.scratch, plan.active_ms, self._clock)
        self._limits = LimitsFile(plan.limits_files)
        self._awaited = awaited(plan.store, plan.query)
        self._looked_at = -1
        self._names = self._find_topics()
        self._topics = Topics(_client(plan), self._names)
        self._partitions = {(p.topic, p.number): p for p in self._topics.partitions()}
        # In this order: what Kafka has by then is read, even by a query that reads no more.
        now_ms = self._clock.now_ms()
        ends = self._topics.latest(list(self._partitions.values()))
        begin = self._begin(ends)
        self._committer = BatchCommitter(plan.store, plan.query, begin, grace_ms=plan.grace_ms)
        sent_ms, complete_ms = (
            self._topics.newest_timestamp_ms(list(ends)),
            self._committer.state()[1],
        )
        self._guard = ClockGuard(plan.query, self._clock, plan.brokers, complete_ms, sent_ms)
        if self._guard.look(self._topics) is not None:
            self._committer.note(now_ms, ends)
        self._initial = {p: s.offset for p, s in begin.items()}
        self._scratch = tempfile.TemporaryDirectory(prefix=f"varve-{plan.query}-")
        self._stopping = threading.Event()
        self._pacer = Pacer(0.0 if plan.available_now else plan.trigger_s, self._stopping)
        self._at_work = threading.Lock()
        self._failure: BaseException | None = None
        self.stream = self._start(spark)
        self._noter = threading.Thread(
            target=self._note_completeness, name=f"completeness of {plan.query}", daemon=True
        )
        self._noter.start()
        self._keeper = threading.Thread(
            target=self._keep_up, name=f"upkeep of {plan.query}", daemon=True
        )
        self._keeper.start()

    @property
    def name(self) -> str:
        return f"ingest-{self._plan.query}"

    def stop(self) -> None:
        """Ends after the batch that is running."""
        self._stopping.set()
        self._noter.join()
        self._keeper.join()
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
        return [f"{self.name}: this machine's clock is {error_s:+.0f} s off"]

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        # A batch says why before Spark does, and more clearly.
        error = self.stream.exception()
        if self._failure is not None:
            raise self._failure
        if error is not None:
            raise error

    def _find_topics(self) -> tuple[str, ...]:
        """The plan's topics; of those that hold definitions the ones there are."""
        topics = Topics(_client(self._plan), self._plan.topics)
        try:
            missing = self._plan.definition_topics - set(topics.existing())
        finally:
            topics.close()
        for name in missing:
            log.warning("no topic %s: definitions come with samples only until a restart", name)
        return tuple(name for name in self._plan.topics if name not in missing)

    def _begin(self, latest: Mapping[Partition, int]) -> dict[Partition, Start]:
        earliest = self._topics.earliest(list(latest))
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
            .option("kafka.bootstrap.servers", plan.brokers)
            .options(**_FETCH)
            .options(**{f"kafka.{name}": value for name, value in plan.kafka.items()})
            .option("subscribe", ",".join(self._names))
            .option("startingOffsets", json.dumps(offsets))
            .option("maxOffsetsPerTrigger", plan.max_messages_per_batch)
            .option("failOnDataLoss", "true")
            .option("includeHeaders", "true")
            .load()
            .select(
                "topic",
                "partition",
                "offset",
                unix_millis("timestamp").alias("timestamp_ms"),
                "value",
                expr(_ENCODING),
            )
        )
        writer = (
            source.writeStream.queryName(self.name)
            .option("checkpointLocation", f"file://{self._scratch.name}/checkpoint")
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
        begun, cpu, now_ms = time.monotonic(), time.thread_time(), self._clock.now_ms()
        ranges = self._ranges(number)
        if sum(read.end - read.start for read in ranges.values()) <= _FEW_MESSAGES:
            messages = messages.coalesce(1)
        outcomes = self._run(messages, now_ms)
        # An id never comes back, so all that was read is of the topics it started with.
        self._topics.require_same(ranges)
        ran = time.monotonic()
        accounting = self._committer.commit(ranges, outcomes)
        accounting["commit_s"] = round(time.monotonic() - ran, 4)
        self._replay_awaited(outcomes, now_ms)
        accounting["series"] = len(self._registry.known)
        accounting["active_series"] = self._registry.series_of.total()
        accounting["awaited"] = len(self._awaited)
        accounting["seconds"] = round(time.monotonic() - begun, 3)
        # Of this thread: other queries of the process have theirs.
        accounting["driver_cpu_s"] = round(time.thread_time() - cpu, 4)
        log.info("batch", extra={"fields": accounting})
        if self._plan.on_batch:
            self._plan.on_batch(accounting)

    def _replay_awaited(self, outcomes: Sequence[Outcome], refused_ms: int) -> None:
        """Stores quarantined samples whose definition has come. refused_ms: when those of the
        outcomes were refused.
        """
        # Beyond so many, definitions are waited for by jobs/replay_quarantine.py alone.
        if len(self._awaited) < _MOST_AWAITED:
            for outcome in outcomes:
                for key in outcome.undefined:
                    # A clock may be set back.
                    self._awaited[key] = min(self._awaited.get(key, refused_ms), refused_ms)
        known = self._registry.known
        if not self._awaited or known.version == self._looked_at:
            return
        self._looked_at = known.version
        if len(self._registry.unknown_among(self._awaited)) == len(self._awaited):
            return
        plan = task_plan(self._plan, self._registry, self._clock.now_ms(), self._limits.current())
        # Older rows wait for nothing that has come: a large quarantine is not read for each.
        since_ms = min(self._awaited.values()) - 1
        selection = Selection(frozenset({Reason.UNKNOWN_SERIES}), since_ms)
        counts = replay(self._plan.store, selection, plan, self._registry)
        log.info("replay of %s", Reason.UNKNOWN_SERIES.value, extra={"fields": counts})
        if self._plan.on_replay:
            self._plan.on_replay(counts)
        left = self._registry.unknown_among(self._awaited)
        self._awaited = {key: since for key, since in self._awaited.items() if key in left}

    def _run(self, messages: DataFrame, now_ms: int) -> list[Outcome]:
        """Runs the tasks and registers the series they found. Tasks with samples of a series that
        was refused, or that another task has defined, run once more.
        """
        registry = self._registry
        # Series that other queries have registered since.
        registry.known.advance()
        plan = task_plan(self._plan, registry, now_ms, self._limits.current())
        outcomes = _distribute(messages, plan)
        found = [d for outcome in outcomes for d in outcome.definitions]
        refused = registry.register(found, plan.limits) if found else {}
        again = _partitions_to_repeat(outcomes, refused, registry)
        if not again:
            return outcomes
        plan = replace(plan, refused=refused, settled=True, series_version=registry.known.version)
        kept = [o for o in outcomes if again.isdisjoint(o.partitions)]
        chosen = lit(False)
        for topic, number in sorted(again):
            chosen |= (col("topic") == topic) & (col("partition") == number)
        return kept + _distribute(messages.where(chosen), plan)

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

    def _keep_up(self) -> None:
        plan = self._plan
        upkeep = Upkeep(plan.store, plan.active_ms, plan.quarantine_retention_ms, self._clock)
        try:
            if not self._guard.is_unconfirmed:
                upkeep.expire()
            while not self._stopping.wait(UPKEEP_S):
                self._registry.offer(upkeep.count())
                upkeep.expire()
        except BaseException as err:  # noqa: BLE001  # the main thread raises it
            self._failure = err

    def _note_completeness(self) -> None:
        topics: Topics | None = None
        try:
            while not self._stopping.wait(self._plan.complete_every_s):
                try:
                    if topics is None:
                        topics = Topics(_client(self._plan), self._names)
                    now_ms = self._guard.look(topics)
                    ends = topics.latest(topics.partitions())
                except TemporaryError as err:
                    # Completeness stands still, which is true. The stream decides how long the
                    # brokers may be away.
                    log.warning("%s: how far input is complete is unknown: %s", self.name, err)
                    continue
                if now_ms is not None:
                    self._committer.note(now_ms, ends)
                if self._plan.on_look:
                    at_ms, error_ms = self._clock.now_ms(), self._guard.error_ms()
                    self._plan.on_look(Reach(at_ms, ends, *self._committer.state(), error_ms))
        except BaseException as err:  # noqa: BLE001  # the main thread raises it
            self._failure = err
        finally:
            if topics is not None:
                topics.close()


def task_plan(plan: IngestPlan, registry: Registry, now_ms: int, limits: Limits) -> TaskPlan:
    """What the tasks of a batch that begins at now_ms go by."""
    return TaskPlan(
        store=plan.store,
        query=plan.query,
        now_ms=now_ms,
        oldest_ms=now_ms - plan.raw_retention_ms * 4 // 5,
        newest_ms=now_ms + plan.max_future_ms,
        late_ms=now_ms - plan.late_after_ms,
        max_message_bytes=plan.max_message_bytes,
        series_version=registry.known.version,
        definition_topics=plan.definition_topics,
        limits=limits,
        full=registry.full(limits),
        scratch=plan.scratch,
        reject_bytes=plan.reject_bytes,
    )


def _client(plan: IngestPlan) -> dict[str, Any]:
    return {"bootstrap_servers": plan.brokers} | client_options(plan.kafka)


def _partitions_to_repeat(
    outcomes: Sequence[Outcome], refused: Collection[tuple[int, int]], registry: Registry
) -> set[tuple[str, int]]:
    """Topic and number of those whose tasks cannot stay as they are."""
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
