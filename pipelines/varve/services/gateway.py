"""`varve serve gateway`: what senders push goes to Kafka, or to the spool while Kafka is away."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn
import uvloop

from varve.access.credentials import Credentials
from varve.api.server import Server
from varve.gateway.first_sight import Input
from varve.gateway.http_protocol import BoundedProtocol
from varve.gateway.otlp.config import InvalidOtlpConfig, OtlpConfig, otlp_config_of
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.push_protocols.influx import Influx
from varve.gateway.push_protocols.json_samples import JsonSamples
from varve.gateway.remote_write_http import RemoteWrite
from varve.gateway.selectors import labels_of
from varve.gateway.startup import make_ready
from varve.model.errors import NeedsOperator
from varve.services.descriptors import use_all_descriptors
from varve.services.gateway_groups import ShownGroups
from varve.services.gateway_grpc import otlp_grpc_server
from varve.services.gateway_statsd import Statsd
from varve.services.listening import listening
from varve.services.road import Road
from varve.services.status import ComponentStatus, State
from varve.services.tls import tls_of
from varve.settings import Settings
from varve.settings.gateway import Gateway as GatewaySettings

COMPONENT = "gateway"

_WATCH_S = 0.5
_KEEP_ALIVE_S = 120

log = logging.getLogger("varve.gateway")


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; then answers what it has taken, and returns 0.

    Raises NeedsOperator if the port is taken, or settings cannot be.
    """
    status = ComponentStatus(settings.home, COMPONENT)
    gateway = settings.gateway
    use_all_descriptors()
    with listening(gateway.host, gateway.port, "gateway.port") as listener:
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
        self._gateway = settings.gateway
        self._status = status
        folder = self._gateway.spool
        self._road = Road(settings, Path(folder) if folder else settings.home / "gateway-spool")
        self._inputs = _inputs(settings)
        self._credentials = _credentials(settings)
        self._otlp = _otlp(self._gateway)
        self._groups = ShownGroups(
            self._road,
            settings.home / "gateway-groups.json",
            self._gateway.pushed_every_s,
            self._gateway.pushed_series,
        )
        self._statsd = Statsd(self._gateway, self._road)
        self._said: tuple[str, str] | None = None

    async def serve(self, listener: object) -> None:
        server = Server(self._config())
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, lambda: setattr(server, "should_exit", True))
        serving = asyncio.create_task(server.serve(sockets=[listener]))  # type: ignore[list-item]
        protocols = (
            JsonSamples(),
            RemoteWrite(),
            self._otlp,
            Influx(self._road.clock.now_ms),
            self._groups.protocol,
        )
        starting = asyncio.create_task(
            self._road.open(self._credentials, self._input_of, protocols)
        )
        await self._statsd.open()
        self._groups.open()
        grpc_server = await otlp_grpc_server(self._gateway, lambda: self._road.app, self._otlp)
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
            await self._statsd.close()
            await self._groups.close()
            if grpc_server is not None:
                await grpc_server.stop(round(self._gateway.ack_s) + 5)
            await asyncio.wait([serving])
            await self._road.close()

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

    def _watch(self) -> None:
        """Says in what state the service is, and that its work goes on."""
        why = self._road.why_not_ready()
        state: State = "starting" if self._road.app is None else "ready"
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
