"""The streaming queries of `varve up` in one Spark JVM: ingest of both topics, and the rollups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from varve.kafka.client_options import client_options
from varve.kafka.offsets import Topics
from varve.model.errors import BadRequest
from varve.model.resources import conf_dir
from varve.model.window import DAY_MS, HOUR_MS
from varve.services.instruments import Instruments
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus
from varve.settings import Settings
from varve.spark.ingest import IngestPlan, IngestQuery
from varve.spark.jvm_signals import pass_on_signals
from varve.spark.listener import StreamListener
from varve.spark.rollup import RollupPlan, RollupQuery
from varve.spark.session import SparkSession, local_conf, session
from varve.storage.store import Store
from varve.storage.table import create_tables

log = logging.getLogger(__name__)

_CHECK_S = 0.5

Query = IngestQuery | RollupQuery
Start = Callable[[SparkSession], Query]


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
    store = Store(settings.storage_root(), settings.storage_options())
    ingest, definitions = settings.ingest, settings.kafka.topics.series
    return [
        IngestPlan(
            query=query,
            # The registry is one: definitions read by the bulk query serve every other.
            topics=(topic, definitions) if query == "bulk" else (topic,),
            definition_topics=frozenset({definitions}) if query == "bulk" else frozenset(),
            store=store,
            brokers=settings.kafka.servers(),
            kafka=settings.kafka.client_options(),
            raw_retention_ms=int(settings.retention.samples_days * DAY_MS),
            trigger_s=ingest.trigger_s,
            max_messages_per_batch=ingest.max_messages_per_batch,
            max_message_bytes=ingest.max_message_bytes,
            max_future_ms=ingest.max_future_s * 1000,
            late_after_ms=ingest.late_after_s * 1000,
            complete_every_s=ingest.complete_every_s,
            grace_ms=int(settings.rollup.grace_s * 1000),
            on_expired_offsets=ingest.on_expired_offsets,
            limits_files=limits_files(settings),
            reject_bytes=ingest.reject_bytes,
            active_ms=int(ingest.active_hours * HOUR_MS),
            quarantine_retention_ms=int(settings.retention.quarantine_days * DAY_MS),
            scratch=ingest.scratch,
            available_now=available_now,
        )
        for query, topic in topics.items()
        if not only or query in only
    ]


def limits_files(settings: Settings) -> tuple[Path, Path]:
    """Where limits are looked for: the first that exists is in force."""
    return settings.home / "limits.toml", conf_dir() / "limits.toml"


def rollup_plan(settings: Settings) -> RollupPlan:
    """The rollups over everything the ingest queries store."""
    return RollupPlan(
        store=Store(settings.storage_root(), settings.storage_options()),
        queries=tuple(settings.ingest_queries()),
        trigger_s=settings.rollup.trigger_s,
        grace_ms=int(settings.rollup.grace_s * 1000),
        repair_every_ms=int(settings.rollup.repair_every_s * 1000),
        repair_keys=settings.rollup.repair_keys,
    )


def require_topics(plans: Sequence[IngestPlan]) -> None:
    """Raises TemporaryError without Kafka, NeedsOperator without a topic of samples."""
    for plan in plans:
        client = {"bootstrap_servers": plan.brokers} | client_options(plan.kafka)
        topics = Topics(
            client, [name for name in plan.topics if name not in plan.definition_topics]
        )
        try:
            topics.partitions()
        finally:
            topics.close()


def start_ingest(plan: IngestPlan) -> Start:
    """What starts the query in a session; the tables are created if they are missing."""

    def start(spark: SparkSession) -> Query:
        create_tables(plan.store)
        return IngestQuery(spark, plan)

    return start


def start_rollup(plan: RollupPlan) -> Start:
    """What starts the query in a session; the tables are created if they are missing."""

    def start(spark: SparkSession) -> Query:
        create_tables(plan.store)
        return RollupQuery(spark, plan)

    return start


def run_queries(
    spark: SparkSession,
    starts: Sequence[Start],
    on_ready: Callable[[Sequence[Query]], None] | None = None,
    listener: StreamListener | None = None,
    on_problems: Callable[[str], None] | None = None,
) -> int:
    """Runs queries until SIGTERM or SIGINT, then ends each after its batch under way; 0.

    on_problems: told what is not as it should be while queries go on, when that changes; "" when
    all is well again. Ends by itself when all of them have, having stored what was available.
    Raises what ends a query otherwise, after the others are ended.
    """
    stopping = stop_requested()
    queries: list[Query] = []
    told = ""
    if listener is not None:
        spark.streams.addListener(listener)
    pass_on_signals(spark, stopping.set)
    try:
        # One by one: those already running are stopped if a later one cannot start.
        queries.extend(start(spark) for start in starts if not stopping.is_set())
        if on_ready:
            on_ready(queries)
        while not stopping.wait(_CHECK_S):
            for query in queries:
                query.raise_failure()
            problems = "; ".join(text for query in queries for text in query.problems())
            if on_problems and problems != told:
                on_problems(problems)
                told = problems
            if all(isinstance(query, IngestQuery) and query.done for query in queries):
                break
    finally:
        for query in queries:
            query.stop()
        spark.stop()
    return 0


def run_job(
    name: str, settings: Settings, starts: Sequence[Start], instruments: Instruments
) -> int:
    """Runs the queries of a main of spark-submit, and shows their metrics on a page: on the next
    free port if telemetry.port is taken, as by other jobs. Raises as `run_queries` does.
    """
    with instruments.shown(settings, beside_others=True) as url:
        log.info("metrics are at %s", url)
        return run_queries(session(name), starts, listener=StreamListener(instruments.streams))


def run(settings: Settings) -> int:
    """All queries in one JVM, until a signal ends them; 0. Raises what ends a query by itself."""
    status = ComponentStatus(settings.home, "streams")
    status.update(state="starting")
    instruments = Instruments()
    plans = instruments.on_ingest(ingest_plans(settings))
    rollup = instruments.on_rollup(rollup_plan(settings))
    # Says what is missing before Spark, which takes seconds and says it in a stack trace, starts.
    require_topics(plans)
    scratch = settings.home.absolute() / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    conf = local_conf(
        settings.spark.master,
        settings.spark.driver_memory_mb,
        scratch,
        json_logs=settings.logs.format == "json",
    )
    with instruments.shown(settings) as url:
        status.update(detail={"metrics": url})
        result = run_queries(
            session("varve", conf),
            [*(start_ingest(plan) for plan in plans), start_rollup(rollup)],
            lambda queries: status.update(
                state="ready", detail={"queries": [q.stream.name for q in queries]}
            ),
            StreamListener(instruments.streams),
            lambda problems: status.update(detail={"degraded": problems or None}),
        )
    status.update(state="stopped")
    return result
