"""The programs of `varve up`, and how to tell that each of them works."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from varve.kafka.connection import answers
from varve.kafka.topics import TopicPlan
from varve.local import broker
from varve.local.broker import BrokerConfig
from varve.local.supervisor import Component
from varve.model.errors import NeedsOperator
from varve.services.home import Home
from varve.settings import Settings
from varve.settings.environment import variable_of
from varve.settings.loading import COMMAND_LINE
from varve.settings.rules import Rules
from varve.setup.console import SetupError
from varve.setup.java import find_java

KAFKA = "kafka"
STREAMS = "streams"
QUERY = "query"
GATEWAY = "gateway"
SCRAPE = "scrape"
COLLECTOR = "collector"
MAINTENANCE = "maintenance"
FORECASTS = "forecasts"
RULES = "rules"
NOTIFY = "notify"
HISTORY = "demo-history"
WRITER = "demo-writer"

PRODUCERS = (HISTORY, RULES, COLLECTOR, WRITER, GATEWAY, SCRAPE)

# Long enough for a busy old laptop: what is merely slow must not be started over.
_READY_S = 600
# What is in the middle of a piece of work when it is asked to end finishes that first.
_FINISH_A_PIECE = (STREAMS, MAINTENANCE, FORECASTS)
# What works in batches gets on in larger steps.
_BATCHES = 3


def broker_config(settings: Settings, home: Home) -> BrokerConfig:
    """The broker that `varve up` starts, as the settings have it."""
    kafka = settings.kafka
    return BrokerConfig(
        home.kafka, kafka.port, kafka.controller_port, kafka.heap_mb, kafka.retention_s * 1000
    )


def topic_plans(settings: Settings) -> list[TopicPlan]:
    """The topics with their shares of the disk: samples come by far in the greatest numbers."""
    topics, partitions = settings.kafka.topics, settings.kafka.partitions
    several = settings.gateway.processes > 1 and topics.leaders
    return [
        TopicPlan(topics.raw, partitions, 0.6, broker.MAX_MESSAGE_BYTES),
        TopicPlan(topics.critical, partitions, 0.15, broker.MAX_MESSAGE_BYTES),
        *(TopicPlan(topic, partitions, 0.05) for topic in settings.record_queries().values()),
        TopicPlan(topics.series, partitions, 0.05),
        TopicPlan(topics.anomalies, partitions, 0.05),
        TopicPlan(topics.alerts, partitions, 0.05),
        *([TopicPlan(topics.leaders, 1)] if several else []),
    ]


def kafka(config: BrokerConfig, stalled_s: float) -> Component:
    """The broker, which must have been prepared. It gets on as long as it answers."""
    cluster = broker.cluster_id(config)

    def probe() -> bool:
        return answers(config.bootstrap_servers, cluster=cluster)

    return Component(
        KAFKA,
        broker.command(config),
        stalled_s,
        probe,
        ready_deadline_s=broker.START_DEADLINE_S,
        directory=config.directory,
    )


def service(
    name: str,
    settings: Settings,
    home: Home,
    config: Path | None,
    environment: dict[str, str],
) -> Component:
    """`varve serve NAME`, which says by itself that it is ready and gets on."""
    return Component(
        name,
        _serve(name, home, config),
        _stalled_s(name, settings),
        ready_deadline_s=_READY_S,
        stop_s=60.0 if name in _FINISH_A_PIECE else 15.0,
        ends=name == HISTORY,
        environment=environment,
    )


def notifier(
    settings: Settings, home: Home, config_file: Path, environment: dict[str, str]
) -> Component:
    """`varve serve notify`, which keeps its state in the home."""
    notify = settings.notify
    host = f"[{notify.host}]" if ":" in notify.host else notify.host
    options = [
        f"--config.file={config_file}",
        f"--storage.path={home.path / NOTIFY}",
        f"--web.listen-address={host}:{notify.port}",
        f"--web.external-url={notify.external_url}",
    ]
    if notify.oncall_file:
        options.append(f"--oncall.file={notify.oncall_file}")
    return Component(
        NOTIFY,
        [*_serve(NOTIFY, home, None), *options],
        settings.supervision.stalled_after_s,
        ready_deadline_s=_READY_S,
        environment=environment,
    )


def rules_environment(settings: Settings, *, demo: bool) -> dict[str, str]:
    """Variables of the rules service: it tells the notifier of this home, and of the demo, too."""
    given = {}
    default = Rules()
    notify = settings.notify
    if settings.rules.notifiers == default.notifiers and notify.enabled:
        host = f"[{notify.host}]" if ":" in notify.host else notify.host
        given[variable_of("rules.notifiers")] = f"http://{host}:{notify.port}"
    if demo and settings.rules.files == default.files:
        given[variable_of("rules.files")] = f"{default.files},demo-alerts.yml"
    return given


def _stalled_s(name: str, settings: Settings) -> float:
    """Seconds after which the service hangs if it has not said that it gets on."""
    stalled_s = settings.supervision.stalled_after_s
    if name in (COLLECTOR, WRITER):  # says so at each measurement
        return max(stalled_s, _BATCHES * settings.collector.interval_s)
    if name == FORECASTS:  # says so at each look
        return _BATCHES * max(stalled_s, settings.forecasts.look_every_s)
    if name == MAINTENANCE:
        return _BATCHES * max(stalled_s, settings.maintenance.compact_every_s)
    return stalled_s if name in (QUERY, GATEWAY, SCRAPE) else _BATCHES * stalled_s


def environment(settings: Settings, origins: dict[str, str]) -> dict[str, str]:
    """Variables of the components besides those of this process.

    Options of the command line go on as variables, which beat the file as they do.
    """
    given = {
        variable_of(key): str(settings.at(key))
        for key, origin in origins.items()
        if origin == COMMAND_LINE and key != "home"
    }
    # A folder of the user's that is called kafka must not be taken for the library.
    return given | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def spark_environment() -> dict[str, str]:
    """Variables with which Spark starts without JAVA_HOME and with an unresolvable host name.

    Raises NeedsOperator without a Java.
    """
    try:
        java = find_java(os.environ)
    except SetupError as err:
        raise NeedsOperator(f"cannot run Spark: {err}") from err
    return {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_HOSTNAME": "localhost",
        "JAVA_HOME": str(java.home),
    }


def _serve(name: str, home: Home, config: Path | None) -> list[str]:
    command = [sys.executable, "-m", "varve.cli", "serve", name, "--home", str(home.path)]
    return command if config is None else [*command, "--config", str(config.absolute())]
