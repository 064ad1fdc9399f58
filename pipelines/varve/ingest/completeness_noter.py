"""Asks Kafka every few seconds how far input goes, beside the batches of a query."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from varve.ingest.batch import BatchCommitter
from varve.ingest.clock_guard import ClockGuard
from varve.ingest.plan import IngestPlan, Reach
from varve.kafka.offsets import TopicOffsets
from varve.model.clock import Clock
from varve.model.errors import TemporaryError

log = logging.getLogger(__name__)


class CompletenessNoter:
    """Notes the ends of the topics of one query."""

    def __init__(
        self,
        plan: IngestPlan,
        topics: Sequence[str],
        committer: BatchCommitter,
        clock: Clock,
        guard: ClockGuard,
    ) -> None:
        """topics: those that the query reads. guard: whether the clock may be believed."""
        self._plan, self._names = plan, topics
        self._committer, self._clock, self._guard = committer, clock, guard

    def run(self, stopping: threading.Event) -> None:
        """Notes until `stopping` is set."""
        topics: TopicOffsets | None = None
        try:
            while not stopping.wait(self._plan.complete_every_s):
                try:
                    if topics is None:
                        topics = TopicOffsets(self._plan.cluster, self._names)
                    now_ms = self._guard.look(topics)
                    ends = topics.latest(topics.partitions())
                except TemporaryError as err:
                    # Completeness stands still, which is true. The stream decides how long the
                    # brokers may be away.
                    log.warning(
                        "%s: how far input is complete is unknown: %s", self._plan.query, err
                    )
                    continue
                if now_ms is not None:
                    self._committer.note(now_ms, ends)
                if self._plan.on_look:
                    at_ms, error_ms = self._clock.now_ms(), self._guard.error_ms()
                    self._plan.on_look(Reach(at_ms, ends, *self._committer.state(), error_ms))
        finally:
            if topics is not None:
                topics.close()
