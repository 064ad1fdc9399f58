"""Quality checks with the settings in force: where their results go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from varve.client.producer import Producer
from varve.kafka.alert_topic import send_alerts
from varve.maintenance.quality.job import QualityCheck
from varve.maintenance.quality.suites import Judgement, Thresholds
from varve.model.alert_event import AlertEvent
from varve.model.errors import BadRequest
from varve.model.window import Window
from varve.services.progress import kafka_cluster, table_store
from varve.settings import Settings


def quality_check(
    settings: Settings, start_ms: int | None, end_ms: int | None, seed: int | None
) -> QualityCheck:
    """The job for (start_ms, end_ms], or for the last day if neither is given. Raises BadRequest if
    one is missing or the range is empty.
    """
    if (start_ms is None) != (end_ms is None):
        raise BadRequest("give both --from and --to, or neither for the last day")
    window = None
    if start_ms is not None and end_ms is not None:
        if start_ms >= end_ms:
            raise BadRequest("--from is not before --to")
        window = Window(start_ms, end_ms)
    expected = settings.quality
    return QualityCheck(
        table_store(settings),
        Thresholds(
            expected.max_null_share,
            expected.max_gap_share,
            expected.max_reset_share,
            expected.share_of_series,
        ),
        partial(_tell, settings),
        rows=expected.rows,
        hours=expected.hours,
        window=window,
        seed=seed,
        docs=settings.home.absolute() / "quality",
    )


def _tell(
    settings: Settings, events: Sequence[AlertEvent], found: Sequence[Judgement], at_ms: int
) -> None:
    """Raises TemporaryError if Kafka does not take it."""
    cluster = kafka_cluster(settings)
    send_alerts(cluster, settings.kafka.topics.alerts, events)
    with Producer(
        cluster.bootstrap_servers,
        settings.kafka.topics.raw,
        options=cluster.options,
        client_id="varve-quality",
        delivery_s=30,
        connect_s=10,
        stale_markers=False,
    ) as producer:
        for judgement in found:
            tags = {
                "suite": judgement.suite,
                "expectation": judgement.expectation,
                "column": judgement.column_name or "",
            }
            tags = {name: value for name, value in tags.items() if value}
            producer.gauge("varve_quality_success", float(judgement.success), tags, at_ms)
