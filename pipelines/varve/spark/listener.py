"""Measures Spark's streams: whether they run, and what their triggers spend their time on."""

from __future__ import annotations

import logging
from collections import Counter

from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
)

from varve.telemetry.metrics import StreamMetrics

log = logging.getLogger(__name__)

# The batch itself, with its pause until the next one may begin, and the sum of all phases.
_OURS = frozenset({"addBatch", "triggerExecution"})


class StreamListener(StreamingQueryListener):
    """Feeds the metrics of the session it is added to. Spark calls it in a thread of its own."""

    def __init__(self, metrics: StreamMetrics) -> None:
        super().__init__()
        self._metrics = metrics
        self._names: dict[str, str] = {}
        self.events: Counter[str] = Counter()
        """How often each stream, by run id, has ended a trigger or had nothing to do."""

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 - Spark's name
        name = event.name or str(event.id)
        self._names[str(event.runId)] = name
        self._metrics.running.labels(name).set(1)

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        progress = event.progress
        self.events[str(progress.runId)] += 1
        name = self._names.get(str(progress.runId), progress.name or str(progress.id))
        self._metrics.triggers.labels(name).inc()
        for phase, ms in progress.durationMs.items():
            if phase not in _OURS:
                self._metrics.phase.labels(name, phase).inc(max(ms, 0) / 1000)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
        """Nothing was to do, which Spark says every ten seconds."""
        self.events[str(event.runId)] += 1

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        name = self._names.pop(str(event.runId), str(event.id))
        self._metrics.running.labels(name).set(0)
        if event.exception is not None:
            # Whoever watches the query raises the whole error; this line is for readers of logs.
            reason = event.errorClassOnException or event.exception.partition("\n")[0]
            log.error("stream ended", extra={"fields": {"stream": name, "error": reason}})
