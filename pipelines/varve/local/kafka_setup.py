"""The Kafka of `varve up`: a broker of its own or one that is there, and the topics on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from varve.kafka.connection import connect
from varve.kafka.topics import Bounds, ensure_topics
from varve.local import broker, components
from varve.local.supervisor import Component
from varve.model.errors import NeedsOperator, TemporaryError, VarveError
from varve.services.home import Home
from varve.services.progress import kafka_cluster, lags
from varve.settings import Settings

log = logging.getLogger(__name__)

_DEADLINE_S = 15.0
_RETRY_S = 5.0
# Messages expire by age only while ingest is no further behind than this, and so long without it.
_CAUGHT_UP = 1_000
_WITHOUT_INGEST_S = 60.0
_LOOK_S = 30.0
_FOR_EVER = -1


class KafkaSetup:
    """What has to be done before Kafka can be used."""

    def __init__(self, settings: Settings, home: Home, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._home = home
        self._say = say
        self._due_at = 0.0
        self._plans = components.topic_plans(settings)
        self.embedded = not settings.kafka.bootstrap_servers
        """Whether `varve up` starts a broker."""
        self.topics_made = False
        self._ages = True
        """Whether messages expire by age."""
        self._look_at = 0.0
        self._ingested_at = 0.0

    def broker(self) -> Component:
        """Prepares the broker. Raises NeedsOperator if Java or the jars are missing, or its folder
        cannot be used.
        """
        config = components.broker_config(self._settings, self._home)
        self._say(f"starting kafka on {config.bootstrap_servers}")
        try:
            broker.prepare(config)
        except OSError as err:
            raise NeedsOperator(f"cannot set up the broker in {config.directory}: {err}") from err
        return components.kafka(config, self._settings.supervision.stalled_after_s)

    def make_topics(self) -> None:
        """Creates the topics that are missing, when it is time to try.

        Blocks for seconds. A broker of our own that does not answer yet is tried again; raises
        NeedsOperator if one that has to be there cannot be used.
        """
        if self.topics_made or time.monotonic() < self._due_at:
            return
        try:
            made = self._ensure()
        except (KafkaError, TemporaryError) as err:
            if not self.embedded:
                raise NeedsOperator(
                    f"Kafka at {self._settings.kafka.servers()}: {err}; correct"
                    " kafka.bootstrap_servers or kafka.options, or leave them out and `varve up`"
                    " starts a broker"
                ) from err
            self._say(f"cannot create topics yet: {err}")
            self._due_at = time.monotonic() + _RETRY_S
            return
        self.topics_made = True
        if made:
            self._say(f"created topics {', '.join(made)}")

    def keep_unread(self, *, ingesting: bool) -> None:
        """Lets no message of our own broker expire by age that ingest has not stored; by bytes it
        may, for the disk is bounded.

        Call it every second. Blocks for a second now and then. ingesting: ingest runs.
        """
        now = time.monotonic()
        if ingesting:
            self._ingested_at = now
        if not (self.embedded and self.topics_made) or now < self._look_at:
            return
        self._look_at = now + _LOOK_S
        try:
            if self._ages and now - self._ingested_at > _WITHOUT_INGEST_S:
                self._set_ages(ages=False)
            elif not self._ages and ingesting:
                behind = sum(lag.messages for lag in lags(self._settings))
                self._set_ages(ages=behind < _CAUGHT_UP)
        except (KafkaError, VarveError) as err:
            log.warning("cannot set how long messages are kept: %s", err)

    def _ensure(self) -> list[str]:
        kafka = self._settings.kafka
        bounds = Bounds(kafka.retention_s * 1000, kafka.retention_bytes) if self.embedded else None
        with self._admin() as admin:
            made = ensure_topics(admin, self._plans, bounds=bounds)
        if self.embedded:
            # Whatever happened since the last run: ingest has yet to see what was not stored.
            self._set_ages(ages=False)
        return made

    def _set_ages(self, *, ages: bool) -> None:
        if ages == self._ages:
            return
        kept_ms = self._settings.kafka.retention_s * 1000 if ages else _FOR_EVER
        with self._admin() as admin:
            admin.alter_configs(
                [
                    ConfigResource(
                        ConfigResourceType.TOPIC, plan.name, configs={"retention.ms": str(kept_ms)}
                    )
                    for plan in self._plans
                ]
            )
        self._ages = ages

    @contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        deadline = {"bootstrap_timeout_ms": int(_DEADLINE_S * 1000)}
        admin = connect(KafkaAdminClient, kafka_cluster(self._settings).python_options() | deadline)
        try:
            yield admin
        finally:
            admin.close()
