"""What an ingest query and its tasks go by: values of the settings, and what a batch adds.

A setting's default stands in varve.settings alone; varve.services.ingest_plans fills these in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from varve.ingest.age_limits import sure_since
from varve.ingest.batch_size import BatchLimits
from varve.ingest.limits import Limits
from varve.ingest.quarantine_expiry import Expired
from varve.ingest.reject_reasons import Reason
from varve.ingest.replayed import Replayed
from varve.ingest.series_id_index import SeriesKey
from varve.ingest.series_registry import Full, SeriesRegistry
from varve.kafka.client_options import Cluster
from varve.kafka.partitions import Partition
from varve.model.record_rows import table_of
from varve.storage.store import Store


@dataclass(frozen=True)
class TaskSettings:
    """What every task of one ingest query goes by; pickled to it.

    query: its name. definition_topics: topics whose messages define series and hold no samples.
    raw_retention_ms: how long raw samples are kept. max_future_ms: how far ahead of the clock a
    sample may be. old_after_ms: age from which samples go to files of their own.
    """

    store: Store
    query: str
    definition_topics: frozenset[str]
    raw_retention_ms: int
    max_future_ms: int
    old_after_ms: int
    max_message_bytes: int
    reject_bytes: int
    """Bytes of refused records that a batch keeps of one partition; the rest is counted."""
    scratch: str
    """Folder of the machine's index of known series: as in RunFolder."""

    @property
    def table(self) -> str:
        """The table that it writes."""
        return table_of(self.query)


@dataclass(frozen=True)
class TaskPlan:
    """What the tasks of one batch go by; pickled to them.

    A sample is stored if oldest_ms <= ts <= newest_ms, unless limits say otherwise of its metric;
    those with ts < old_before_ms go to a file of their own. series_version: version of the table
    series that a task must know at least.
    """

    settings: TaskSettings
    now_ms: int
    oldest_ms: int
    newest_ms: int
    old_before_ms: int
    series_version: int
    limits: Limits
    full: Full
    refused: Mapping[SeriesKey, Reason] = field(default_factory=dict)
    """Series that must not be stored, and why."""
    registration_done: bool = False
    """Whether the series that the batch defines have been registered or refused already, so that
    none may be new any more."""
    keep_all_rejects: bool = False
    """Whether rejects are kept whole without a bound: a replay has no other place for them."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a query was at at_ms. ends: of the partitions in Kafka, exclusive. stored: next
    offset to read, without partitions never read. complete_ms: all produced by then is stored.
    """

    at_ms: int
    ends: Mapping[Partition, int]
    stored: Mapping[Partition, int]
    complete_ms: int | None
    clock_error_ms: int = 0
    """How far the machine's clock is ahead of at_ms, 0 while it is believed."""


@dataclass(frozen=True)
class IngestPlan:
    """One ingest query: what it reads, how often, and what its tasks go by."""

    tasks: TaskSettings
    cluster: Cluster
    topics: tuple[str, ...]
    """Topics of samples and of definitions."""
    trigger_s: float
    batch: BatchLimits
    complete_every_s: float
    max_clock_gap_ms: int
    """How far the clock may be ahead of all that is stored and sent at a start."""
    grace_ms: int
    """How long rollups leave a window open after its input is complete."""
    on_expired_offsets: str
    """What to do about offsets that Kafka has dropped before they were stored: stop or count."""
    on_truncation: str
    """What to do about a log that was cut below what was stored of it: refuse or reread."""
    limits_files: tuple[Path, ...]
    """The first of them that exists says what metrics may cost; read again when it changes."""
    active_ms: int
    """How long a series counts against the limits after the last hour it was seen in."""
    quarantine_retention_ms: int
    quarantine_bytes: int
    """The bound of quarantine, of all queries."""
    available_now: bool = False
    """Whether the query ends by itself once all is stored that Kafka had at the start."""
    on_batch: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the accounting of every committed batch, seconds taken included."""
    on_look: Callable[[Reach], None] | None = None
    """Called whenever the query has asked Kafka how far input goes."""
    on_replay: Callable[[Replayed], None] | None = None
    """Called with what every replay of quarantine came to."""
    on_expiry: Callable[[Expired], None] | None = None
    """Called with what this query has removed from quarantine, if anything."""

    @property
    def query(self) -> str:
        return self.tasks.query

    @property
    def store(self) -> Store:
        return self.tasks.store


def task_plan(
    settings: TaskSettings, registry: SeriesRegistry, now_ms: int, limits: Limits
) -> TaskPlan:
    """What the tasks of a batch that begins at now_ms go by."""
    return TaskPlan(
        settings=settings,
        now_ms=now_ms,
        oldest_ms=sure_since(now_ms, settings.raw_retention_ms),
        newest_ms=now_ms + settings.max_future_ms,
        old_before_ms=now_ms - settings.old_after_ms,
        series_version=registry.index.version,
        limits=limits,
        full=registry.full(limits),
    )


def after_registration(
    plan: TaskPlan, registry: SeriesRegistry, refused: Mapping[SeriesKey, Reason]
) -> TaskPlan:
    """What tasks go by that run once more, when the registry has refused some of their series."""
    return replace(
        plan,
        refused=refused,
        registration_done=True,
        series_version=registry.index.version,
        full=registry.full(plan.limits),
    )
