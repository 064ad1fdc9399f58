"""The ingest queries as the settings describe them. Needs neither Spark nor Java."""

from __future__ import annotations

from collections.abc import Sequence

from varve.ingest.batch_size import BatchLimits
from varve.ingest.plan import IngestPlan, TaskSettings
from varve.model.errors import BadRequest
from varve.model.window import DAY_MS, HOUR_MS
from varve.services.limits import limits_files
from varve.services.progress import kafka_cluster, table_store
from varve.settings import Settings


def ingest_plans(
    settings: Settings, only: Sequence[str] | None = None, *, available_now: bool = False
) -> list[IngestPlan]:
    """The ingest queries: a storm on the topic of one does not delay the other.

    only: their names, all by default. available_now: they end by themselves once everything is
    stored that Kafka had when they started. Raises BadRequest for a name that is none.
    """
    topics = settings.ingest_queries()
    for name in only or ():
        if name not in topics:
            raise BadRequest(f"there is no ingest query {name}: there are {', '.join(topics)}")
    store, cluster = table_store(settings), kafka_cluster(settings)
    ingest, definitions = settings.ingest, settings.kafka.topics.series
    return [
        IngestPlan(
            tasks=TaskSettings(
                store=store,
                query=query,
                definition_topics=frozenset({definitions}) if query == "bulk" else frozenset(),
                raw_retention_ms=int(settings.retention.samples_days * DAY_MS),
                max_future_ms=ingest.max_future_s * 1000,
                old_after_ms=ingest.late_after_s * 1000,
                max_message_bytes=ingest.max_message_bytes,
                reject_bytes=ingest.reject_bytes,
                scratch=ingest.scratch,
            ),
            cluster=cluster,
            # The registry is one: definitions read by the bulk query serve every other.
            topics=(topic, definitions) if query == "bulk" else (topic,),
            trigger_s=ingest.trigger_s,
            batch=BatchLimits(
                ingest.max_messages_per_batch,
                ingest.max_samples_per_batch,
                ingest.max_bytes_per_batch,
            ),
            complete_every_s=ingest.complete_every_s,
            max_clock_gap_ms=int(ingest.max_clock_gap_days * DAY_MS),
            grace_ms=int(settings.rollup.grace_s * 1000),
            on_expired_offsets=ingest.on_expired_offsets,
            on_truncation=settings.kafka.on_truncation,
            limits_files=limits_files(settings),
            active_ms=int(ingest.active_hours * HOUR_MS),
            quarantine_retention_ms=int(settings.retention.quarantine_days * DAY_MS),
            quarantine_bytes=settings.retention.quarantine_bytes,
            available_now=available_now,
        )
        for query, topic in topics.items()
        if not only or query in only
    ]
