"""The streaming queries of `varve up` in one Spark JVM: ingest of both topics, and the rollups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from varve.ingest.plan import IngestPlan
from varve.kafka.offsets import TopicOffsets
from varve.services.ingest_plans import ingest_plans
from varve.services.instruments import Instruments
from varve.services.progress import table_store
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus
from varve.settings import Settings
from varve.spark.ingest import IngestQuery
from varve.spark.jvm_signals import pass_on_signals
from varve.spark.listener import StreamListener
from varve.spark.rollup import RollupPlan, RollupQuery
from varve.spark.session import SparkSession, local_conf, session
from varve.spark.stream_progress import StreamProgress
from varve.storage.table import create_tables

log = logging.getLogger(__name__)

_CHECK_S = 0.5

Query = IngestQuery | RollupQuery
Start = Callable[[SparkSession], Query]


def rollup_plan(settings: Settings) -> RollupPlan:
    """The rollups over everything the ingest queries store."""
    return RollupPlan(
        store=table_store(settings),
        queries=tuple(settings.ingest_queries()),
        trigger_s=settings.rollup.trigger_s,
        grace_ms=int(settings.rollup.grace_s * 1000),
        repair_every_ms=int(settings.rollup.repair_every_s * 1000),
        repair_keys=settings.rollup.repair_keys,
    )


def require_topics(plans: Sequence[IngestPlan]) -> None:
    """Raises TemporaryError without Kafka, NeedsOperator without a topic of samples."""
    for plan in plans:
        samples = [name for name in plan.topics if name not in plan.tasks.definition_topics]
        topics = TopicOffsets(plan.cluster, samples)
        try:
            topics.partitions()
        finally:
            topics.close()


def start_ingest(plan: IngestPlan) -> Start:
    """A function that starts the query in a session, after creating the tables that are missing."""

    def start(spark: SparkSession) -> Query:
        create_tables(plan.store)
        return IngestQuery(spark, plan)

    return start


def start_rollup(plan: RollupPlan) -> Start:
    """A function that starts the query in a session, after creating the tables that are missing."""

    def start(spark: SparkSession) -> Query:
        create_tables(plan.store)
        return RollupQuery(spark, plan)

    return start


def run_queries(
    spark: SparkSession,
    starts: Sequence[Start],
    on_ready: Callable[[Sequence[Query]], None] | None = None,
    listener: StreamListener | None = None,
    on_progress: Callable[[], None] | None = None,
    on_problems: Callable[[str], None] | None = None,
) -> int:
    """Runs queries until SIGTERM or SIGINT, then ends each after its batch under way; 0.

    Ends by itself when all of them have, having stored what was available. Raises what ends a
    query otherwise, after the others are ended. on_progress: called when each query has got on
    since the last time. on_problems: told what is not as it should be while queries go on, when
    that changes; "" when all is well again.
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
        events = listener.events if listener is not None else {}
        progress = StreamProgress(spark, [query.stream for query in queries], events)
        while not stopping.wait(_CHECK_S):
            for query in queries:
                query.raise_failure()
            if on_progress and progress.advanced():
                on_progress()
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
            status.progressed,
            lambda problems: status.update(detail={"degraded": problems or None}),
        )
    status.update(state="stopped")
    return result
