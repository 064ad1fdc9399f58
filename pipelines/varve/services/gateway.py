"""`varve serve gateway`: what senders push goes to Kafka, or to the spool while Kafka is away."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import uvicorn
import uvloop

from varve.access.credentials import Credentials
from varve.api.server import Server, tcp_socket
from varve.gateway.app import BodyBounds, GatewayApp
from varve.gateway.batcher import Batcher
from varve.gateway.circuit_breaker import CircuitBreaker
from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.first_sight import Input, Targets
from varve.gateway.http_protocol import BoundedProtocol
from varve.gateway.lane import Fate, Lane, LanePolicy
from varve.gateway.otlp.config import InvalidOtlpConfig, OtlpConfig, otlp_config_of
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.quotas import Quota, Quotas
from varve.gateway.record_batcher import RecordBatcher
from varve.gateway.refusals import Refusal
from varve.gateway.remote_write import RemoteWriteDecoder
from varve.gateway.remote_write_http import RemoteWrite
from varve.gateway.replicas import Replicas
from varve.gateway.selectors import any_of, labels_of
from varve.gateway.series_table import SeriesTable
from varve.gateway.spool import Spool
from varve.gateway.startup import make_ready
from varve.gateway.topic_producer import KnownPartitions, TopicProducer
from varve.ingest.limits import LimitsFile
from varve.model.clock import SystemClock
from varve.model.errors import NeedsOperator, TemporaryError
from varve.model.record_rows import RECORD_TABLES
from varve.model.window import DAY_MS
from varve.services.gateway_grpc import otlp_grpc_server
from varve.services.gateway_records import RecordLanes
from varve.services.limits import limits_files
from varve.services.ports import require_free
from varve.services.status import ComponentStatus, State
from varve.services.tls import tls_of
from varve.settings import Settings
from varve.settings.gateway import Gateway as GatewaySettings
from varve.settings.gateway import SenderQuota
from varve.telemetry.metrics import GatewayMetrics
from varve.telemetry.registry import Telemetry

COMPONENT = "gateway"

_WATCH_S = 0.5
_SEGMENT_BYTES = 8 * 2**20
# How long Kafka's client goes on trying; what it has not acknowledged in ack_s is spooled as well.
_DELIVERY_S = 30.0
_KEEP_ALIVE_S = 120
_PARTITIONS = "partitions.json"

log = logging.getLogger("varve.gateway")


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; then answers what it has taken, and returns 0.

    Raises NeedsOperator if the port is taken, or settings cannot be.
    """
    status = ComponentStatus(settings.home, COMPONENT)
    gateway = settings.gateway
    with tcp_socket(gateway.host) as listener:
        try:
            listener.bind((gateway.host, gateway.port))
        except OSError:
            require_free(gateway.host, gateway.port, "gateway.port")  # says what is wrong
            raise
        url = gateway.url()
        status.update(state="starting", detail={"url": url, "metrics": f"{url}/metrics"})
        make_ready()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Service(settings, status).serve(listener))
    status.update(state="stopped")
    return 0


