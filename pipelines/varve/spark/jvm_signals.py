"""SIGTERM and SIGINT sent to the JVM, as to the process that is called spark-submit.

Left to itself the JVM ends its Spark context at once, under the batch that Python runs, and exits
with 143. Here it only passes on that it was asked to stop; Python ends in order, and spark-submit
with its exit status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

_NAMES = ("TERM", "INT")


def pass_on_signals(spark: SparkSession, stop: Callable[[], None]) -> None:
    """Has the session's JVM call `stop`, in a thread of this process, instead of ending."""
    gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 - as PySpark's own callbacks do
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    signals = gateway.jvm.sun.misc.Signal
    handler = _Handler(stop)
    for name in _NAMES:
        signals.handle(signals(name), handler)


class _Handler:
    """A sun.misc.SignalHandler."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def handle(self, _signal: Any) -> None:
        self._stop()

    class Java:
        """Names the interface for py4j."""

        implements = ("sun.misc.SignalHandler",)
