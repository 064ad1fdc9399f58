"""Whether the streams of a session get on, which tells a slow one from one that hangs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

Mark = tuple[int, int]
"""Events of a stream so far, and tasks of the jobs under way that are done."""


class StreamProgress:
    """Compares how far each stream is with how far it was. One thread at a time may use it.

    A stream gets on when Spark tells that a trigger has ended or had nothing to do, which is
    every ten seconds at least, and when a task of its batch is done: a batch may be large.
    """

    def __init__(
        self, spark: SparkSession, streams: Sequence[StreamingQuery], events: Mapping[str, int]
    ) -> None:
        """events: how many each stream has had, by run id; a listener counts them."""
        self._tracker = spark.sparkContext.statusTracker()
        self._runs = [str(stream.runId) for stream in streams]
        self._events = events
        self._marks: dict[str, Mark] = {}
        self._behind = set(self._runs)

    def advanced(self) -> bool:
        """Whether every stream has got on since this was last true."""
        for run in tuple(self._behind):
            mark = self._mark(run)
            if self._marks.get(run) != mark:
                self._marks[run] = mark
                self._behind.discard(run)
        if self._behind:
            return False
        self._behind = set(self._runs)
        return True

    def _mark(self, run: str) -> Mark:
        events = self._events.get(run, 0)
        before = self._marks.get(run)
        if before is None or events != before[0]:
            return events, 0
        # Only now, for it takes a call to the JVM for each job.
        return events, self._tasks_done(run)

    def _tasks_done(self, run: str) -> int:
        """Spark's streams run the jobs of their batches in a group of their run id."""
        active = set(self._tracker.getActiveJobsIds())
        done = 0
        for job in active.intersection(self._tracker.getJobIdsForGroup(run)) if active else ():
            info = self._tracker.getJobInfo(job)
            for number in info.stageIds if info else ():
                stage = self._tracker.getStageInfo(number)
                done += stage.numCompletedTasks if stage else 0
        return done
