"""The programs of `varve up`, and how to tell that each of them works."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from varve.kafka.connection import answers
from varve.kafka.topics import TopicPlan
from varve.local import broker
from varve.local.broker import BrokerConfig
from varve.local.supervisor import Component
from varve.model.errors import NeedsOperator
from varve.services.home import Home
from varve.services.status import read_status
from varve.settings import Settings
from varve.settings.environment import variable_of
from varve.settings.loading import COMMAND_LINE
from varve.setup.console import SetupError
from varve.setup.java import find_java

KAFKA = "kafka"
STREAMS = "streams"
QUERY = "query"
COLLECTOR = "collector"
MAINTENANCE = "maintenance"
HISTORY = "demo-history"

# Long enough for a busy old laptop: what is merely slow must not be started over.
_READY_S = 600


def broker_config(settings: Settings, home: Home) -> BrokerConfig:
    kafka = settings.kafka
    return BrokerConfig(
        home.kafka, kafka.port, kafka.controller_port, kafka.heap_mb, kafka.retention_s * 1000
    )


def topic_plans(settings: Settings) -> list[TopicPlan]:
    """Shares of the disk: samples come by far in the greatest numbers."""
    topics, partitions = settings.kafka.topics, settings.kafka.partitions
    return [
        TopicPlan(topics.raw, partitions, 0.7, broker.MAX_MESSAGE_BYTES),
        TopicPlan(topics.critical, partitions, 0.15, broker.MAX_MESSAGE_BYTES),
        TopicPlan(topics.series, partitions, 0.05),
        TopicPlan(topics.anomalies, partitions, 0.05),
        TopicPlan(topics.alerts, partitions, 0.05),
    ]


def kafka(config: BrokerConfig) -> Component:
    """After `broker.prepare`."""
    cluster = broker.cluster_id(config)

    def ready(_pid: int) -> bool:
        return answers(config.bootstrap_servers, cluster=cluster)

    return Component(
        KAFKA, broker.command(config), ready, ready_deadline_s=60, directory=config.directory
    )


def service(
    name: str, home: Home, config: Path | None, environment: dict[str, str], *, stop_s: float = 15.0
) -> Component:
    """`varve serve NAME`, ready when its status file says so."""
    return Component(
        name,
        _serve(name, home, config),
        _says_ready(home, name),
        ready_deadline_s=_READY_S,
        stop_s=stop_s,
        ends=name == HISTORY,
        environment=environment,
    )


def environment(settings: Settings, origins: dict[str, str]) -> dict[str, str]:
    """What components see besides this process's environment.

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
    """Lets Spark start with an unresolvable host name and without JAVA_HOME."""
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


def _says_ready(home: Home, name: str) -> Callable[[int], bool]:
    def ready(pid: int) -> bool:
        record = read_status(home.path).get(name)
        return record is not None and record.pid == pid and record.state == "ready"

    return ready
