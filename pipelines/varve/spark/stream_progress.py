"""Whether the streams of a session get on, which tells a slow one from one that hangs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

Mark = tuple[int, int, int]
"""Events of a stream so far, the number of its newest job, and tasks done of those under way."""

_LOOK_S = 5.0
"""Seconds between looks at jobs, each of which takes a call to the JVM for each job that Spark
remembers."""


class StreamProgress:
    """Compares how far each stream is with how far it was. One thread at a time may use it.

    A stream gets on when Spark tells that a trigger has ended or had nothing to do, which is
    every ten seconds at least, and when its batch, which may be large, has begun a job or is done
    with a task.
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
        self._looked_at = 0.0

    def advanced(self) -> bool:
        """Whether every stream has got on since this was last true."""
        look = time.monotonic() - self._looked_at >= _LOOK_S
        if look:
            self._looked_at = time.monotonic()
        for run in tuple(self._behind):
            before = self._marks.get(run, (-1, -1, 0))
            jobs = self._jobs(run) if look else before[1:]
            mark = (self._events.get(run, 0), *jobs)
            if mark != before:
                self._marks[run] = mark
                self._behind.discard(run)
        if self._behind:
            return False
        self._behind = set(self._runs)
        return True

    def _jobs(self, run: str) -> tuple[int, int]:
        """The newest job of a stream and the tasks done of those under way.

        Spark's streams run the jobs of their batches in a group of their run id.
        """
        jobs = set(self._tracker.getJobIdsForGroup(run))
        done = 0
        for job in jobs.intersection(self._tracker.getActiveJobsIds()):
            info = self._tracker.getJobInfo(job)
            for number in info.stageIds if info else ():
                stage = self._tracker.getStageInfo(number)
                done += stage.numCompletedTasks if stage else 0
        return max(jobs, default=-1), done
