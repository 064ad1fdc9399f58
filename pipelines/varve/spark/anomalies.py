"""The detector as a Structured Streaming query: minutes of all series are scored by tasks."""

from __future__ import annotations

import io
import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from varve.anomaly.detector import Detector, Judged
from varve.anomaly.judge import judge
from varve.anomaly.judge_task import JudgeTask
from varve.anomaly.rules import Rules
from varve.kafka.alert_topic import send_alerts
from varve.kafka.client_options import Cluster
from varve.kafka.topic_sender import send_messages
from varve.model import compiled
from varve.model.alert_event import AlertEvent
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.clock import Clock, SystemClock
from varve.model.errors import Conflict, TemporaryError
from varve.spark.broadcasts import handed_over
from varve.spark.pacing import Pacer
from varve.spark.woken_stream import start_woken
from varve.storage.store import Store

log = logging.getLogger(__name__)

NAME = "anomalies"


@dataclass(frozen=True)
class AnomalyPlan:
    """How the minutes of one deployment are judged."""

    store: Store
    cluster: Cluster
    rules: Callable[[], Rules]
    """Tells what is in force whenever it is called."""
    topic: str = "metric-anomalies"
    alerts_topic: str = "alerts"
    trigger_s: float = 5.0
    calendar: Calendar = NO_HOLIDAYS
    on_step: Callable[[Judged], None] | None = None
    """Called after every commit."""
    on_look: Callable[[int | None, str], None] | None = None
    """Called after every look with the end of the last judged minute, and why events wait."""


class AnomalyQuery:
    """A running query."""

    def __init__(self, spark: SparkSession, plan: AnomalyPlan, clock: Clock | None = None) -> None:
        """Starts it; the tables must exist."""
        compiled.warm_up("varve.rollups.window_keys")
        self._spark, self._plan = spark, plan
        self._clock = clock or SystemClock()
        self._detector = self._new_detector()
        self._waiting = ""
        self._stopping = threading.Event()
        self._at_work = threading.Lock()
        """Held while a step is made."""
        self._pacer = Pacer(plan.trigger_s, self._stopping)
        self._scratch = tempfile.TemporaryDirectory(prefix="varve-anomalies-")
        self.stream = start_woken(spark, self._pacer, NAME, self._scratch.name, self._batch)

    def stop(self) -> None:
        """Ends after the step that is under way."""
        self._stopping.set()
        # Spark's stop cancels the tasks that run.
        with self._at_work:
            pass
        self.stream.stop()
        self._scratch.cleanup()

    def problems(self) -> list[str]:
        """What keeps events from being told, for a person; empty while all is well."""
        return [f"anomalies wait to be told: {self._waiting}"] if self._waiting else []

    def raise_failure(self) -> None:
        """Raises what has ended the query, if anything has."""
        error = self.stream.exception()
        if error is not None:
            raise error

    def _new_detector(self) -> Detector:
        parts = self._spark.sparkContext.defaultParallelism
        plan = self._plan
        return Detector(
            *(plan.store, plan.rules, self._judge, self._clock),
            parts=parts,
            calendar=plan.calendar,
        )

    def _batch(self, _wake: DataFrame, _number: int) -> None:
        with self._pacer.batch():
            while self._step():
                pass
            self._tell()
            if self._plan.on_look:
                self._plan.on_look(self._detector.frontier_ms, self._waiting)

    def _step(self) -> bool:
        """Makes the next step, unless there is none or the query is to stop; whether it did."""
        with self._at_work:
            if self._stopping.is_set():
                return False
            try:
                done = self._detector.step()
            except Conflict as err:
                log.warning("a rival judges the same minutes: %s", err)
                self._detector = self._new_detector()
                return False
            if done is not None and self._plan.on_step:
                self._plan.on_step(done)
            return done is not None

    def _tell(self) -> None:
        """Sends what has not been sent; a topic that is away is tried again at the next look."""
        with self._at_work:
            if self._stopping.is_set():
                return
            try:
                self._detector.tell(self._send, self._send_alerts)
                why = ""
            except (TemporaryError, Conflict) as err:
                why = str(err)
            if why and why != self._waiting:
                log.warning("anomalies wait to be told: %s", why)
            self._waiting = why

    def _send(self, messages: list[tuple[bytes, bytes]]) -> None:
        send_messages(self._plan.cluster, self._plan.topic, messages, client_id="varve-anomalies")

    def _send_alerts(self, events: list[AlertEvent]) -> None:
        send_alerts(self._plan.cluster, self._plan.alerts_topic, events)

    def _judge(self, tasks: Sequence[JudgeTask]) -> list[pa.Table]:
        """Raises TemporaryError if the storage was out of a task's reach."""
        numbers = self._spark.range(0, len(tasks), 1, len(tasks))
        with handed_over(self._spark, tuple(tasks)) as handed:
            ran = numbers.mapInArrow(_runner(handed), "scores binary, error string").collect()
        for row in ran:
            if row.error is not None:
                raise TemporaryError(row.error)
        return [pa.ipc.open_stream(io.BytesIO(row.scores)).read_all() for row in ran]


def _runner(
    tasks: Callable[[], Sequence[JudgeTask]],
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for mapInArrow: it takes numbers of tasks and gives their scores."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                scores = error = None
                try:
                    scores = _encoded(judge(tasks()[number]))
                except OSError as err:  # the storage is away: no fault of Spark's
                    error = f"{type(err).__name__}: {err}"
                yield pa.record_batch(
                    {
                        "scores": pa.array([scores], pa.binary()),
                        "error": pa.array([error], pa.string()),
                    }
                )

    return run


def _encoded(scores: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, scores.schema) as writer:
        writer.write_table(scores)
    return sink.getvalue()
