"""Ingest and rollups over some tables as jobs run them, one after the other and without Spark."""

from __future__ import annotations

from collections.abc import Sequence

from tests.plans import open_registry, task_plan
from varve.ingest.batch import BatchCommitter
from varve.ingest.limits import Limits
from varve.ingest.plan import TaskPlan
from varve.ingest.quarantine_replay import Selection, replay
from varve.ingest.replayed import Replayed
from varve.ingest.start_offsets import starts
from varve.ingest.task import Outcome, run_task
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.clock import ManualClock
from varve.model.window import TIERS
from varve.rollups.task import run_task as roll_up
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import TierPlan
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

QUERY = "bulk"
PARTITION = Partition("raw-metrics", "0b5ae0a8-6d3b-4c8e-9c0b-1f6f3c2d7a11", 0)
DAY_MS = 86_400_000
_FAR = 1 << 40


class Line:
    """One driver of each, begun from what the tables say."""

    def __init__(
        self, root: str, now_ms: int, *, limits: Limits | None = None, **settings: object
    ) -> None:
        """settings: of its tasks, others than the defaults."""
        self.store = Store(root)
        create_tables(self.store)
        self.clock = ManualClock(now_ms)
        self._limits = limits or Limits()
        self._settings = settings
        begin = starts(Table(self.store, "samples"), QUERY, {PARTITION: 0}, {PARTITION: _FAR})
        self.next = begin[PARTITION].offset
        """Offset of the next message to read."""
        self.registry = open_registry(self.store)
        self._committer = BatchCommitter(self.store, QUERY, begin)
        self._workers = [
            TierWorker(TierPlan(self.store, tier, (QUERY,), 0, 0, 1), self.clock) for tier in TIERS
        ]

    def ingest(self, *values: bytes) -> dict[str, object]:
        """A batch of messages that came now, complete up to now; its accounting."""
        now_ms, begin = self.clock.now_ms(), self.next
        messages = [
            Message(PARTITION.topic, PARTITION.number, begin + n, now_ms, value)
            for n, value in enumerate(values)
        ]
        outcomes = list(run_task(messages, self._plan()))
        outcomes = self._registered(messages, outcomes)
        self.next += len(values)
        self._committer.note(now_ms, {PARTITION: self.next})
        return self._committer.commit({PARTITION: OffsetRange(begin, self.next)}, outcomes)

    def replay(self, selection: Selection) -> Replayed:
        """Replays quarantine."""
        return replay(selection, self._plan(), self.registry)

    def roll_up(self, rest_ms: int = 3_600_000) -> None:
        """All that is due, rest_ms later: by then whatever rests between sweeps has rested."""
        self.clock.advance(rest_ms)
        for worker in self._workers:
            while (work := worker.plan()) is not None:
                worker.commit(work, [f for f in map(roll_up, work.tasks) if f is not None])

    def _plan(self, **changes: object) -> TaskPlan:
        now_ms = self.clock.now_ms()
        self.registry.index.advance()
        return task_plan(
            self.store,
            now_ms=now_ms,
            series_version=self.registry.index.version,
            limits=self._limits,
            full=self.registry.full(self._limits),
            **{"max_message_bytes": 100_000} | self._settings | changes,
        )

    def _registered(self, messages: Sequence[Message], outcomes: list[Outcome]) -> list[Outcome]:
        found = [d for o in outcomes for d in o.definitions]
        refused = self.registry.register(found, self._limits) if found else {}
        return list(run_task(messages, self._plan(refused=refused))) if refused else outcomes
