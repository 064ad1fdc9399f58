"""Measures Spark's queries: puts what they report into metrics, and shows those on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from varve.anomaly.detector import Judged
from varve.ingest.plan import IngestPlan, Reach
from varve.ingest.quarantine_expiry import Expired
from varve.ingest.reject_reasons import Reason
from varve.ingest.replayed import Replayed
from varve.model.record_rows import RECORD_TABLES
from varve.model.window import TIERS
from varve.rollups.tier_plan import TierProgress
from varve.services.metrics_page import serving
from varve.services.progress import table_store
from varve.services.table_sizes import TableSizes
from varve.services.usage import spark_parts
from varve.settings import Settings
from varve.spark.anomalies import AnomalyPlan
from varve.spark.rollup import RollupPlan
from varve.telemetry.metrics import (
    AnomalyMetrics,
    IngestMetrics,
    RollupMetrics,
    StreamMetrics,
    TableMetrics,
    declare_parts,
)
from varve.telemetry.registry import Telemetry

INGEST_TABLES = ("samples", *RECORD_TABLES, "series", "quarantine")
PORTS = 10
"""Ports from telemetry.port on that jobs of one machine share; each takes the first free one."""

ANOMALY_TABLES = ("anomalies", "episodes")
ROLLUP_TABLES = (*(tier.table for tier in TIERS), "repairs")


class Instruments:
    """The metrics of one process with Spark queries. Methods may be called from any thread."""

    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.streams = StreamMetrics(self.telemetry)
        self._tables = TableMetrics(self.telemetry)
        self._names: list[str] = []
        declare_parts(self.telemetry, spark_parts)

    def on_ingest(self, plans: Sequence[IngestPlan]) -> list[IngestPlan]:
        """The plans with callbacks that feed the metrics of ingest."""
        metrics = IngestMetrics(self.telemetry)
        for plan in plans:
            _begin(metrics, plan.query)
        self._names += INGEST_TABLES
        return [self._measured(plan, metrics) for plan in plans]

    def on_rollup(self, plan: RollupPlan) -> RollupPlan:
        """The plan with callbacks that feed the metrics of rollups."""
        metrics = RollupMetrics(self.telemetry)
        for tier in TIERS:
            for work in ("close", "repair"):
                metrics.rows.labels(tier.name, work)
            metrics.refused.labels(tier.name)
            metrics.conflicts.labels(tier.name)
        self._names += ROLLUP_TABLES

        def committed(accounting: Mapping[str, Any]) -> None:
            with self.telemetry.together():
                record_step(metrics, accounting)

        return replace(
            plan,
            on_commit=committed,
            on_look=lambda tier, progress: record_progress(metrics, tier, progress),
            on_conflict=lambda tier: metrics.conflicts.labels(tier).inc(),
        )

    def on_anomalies(self, plan: AnomalyPlan) -> AnomalyPlan:
        """The plan with callbacks that feed the metrics of anomalies."""
        metrics = AnomalyMetrics(self.telemetry)
        self._names += ANOMALY_TABLES

        def stepped(done: Judged) -> None:
            with self.telemetry.together():
                metrics.deviations.inc(done.deviations)
                metrics.events.inc(done.events)

        def looked(frontier_ms: int | None, waiting: str) -> None:
            with self.telemetry.together():
                metrics.frontier.set((frontier_ms or 0) / 1000)
                metrics.waiting.set(bool(waiting))

        return replace(plan, on_step=stepped, on_look=looked)

    @contextmanager
    def shown(self, settings: Settings, *, beside_others: bool = False) -> Iterator[str]:
        """Serves the page until the block ends, and gives its address.

        beside_others: if telemetry.port is taken, one of the next nine ports is used, or else any
        that is free. Otherwise NeedsOperator is raised.
        """
        store = table_store(settings)
        telemetry = settings.telemetry
        sizes = TableSizes(store, self._names, self._tables)
        others = _ports_after(settings) if beside_others else ()
        port, setting = telemetry.port, "telemetry.port"
        with serving(self.telemetry, telemetry.host, port, setting, others) as url:
            sizes.start()
            try:
                yield url
            finally:
                sizes.stop()

    def _measured(self, plan: IngestPlan, metrics: IngestMetrics) -> IngestPlan:
        def stored(accounting: Mapping[str, Any]) -> None:
            with self.telemetry.together():
                record_batch(metrics, accounting)

        def replayed(counts: Replayed) -> None:
            with self.telemetry.together():
                record_replay(metrics, plan.query, counts)

        def expired(expired: Expired) -> None:
            with self.telemetry.together():
                record_expiry(metrics, expired)

        def looked(reach: Reach) -> None:
            with self.telemetry.together():
                record_reach(metrics, plan.query, reach)

        return replace(plan, on_batch=stored, on_replay=replayed, on_look=looked, on_expiry=expired)


def _ports_after(settings: Settings) -> list[int]:
    """Where a job looks for a port if its own is taken; the last is any that is free."""
    first = settings.telemetry.port
    reserved = {settings.telemetry.up_port, settings.query.port}
    ports = range(first + 1, min(first + PORTS, 65_536))
    return [*(port for port in ports if port not in reserved), 0]


def record_batch(metrics: IngestMetrics, accounting: Mapping[str, Any]) -> None:
    """Records a committed batch by its accounting."""
    query = accounting["query"]
    metrics.samples.labels(query).inc(accounting["in"])
    metrics.stored.labels(query).inc(accounting["stored"])
    metrics.merged.labels(query).inc(accounting["merged"])
    for reason, count in accounting["rejected"].items():
        metrics.rejected.labels(query, reason).inc(count)
    metrics.messages.labels(query).inc(accounting["messages"])
    metrics.gaps.labels(query).inc(sum(b - a for a, b in accounting["gaps"].values()))
    metrics.read_bytes.labels(query).inc(accounting["bytes"])
    metrics.files.labels(query).inc(accounting["files"])
    metrics.written_bytes.labels(query).inc(accounting["written_bytes"])
    metrics.cpu.labels(query).inc(accounting["driver_cpu_s"])
    metrics.batch.labels(query).observe(accounting["seconds"])
    metrics.commit.labels(query).observe(accounting["commit_s"])
    metrics.series.labels(query).set(accounting["series"])
    metrics.active.labels(query).set(accounting["active_series"])
    metrics.awaited.labels(query).set(accounting["awaited"])


def record_replay(metrics: IngestMetrics, query: str, replayed: Replayed) -> None:
    """Records a replay of quarantine by its counts."""
    metrics.replayed.labels(query, "stored").inc(replayed.stored)
    metrics.replayed.labels(query, "merged").inc(replayed.merged)
    metrics.replayed.labels(query, "rejected").inc(replayed.rejected.total())


def record_expiry(metrics: IngestMetrics, expired: Expired) -> None:
    """Records what was removed from quarantine, whichever query had refused it."""
    for cause, counts in (("age", expired.by_age), ("size", expired.by_size)):
        for reason, count in counts.items():
            metrics.expired.labels(cause, reason).inc(count)


def record_reach(metrics: IngestMetrics, query: str, reach: Reach) -> None:
    """Records how far a query is. A partition that is gone keeps its last value until a restart."""
    waiting = 0
    for partition, end in reach.ends.items():
        unread = max(0, end - reach.stored.get(partition, 0))
        metrics.lag.labels(query, partition.topic, str(partition.number)).set(unread)
        waiting += unread
    metrics.clock_error.labels(query).set(reach.clock_error_ms / 1000)
    if reach.complete_ms is not None:
        metrics.complete.labels(query).set(reach.complete_ms / 1000)
        # Everything older is stored, so what waits was produced since.
        age_ms = max(0, reach.at_ms - reach.complete_ms) if waiting else 0
        metrics.unread_age.labels(query).set(age_ms / 1000)


def record_step(metrics: RollupMetrics, accounting: Mapping[str, Any]) -> None:
    """Records a commit of a tier by its accounting."""
    tier = accounting["tier"]
    work = "repair" if accounting["closed"] is None else "close"
    metrics.rows.labels(tier, work).inc(accounting["rows"])
    metrics.refused.labels(tier).inc(accounting["refused"])
    metrics.written_bytes.labels(tier).inc(accounting["written_bytes"])
    metrics.step.labels(tier).observe(accounting["seconds"])
    metrics.commit.labels(tier).observe(accounting["commit_s"])


def record_progress(metrics: RollupMetrics, tier: str, progress: TierProgress) -> None:
    """Records how far a tier's worker is."""
    if progress.frontier_ms is not None:
        metrics.frontier.labels(tier).set(progress.frontier_ms / 1000)
    metrics.pending.labels(tier).set(progress.pending)
    metrics.behind.labels(tier).set(progress.behind)
    metrics.failing.labels(tier).set(bool(progress.failure))
    metrics.unreadable.labels(tier).set(len(progress.unreadable))


def _begin(metrics: IngestMetrics, query: str) -> None:
    """Makes the counters of a query, so that a first rejection is an increase from 0."""
    for counter in (
        *(metrics.samples, metrics.stored, metrics.merged, metrics.messages, metrics.gaps),
        *(metrics.read_bytes, metrics.files, metrics.written_bytes, metrics.cpu),
    ):
        counter.labels(query)
    for reason in Reason:
        metrics.rejected.labels(query, reason.value)
        for cause in ("age", "size"):
            metrics.expired.labels(cause, reason.value)
    for outcome in ("stored", "merged", "rejected"):
        metrics.replayed.labels(query, outcome)
