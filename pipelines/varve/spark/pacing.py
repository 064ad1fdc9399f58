"""When the batches of a stream begin: by the monotonic clock, whatever the wall clock does.

Spark's own trigger waits for a time of the wall clock, so one that is set back by an hour stops a
stream for an hour. Streams are therefore triggered without a pause, and each batch pauses here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

# How long a stream waits until it looks for input again, after it found none.
_POLLING_DELAY = "spark.sql.streaming.pollingDelay"


class Pacer:
    """Lets the batches of one stream begin trigger_s seconds apart, or as they end if they take
    longer.
    """

    def __init__(self, trigger_s: float, stopping: threading.Event) -> None:
        """stopping: ends a pause once it is set; Spark would wait for a batch to return."""
        self._trigger_s = trigger_s
        self._stopping = stopping

    def start(self, spark: SparkSession, writer: DataStreamWriter) -> StreamingQuery:
        """Starts a stream whose batches run within `batch`."""
        spark.conf.set(_POLLING_DELAY, f"{max(int(self._trigger_s * 1000), 10)}ms")
        try:
            return writer.trigger(processingTime="0 seconds").start()
        finally:
            spark.conf.unset(_POLLING_DELAY)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Runs a batch, and pauses after it until the next may begin. A failure is not paused."""
        begun = time.monotonic()
        yield
        self._stopping.wait(max(0.0, begun + self._trigger_s - time.monotonic()))
