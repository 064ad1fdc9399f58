"""`varve serve gateway`: what senders push goes to Kafka, or to the spool while Kafka is away."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import uvicorn
import uvloop

from varve.access.credentials import Credentials
from varve.api.http_protocol import BoundedProtocol, Bounds
from varve.api.server import Server
from varve.gateway.app import ASGIApp, Scope, Send
from varve.gateway.body_reader import Receive
from varve.gateway.first_sight import Input
from varve.gateway.otlp.config import InvalidOtlpConfig, OtlpConfig, otlp_config_of
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.push import PushProtocol
from varve.gateway.push_protocols.influx import Influx
from varve.gateway.push_protocols.json_samples import JsonSamples
from varve.gateway.remote_write_http import RemoteWrite
from varve.gateway.selectors import labels_of
from varve.gateway.startup import make_ready
from varve.model.errors import NeedsOperator
from varve.services import gateway_processes
from varve.services.descriptors import use_all_descriptors
from varve.services.gateway_groups import ShownGroups
from varve.services.gateway_grpc import otlp_grpc_server
from varve.services.gateway_processes import adopt_spools, shared_port, spool_of
from varve.services.gateway_siblings import Own, Shared, socket_of
from varve.services.gateway_statsd import Statsd
from varve.services.listening import listening
from varve.services.road import Road, body_bounds
from varve.services.road_serving import serve_until_asked
from varve.services.road_watch import RoadWatch
from varve.services.status import ComponentStatus
from varve.services.tls import tls_of
from varve.settings import Settings
from varve.settings.gateway import Gateway as GatewaySettings

COMPONENT = "gateway"

_KEEP_ALIVE_S = 120
# Addresses are short here, and limits per sender say how much comes over connections.
_BOUNDS = Bounds(connections=1 << 20, head_bytes=64 << 10)

log = logging.getLogger("varve.gateway")


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; then answers what it has taken, and returns 0.

    Raises NeedsOperator if the port is taken, or settings cannot be.
    """
    status = ComponentStatus(settings.home, COMPONENT)
    gateway = settings.gateway
    root = _spool_root(settings)
    adopt_spools(root, gateway.processes)
    if gateway.processes > 1:
        gateway_processes.run(settings, root, work, status)
    else:
        use_all_descriptors()
        with listening(gateway.host, gateway.port, "gateway.port") as listener:
            url = gateway.url()
            status.update(state="starting", detail={"url": url, "metrics": f"{url}/metrics"})
            make_ready()
            _run(_Service(settings, RoadWatch(status, log), None), listener)
    status.update(state="stopped")
    return 0


def work(settings: Settings, number: int, folder: Path) -> None:
    """What one of several processes does until SIGTERM. folder: of their sockets."""
    use_all_descriptors()
    make_ready()
    with shared_port(settings.gateway.host, settings.gateway.port) as listener:
        _run(_Service(settings, None, _Place(number, folder)), listener)


def _run(service: _Service, listener: socket.socket) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(service.serve(listener))


def _spool_root(settings: Settings) -> Path:
    folder = settings.gateway.spool
    return Path(folder) if folder else settings.home / "gateway-spool"


@dataclass(frozen=True, slots=True)
class _Place:
    """Which of several processes this one is. folder: of their sockets."""

    number: int
    folder: Path


class _Service:
    """The parts of a gateway, put together."""

    def __init__(self, settings: Settings, watch: RoadWatch | None, place: _Place | None) -> None:
        """watch: what tells of it; None if whoever started it does. place: None if it is alone."""
        self._gateway = settings.gateway
        self._watch = watch
        self._place = place
        number = 0 if place is None else place.number
        self._road = Road(settings, spool_of(_spool_root(settings), number))
        self._inputs = _inputs(settings)
        self._credentials = Credentials(*settings.gateway.tokens_and_users())
        self._otlp = _otlp(self._gateway)
        self._alone = _OfOneProcess(settings, self._road, self._otlp) if number == 0 else None

    async def serve(self, listener: socket.socket) -> None:
        shared = self._shared()
        protocols: list[PushProtocol] = [
            JsonSamples(),
            RemoteWrite(),
            self._otlp,
            Influx(self._road.clock.now_ms),
        ]
        if self._alone is not None:
            protocols.append(self._alone.groups.protocol)
        starting = asyncio.create_task(
            self._road.open(self._credentials, self._input_of, protocols)
        )

        async def look() -> None:
            if self._watch is not None:
                self._watch.look(self._road)

        async def close() -> None:
            starting.cancel()
            if self._alone is not None:
                await self._alone.close()

        try:
            if self._alone is not None:
                await self._alone.open()
            await serve_until_asked(self._servers(listener, shared), [starting], look, close)
        finally:
            starting.cancel()
            if shared is not None:
                await shared.close()
            await self._road.close()

    def _shared(self) -> Shared | None:
        """The application on the port, if other processes have it, too."""
        if self._place is None:
            return None
        return Shared(
            self._answer,
            self._road.metrics_json,
            self._place.folder,
            self._place.number,
            self._gateway.processes,
            body_bounds(self._gateway),
        )

    def _servers(
        self, listener: socket.socket, shared: Shared | None
    ) -> dict[Server, list[socket.socket] | None]:
        """Servers with the sockets that they listen on beside their own."""
        if self._place is None or shared is None:
            return {Server(self._config(self._answer)): [listener]}
        own = Own(self._answer, self._road.metrics_json)
        address = socket_of(self._place.folder, self._place.number)
        return {
            Server(self._config(own, address)): None,
            Server(self._config(shared)): [listener],
        }

    def _config(self, app: ASGIApp, unix_socket: Path | None = None) -> uvicorn.Config:
        """Of a server for an application, on a Unix socket without TLS if one is given."""
        tls = tls_of(self._gateway, "gateway") if unix_socket is None else None
        return uvicorn.Config(
            app,
            uds=None if unix_socket is None else str(unix_socket),
            http=functools.partial(BoundedProtocol, bounds=_BOUNDS),  # type: ignore[arg-type]  # it makes one
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

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application; until there is one, what says that it is starting."""
        if self._road.app is not None:
            await self._road.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        is_probe = scope["path"] == "/-/healthy"
        text = f"the gateway is not ready: {self._road.why_not_ready()}\n".encode()
        headers = [(b"retry-after", b"1"), (b"content-length", b"%d" % len(text))]
        status = 200 if is_probe else 503
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    def _input_of(self, sender: str) -> Input:
        return self._inputs.get(sender) or self._inputs[""]


class _OfOneProcess:
    """What adds up in memory, or has a port of its own, and so is in one process alone."""

    def __init__(self, settings: Settings, road: Road, otlp: OtlpHttp) -> None:
        gateway = settings.gateway
        self._gateway = gateway
        self._road = road
        self._otlp = otlp
        self._statsd = Statsd(gateway, road)
        self.groups = ShownGroups(
            road,
            settings.home / "gateway-groups.json",
            gateway.pushed_every_s,
            gateway.pushed_series,
        )
        self._grpc: grpc.aio.Server | None = None

    async def open(self) -> None:
        """Raises NeedsOperator if a port or socket is taken."""
        await self._statsd.open()
        self.groups.open()
        self._grpc = await otlp_grpc_server(self._gateway, lambda: self._road.app, self._otlp)

    async def close(self) -> None:
        await self._statsd.close()
        await self.groups.close()
        if self._grpc is not None:
            await self._grpc.stop(round(self._gateway.ack_s) + 5)


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