class _Service:
    """The parts of a gateway, put together."""

    def __init__(self, settings: Settings, status: ComponentStatus) -> None:
        self._settings = settings
        self._gateway = settings.gateway
        self._status = status
        self._clock = SystemClock()
        self._telemetry = Telemetry()
        self._metrics = GatewayMetrics(self._telemetry)
        folder = self._gateway.spool
        self._folder = Path(folder) if folder else settings.home / "gateway-spool"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._limits = LimitsFile(limits_files(settings))
        self._inputs = _inputs(settings)
        self._is_critical = any_of(self._gateway.critical, "gateway.critical")
        self._credentials = _credentials(settings)
        self._otlp = _otlp(self._gateway)
        self._replicas = Replicas(round(self._gateway.replica_failover_s * 1000))
        self._lanes: dict[str, Lane] = {}
        self._app: GatewayApp | None = None
        self._said: tuple[str, str] | None = None
        self._waits_for = "it waits for Kafka, to know the partitions of its topics"

    async def serve(self, listener: object) -> None:
        server = Server(self._config())
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, lambda: setattr(server, "should_exit", True))
        serving = asyncio.create_task(server.serve(sockets=[listener]))  # type: ignore[list-item]
        starting = asyncio.create_task(self._start())
        grpc_server = await otlp_grpc_server(self._gateway, lambda: self._app, self._otlp)
        try:
            while not serving.done():
                if starting.done():
                    starting.result()
                self._watch()
                await asyncio.wait([serving], timeout=_WATCH_S)
            await serving
        finally:
            starting.cancel()
            server.should_exit = True
            if grpc_server is not None:
                await grpc_server.stop(round(self._gateway.ack_s) + 5)
            await asyncio.wait([serving])
            for lane in self._lanes.values():
                await asyncio.to_thread(lane.close)

    def _config(self) -> uvicorn.Config:
        gateway = self._gateway
        tls = tls_of(gateway, "gateway")
        return uvicorn.Config(
            self._answer,
            http=BoundedProtocol,
            interface="asgi3",
            proxy_headers=False,
            ws="none",
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(self._gateway.ack_s) + 5,
            server_header=False,
            **(tls.options() if tls else {}),
        )

    async def _answer(self, scope: dict, receive: Callable, send: Callable) -> None:  # type: ignore[type-arg]
        """The application; until there is one, what says that it is starting."""
        if self._app is not None:
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        is_probe = scope["path"] == "/-/healthy"
        text = f"the gateway is not ready: {self._waits_for}\n".encode()
        headers = [(b"retry-after", b"1"), (b"content-length", b"%d" % len(text))]
        status = 200 if is_probe else 503
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _start(self) -> None:
        """Builds the application once the partitions of the topics are known."""
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
            first = targets.bulk if name == "critical" else 0
            self._lanes[name] = self._lane(name, first, producer)
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
        self._app = GatewayApp(
            batcher,
            self._credentials,
            Quotas(time.monotonic, _quota(gateway.per_token), _quota(gateway.per_address)),
            self._input_of,
            self._bounds,
            self,
            protocols=(RemoteWrite(), self._otlp),
            why_overloaded=self._lanes["bulk"].why_overloaded,
            why_not_ready=self._why_not_ready,
            body_bounds=BodyBounds(
                gateway.max_body_bytes,
                gateway.max_expanded_bytes,
                gateway.max_in_flight_mb * 2**20,
            ),
            before=self._before,
            after=self._after,
            has_critical=bool(gateway.critical),
        )
        await record_lanes.open_missing()

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
                await asyncio.sleep(_WATCH_S)
                continue
            known.put({p.topic: p.partitions for p in producers.values()})
            return {name: p.partitions for name, p in producers.items()}

    def _lane(self, name: str, first_target: int, producer: TopicProducer) -> Lane:
        gateway = self._gateway
        spool = Spool(
            self._folder / name,
            max_bytes=gateway.spool_mb * 2**20,
            max_age_ms=gateway.spool_max_age_s * 1000,
            segment_bytes=_SEGMENT_BYTES,
            clock=self._clock,
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
            first_target,
            producer,
            spool,
            CircuitBreaker(time.monotonic),
            LanePolicy(gateway.ack_s, gateway.waiting_mb * 2**20),
            lambda fate, samples: counters[fate].inc(samples),
        )

    def _input_of(self, sender: str) -> Input:
        return self._inputs.get(sender) or self._inputs[""]

    def _bounds(self) -> Bounds:
        now_ms = self._clock.now_ms()
        kept_ms = int(self._settings.retention.samples_days * DAY_MS)
        return Bounds(
            now_ms - kept_ms * 4 // 5,
            now_ms + self._settings.ingest.max_future_s * 1000,
            self._settings.query.lookback_s * 1000,
        )

    def _before(self) -> None:
        self._replicas.begin(self._clock.now_ms())
        for name, lane in self._lanes.items():
            since_s = lane.recovered()
            if since_s is None:
                continue
            if name in RECORD_TABLES:
                self._records.forget_told(name)
            else:
                self._decoder.table.undefine_since(int(since_s))

    def _after(self, _: Decoded) -> None:
        self._replicas.note(self._clock.now_ms())

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
        metrics = self._metrics
        metrics.known.set(self._decoder.table.count)
        now_ms = self._clock.now_ms()
        for lane in self._lanes.values():
            topic = lane.topic
            oldest = lane.spool.oldest_ms()
            metrics.waiting.labels(topic).set(lane.waiting_bytes)
            is_up = lane.producer.is_connected and not lane.breaker.is_open
            metrics.kafka_up.labels(topic).set(is_up)
            metrics.spool_size.labels(topic).set(lane.spool.size)
            metrics.spool_age.labels(topic).set(0 if oldest is None else (now_ms - oldest) / 1000)
            metrics.spool_damaged.labels(topic).set(lane.spool.damaged_bytes)
        return self._telemetry.page(accept)

    def _why_not_ready(self) -> str:
        return next((w for lane in self._lanes.values() if (w := lane.why_overloaded())), "")

    def _watch(self) -> None:
        """Says in what state the service is, and that its work goes on."""
        why = self._waits_for if self._app is None else self._why_not_ready()
        state: State = "starting" if self._app is None else "ready"
        self._status.progressed()
        if self._said != (state, why):
            self._said = (state, why)
            self._status.update(state=state, detail={"waiting": why or None})
            log.info("%s%s", state, f": {why}" if why else "")


def _credentials(settings: Settings) -> Credentials:
    gateway = settings.gateway
    return Credentials(
        {name: token.get_secret_value() for name, token in gateway.tokens.items()},
        {name: hashed.get_secret_value() for name, hashed in gateway.users.items()},
    )


def _inputs(settings: Settings) -> dict[str, Input]:
    """What each sender's series get, by its name; "" stands for all others."""
    gateway = settings.gateway
    everywhere = gateway.external_labels
    inputs = {"": Input("", tuple(sorted(everywhere.items())))}
    for name, text in gateway.sender_labels.items():
        if name not in gateway.tokens and name not in gateway.users:
            raise NeedsOperator(f"gateway.sender_labels: there is no token or user {name}")
        labels = everywhere | labels_of(text, f"gateway.sender_labels.{name}")
        inputs[name] = Input(name, tuple(sorted(labels.items())))
    return inputs


def _otlp(gateway: GatewaySettings) -> OtlpHttp:
    """Raises NeedsOperator if the file of its settings cannot be."""
    totals = None
    if gateway.otlp_deltas:
        totals = DeltaTotals(
            time.monotonic,
            most=gateway.otlp_delta_series,
            forgotten_after_s=gateway.otlp_delta_forgotten_s,
        )
    try:
        config = otlp_config_of(Path(gateway.otlp_file)) if gateway.otlp_file else OtlpConfig()
    except (OSError, InvalidOtlpConfig) as err:
        raise NeedsOperator(f"gateway.otlp_file, {gateway.otlp_file}: {err}") from err
    return OtlpHttp(config, totals)


def _quota(settings: SenderQuota) -> Quota:
    return Quota(
        settings.samples_per_second or math.inf,
        settings.bytes_per_second or math.inf,
        settings.new_series_per_second or math.inf,
    )
