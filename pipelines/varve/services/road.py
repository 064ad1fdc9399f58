"""The road of samples from senders or targets to Kafka: identity, limits, batches, lanes, spool."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from varve.access.credentials import Credentials
from varve.gateway.app import GatewayApp
from varve.gateway.batcher import Batcher
from varve.gateway.body_reader import BodyBounds
from varve.gateway.circuit_breaker import CircuitBreaker
from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.first_sight import Input, Targets
from varve.gateway.lane import Fate, Lane, LanePolicy
from varve.gateway.push import PushProtocol
from varve.gateway.quotas import Quota, Quotas
from varve.gateway.record_batcher import RecordBatcher
from varve.gateway.refusals import Refusal
from varve.gateway.remote_write import RemoteWriteDecoder
from varve.gateway.replicas import Replicas
from varve.gateway.selectors import any_of
from varve.gateway.series_table import SeriesTable
from varve.gateway.spool import Spool
from varve.gateway.topic_producer import KnownPartitions, TopicProducer
from varve.ingest.limits import LimitsFile
from varve.kafka.client_options import Cluster
from varve.model.clock import SystemClock
from varve.model.errors import TemporaryError
from varve.model.record_rows import RECORD_TABLES
from varve.model.window import DAY_MS
from varve.services.leader_log import LeaderLog
from varve.services.limits import limits_files
from varve.services.record_lanes import RecordLanes
from varve.settings import Settings
from varve.settings.gateway import Gateway as GatewaySettings
from varve.settings.gateway import SenderQuota
from varve.telemetry.metrics import GatewayMetrics
from varve.telemetry.registry import Telemetry
from varve.telemetry.several import to_json

_LOOK_S = 0.5
_PARTITIONS = "partitions.json"
# Between two looks at which topics there are, and how many partitions they have.
_TOPICS_S = 10.0
_SEGMENT_BYTES = 8 * 2**20
# How long Kafka's client goes on trying; what it has not acknowledged in ack_s is spooled as well.
_DELIVERY_S = 30.0

log = logging.getLogger("varve.gateway")


class Road:
    """The parts between an application and Kafka, put together as [gateway] of the settings says.
    Counts what the application does.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        """folder: of the spool, which no other process uses. Raises NeedsOperator for settings that
        cannot be.
        """
        self._settings = settings
        self._gateway = settings.gateway
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = SystemClock()
        self.telemetry = Telemetry()
        self._metrics = GatewayMetrics(self.telemetry)
        self._limits = LimitsFile(limits_files(settings))
        self._is_critical = any_of(self._gateway.critical, "gateway.critical")
        self._replicas = Replicas(round(self._gateway.replica_failover_s * 1000))
        self._lanes: dict[str, Lane] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.app: GatewayApp | None = None
        """None until the partitions of the topics are known."""
        self._waits_for = "it waits for Kafka, to know the partitions of its topics"

    async def open(
        self,
        credentials: Credentials,
        inputs: Callable[[str], Input],
        protocols: Sequence[PushProtocol] = (),
    ) -> GatewayApp:
        """Builds the application once the partitions of the topics are known. inputs: what a
        sender's series get, by its name.
        """
        settings, gateway = self._settings, self._gateway
        topics = {"bulk": settings.kafka.topics.raw}
        if gateway.critical:
            topics["critical"] = settings.kafka.topics.critical
        producers = {name: self._producer(topic) for name, topic in topics.items()}
        partitions = await self._partitions(producers)
        targets = Targets(
            partitions["bulk"],
            partitions.get("critical", 0),
            self._is_critical,
        )
        decoder = RemoteWriteDecoder(
            SeriesTable(lambda: int(time.monotonic()) + 1, gateway.max_series),
            targets,
            self._replicas,
            self._limits.current,
        )
        for name, producer in producers.items():
            self._lanes[name] = self._lane(name, producer)
        wait_s = gateway.batch_ms / 1000
        self._records = RecordBatcher(time.monotonic, wait_s=wait_s)
        record_lanes = RecordLanes(
            settings.record_queries(),
            KnownPartitions(self._folder / _PARTITIONS),
            self._records,
            self._producer,
            self._lane,
            self._lanes,
        )
        await record_lanes.open()
        batcher = Batcher(
            decoder,
            self._lanes["bulk"],
            self._lanes.get("critical"),
            samples=gateway.batch_samples,
            wait_s=wait_s,
            records=self._records,
        )
        self._decoder = decoder
        self.app = GatewayApp(
            batcher,
            credentials,
            Quotas(time.monotonic, _quota(gateway.per_token), _quota(gateway.per_address)),
            inputs,
            self._bounds,
            self,
            protocols=protocols,
            why_overloaded=self._lanes["bulk"].why_overloaded,
            why_not_ready=self.why_not_ready,
            body_bounds=body_bounds(gateway),
            before=self._before,
            after=self._after,
            has_critical=bool(gateway.critical),
        )
        self._tasks.append(
            asyncio.create_task(self._follow(batcher, producers, partitions, record_lanes))
        )
        if topic := settings.kafka.topics.leaders:
            leaders = LeaderLog(
                self._replicas,
                self._producer(topic),
                Cluster(settings.kafka.servers(), settings.kafka.client_options()).python_options(),
                round(gateway.replica_failover_s * 1000),
                self.clock.now_ms,
            )
            self._tasks.append(asyncio.create_task(leaders.run()))
        return self.app

    async def _follow(
        self,
        batcher: Batcher,
        producers: Mapping[str, TopicProducer],
        partitions: Mapping[str, int],
        records: RecordLanes,
    ) -> None:
        """Looks for partitions that were added, and for topics that were missing."""
        while True:
            await asyncio.sleep(_TOPICS_S)
            await records.open()
            looked = {n: await asyncio.to_thread(p.look) for n, p in producers.items()}
            found = {name: max(count, partitions[name]) for name, count in looked.items()}
            if found == partitions:
                continue
            log.info("partitions were added: %s", found)
            batcher.retarget(Targets(found["bulk"], found.get("critical", 0), self._is_critical))
            counts = {producers[name].topic: count for name, count in found.items()}
            KnownPartitions(self._folder / _PARTITIONS).put(counts)
            partitions = found

    def _producer(self, topic: str) -> TopicProducer:
        return TopicProducer(
            self._settings.kafka.servers(),
            topic,
            self._settings.kafka.client_options(),
            compression=self._gateway.compression,
            delivery_s=_DELIVERY_S,
        )

    async def _partitions(self, producers: Mapping[str, TopicProducer]) -> dict[str, int]:
        """Partitions by lane: as Kafka says or, while it is away, as it said last time."""
        known = KnownPartitions(self._folder / _PARTITIONS)
        while True:
            try:
                for producer in producers.values():
                    await asyncio.to_thread(producer.connect)
            except TemporaryError as err:
                found = {name: known.of(p.topic) for name, p in producers.items()}
                if all(found.values()):
                    log.warning("%s: until it is back, messages are spooled", err)
                    return found
                self._waits_for = str(err)
                await asyncio.sleep(_LOOK_S)
                continue
            known.put({p.topic: p.partitions for p in producers.values()})
            return {name: p.partitions for name, p in producers.items()}

    def _lane(self, name: str, producer: TopicProducer) -> Lane:
        gateway = self._gateway
        spool = Spool(
            self._folder / name,
            max_bytes=gateway.spool_mb * 2**20,
            max_age_ms=gateway.spool_max_age_s * 1000,
            segment_bytes=_SEGMENT_BYTES,
            clock=self.clock,
        )
        metrics = self._metrics
        kinds = (metrics.acknowledged, metrics.spooled, metrics.refused)
        if name in RECORD_TABLES:
            kinds = (metrics.acknowledged_others, metrics.spooled_others, metrics.refused_others)
        counters = {
            Fate.ACKNOWLEDGED: kinds[0].labels(producer.topic),
            Fate.SPOOLED: kinds[1].labels(producer.topic),
            Fate.REFUSED: kinds[2].labels(Refusal.OVERLOAD),
        }
        return Lane(
            name,
            producer,
            spool,
            CircuitBreaker(time.monotonic),
            LanePolicy(gateway.ack_s, gateway.waiting_mb * 2**20),
            lambda fate, samples: counters[fate].inc(samples),
        )

    def _bounds(self) -> Bounds:
        now_ms = self.clock.now_ms()
        kept_ms = int(self._settings.retention.samples_days * DAY_MS)
        return Bounds(
            now_ms - kept_ms * 4 // 5,
            now_ms + self._settings.ingest.max_future_s * 1000,
            self._settings.query.lookback_s * 1000,
        )

    def _before(self) -> None:
        self._replicas.begin(self.clock.now_ms())
        for name, lane in self._lanes.items():
            since_s = lane.recovered()
            if since_s is None:
                continue
            if name in RECORD_TABLES:
                self._records.forget_told(name)
            else:
                self._decoder.table.undefine_since(int(since_s))

    def _after(self, _: Decoded) -> None:
        self._replicas.note(self.clock.now_ms())

    # What the application counts.

    def request(self, protocol: str, status: int, seconds: float, size: int) -> None:
        metrics = self._metrics
        metrics.requests.labels(protocol, str(status)).inc()
        metrics.request.labels(protocol).observe(seconds)
        metrics.received_bytes.labels(protocol).inc(size)

    def decoded(self, protocol: str, found: Decoded) -> None:
        metrics = self._metrics
        metrics.received.labels(protocol).inc(found.received())
        metrics.received_others.labels(protocol).inc(found.received_others())
        metrics.starts.inc(found.derived)
        metrics.defined.inc(len(found.definitions))
        if found.of_replica:
            metrics.refused.labels(Refusal.REPLICA).inc(found.of_replica)
        for why, count in found.refusals.samples.items():
            metrics.refused.labels(why).inc(count)
        for why, count in found.refusals.others.items():
            metrics.refused_others.labels(why).inc(count)

    def page(self, accept: str) -> tuple[bytes, str]:
        self._measure()
        return self.telemetry.page(accept)

    def metrics_json(self) -> bytes:
        """The same for a page of several processes."""
        self._measure()
        return to_json(self.telemetry.registry)

    def _measure(self) -> None:
        """Sets what is read off at the time of a page."""
        metrics = self._metrics
        if self.app is None:
            return
        metrics.known.set(self._decoder.table.count)
        metrics.in_flight.set(self.app.bytes_in_flight)
        now_ms = self.clock.now_ms()
        for lane in self._lanes.values():
            topic = lane.topic
            oldest = lane.spool.oldest_ms()
            metrics.waiting.labels(topic).set(lane.waiting_bytes)
            is_up = lane.producer.is_connected and not lane.breaker.is_open
            metrics.kafka_up.labels(topic).set(is_up)
            metrics.spool_size.labels(topic).set(lane.spool.size)
            metrics.spool_age.labels(topic).set(0 if oldest is None else (now_ms - oldest) / 1000)
            metrics.spool_damaged.labels(topic).set(lane.spool.damaged_bytes)

    def why_not_ready(self) -> str:
        """Why it takes nothing now; "" if it does."""
        if self.app is None:
            return self._waits_for
        return next((w for lane in self._lanes.values() if (w := lane.why_overloaded())), "")

    async def close(self) -> None:
        """Ends the lanes. What is spooled stays for the next start."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for lane in self._lanes.values():
            await asyncio.to_thread(lane.close)


def body_bounds(gateway: GatewaySettings) -> BodyBounds:
    """What bodies may take."""
    in_flight = gateway.max_in_flight_mb * 2**20
    return BodyBounds(gateway.max_body_bytes, gateway.max_expanded_bytes, in_flight)


def _quota(settings: SenderQuota) -> Quota:
    return Quota(
        settings.samples_per_second or math.inf,
        settings.bytes_per_second or math.inf,
        settings.new_series_per_second or math.inf,
    )
