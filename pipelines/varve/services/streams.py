"""The streaming queries of `varve up` in one Spark JVM: ingest, rollups and anomalies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from varve.anomaly.rules import RulesFile
from varve.ingest.plan import IngestPlan
from varve.kafka.client_options import Cluster
from varve.kafka.offsets import TopicOffsets
from varve.model.record_rows import RECORD_TABLES
from varve.model.resources import conf_dir
from varve.services.ingest_plans import ingest_plans
from varve.services.instruments import Instruments
from varve.services.progress import table_store
from varve.services.query_supervision import Start, supervise
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus
from varve.settings import Settings
from varve.spark.anomalies import AnomalyPlan, AnomalyQuery
from varve.spark.ingest import IngestQuery
from varve.spark.jvm_signals import pass_on_signals
from varve.spark.listener import StreamListener
from varve.spark.rollup import RollupPlan, RollupQuery
from varve.spark.session import SparkSession, local_conf, session
from varve.spark.stream_progress import StreamProgress
from varve.storage.table import create_tables

log = logging.getLogger(__name__)

QueryStart = Start[SparkSession]


def rollup_plan(settings: Settings) -> RollupPlan:
    """The rollups over everything the ingest queries store."""
    return RollupPlan(
        store=table_store(settings),
        queries=tuple(settings.sample_queries()),
        trigger_s=settings.rollup.trigger_s,
        grace_ms=int(settings.rollup.grace_s * 1000),
        repair_every_ms=int(settings.rollup.repair_every_s * 1000),
        repair_keys=settings.rollup.repair_keys,
    )


def with_topics(plans: Sequence[IngestPlan]) -> list[IngestPlan]:
    """The plans, without queries of histograms or exemplars whose topic does not exist: a cluster
    that has none goes on storing samples. Raises TemporaryError without Kafka.
    """
    found = []
    for plan in plans:
        if plan.query in RECORD_TABLES:
            topics = TopicOffsets(plan.cluster, plan.topics)
            try:
                missing = set(plan.topics) - set(topics.existing())
            finally:
                topics.close()
            if missing:
                name = min(missing)
                log.warning("no topic %s: no %s are stored until a restart", name, plan.query)
                continue
        found.append(plan)
    return found


def anomaly_plan(settings: Settings) -> AnomalyPlan:
    """What judges the minutes of all series. Raises NeedsOperator for malformed anomalies.toml."""
    name, kafka = "anomalies.toml", settings.kafka
    rules = RulesFile([settings.home / name, conf_dir() / name])
    return AnomalyPlan(
        store=table_store(settings),
        cluster=Cluster(kafka.servers(), kafka.client_options()),
        rules=rules.current,
        topic=kafka.topics.anomalies,
        alerts_topic=kafka.topics.alerts,
        trigger_s=settings.anomalies.trigger_s,
        calendar=settings.holidays.calendar(),
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


def start_ingest(plan: IngestPlan) -> QueryStart:
    """What starts the query in a session, after creating the tables that are missing."""

    def start(spark: SparkSession) -> IngestQuery:
        create_tables(plan.store)
        return IngestQuery(spark, plan)

    return Start(f"ingest-{plan.query}", start)


def start_rollup(plan: RollupPlan) -> QueryStart:
    """What starts the query in a session, after creating the tables that are missing."""

    def start(spark: SparkSession) -> RollupQuery:
        create_tables(plan.store)
        return RollupQuery(spark, plan)

    return Start("rollup", start)


def start_detection(plan: AnomalyPlan) -> QueryStart:
    """What starts the query in a session, after creating the tables that are missing."""

    def start(spark: SparkSession) -> AnomalyQuery:
        create_tables(plan.store)
        return AnomalyQuery(spark, plan)

    return Start("anomalies", start)


def run_queries(
    spark: SparkSession,
    starts: Sequence[QueryStart],
    on_change: Callable[[Mapping[str, str]], None] = lambda _: None,
    listener: StreamListener | None = None,
    on_progress: Callable[[], None] = lambda: None,
    on_problems: Callable[[str], None] = lambda _: None,
) -> int:
    """Runs queries until SIGTERM or SIGINT, then ends each after its batch under way; 0.

    Ends by itself when all of them have, having stored what was available. on_change and what is
    raised: as in varve.services.query_supervision. on_progress: called when each running query has
    got on since the last time. on_problems: told what is not as it should be while queries go on,
    when that changes; "" when all is well again.
    """
    stopping = stop_requested()
    if listener is not None:
        spark.streams.addListener(listener)
    pass_on_signals(spark, stopping.set)
    watch = _Watch(spark, listener.events if listener else {}, on_progress, on_problems)
    try:
        supervise(
            spark,
            starts,
            stopping,
            is_done=lambda query: isinstance(query, IngestQuery) and query.done,
            on_change=on_change,
            on_look=watch.look,
        )
    finally:
        spark.stop()
    return 0


class _Watch:
    """Tells whether the running queries get on, and what is wrong with them."""

    def __init__(
        self,
        spark: SparkSession,
        events: Mapping[str, int],
        on_progress: Callable[[], None],
        on_problems: Callable[[str], None],
    ) -> None:
        self._spark, self._events = spark, events
        self._on_progress, self._on_problems = on_progress, on_problems
        self._runs: list[str] = []
        self._progress: StreamProgress | None = None
        self._told = ""

    def look(self, queries: Sequence[IngestQuery | RollupQuery | AnomalyQuery]) -> None:
        """queries: those that run now; one that was started again has another run id."""
        streams = [query.stream for query in queries]
        runs = [str(stream.runId) for stream in streams]
        if runs != self._runs or self._progress is None:
            self._runs = runs
            self._progress = StreamProgress(self._spark, streams, self._events)
        if self._progress.advanced():
            self._on_progress()
        problems = "; ".join(text for query in queries for text in query.problems())
        if problems != self._told:
            self._told = problems
            self._on_problems(problems)


def run_job(
    name: str, settings: Settings, starts: Sequence[QueryStart], instruments: Instruments
) -> int:
    """Runs the queries of a main of spark-submit, and shows their metrics on a page: on the next
    free port if telemetry.port is taken, as by other jobs. Raises as `run_queries` does.
    """
    with instruments.shown(settings, beside_others=True) as url:
        log.info("metrics are at %s", url)
        return run_queries(session(name), starts, listener=StreamListener(instruments.streams))


def run(settings: Settings) -> int:
    """Runs all queries in one JVM, until a signal ends them; 0. Raises as `run_queries`."""
    status = ComponentStatus(settings.home, "streams")
    status.update(state="starting")
    instruments = Instruments()
    plans = instruments.on_ingest(with_topics(ingest_plans(settings)))
    rollup = instruments.on_rollup(rollup_plan(settings))
    starts = [*(start_ingest(plan) for plan in plans), start_rollup(rollup)]
    if settings.anomalies.enabled:
        starts.append(start_detection(instruments.on_anomalies(anomaly_plan(settings))))
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
            starts,
            lambda failures: status.update(state="ready", detail=_detail(failures)),
            StreamListener(instruments.streams),
            status.progressed,
            lambda problems: status.update(detail={"degraded": problems or None}),
        )
    status.update(state="stopped")
    return result


def _detail(failures: Mapping[str, str]) -> dict[str, Any]:
    """The queries that run, and why others do not."""
    return {
        "queries": [name for name, failure in failures.items() if not failure],
        "failed": {name: failure for name, failure in failures.items() if failure},
    }
