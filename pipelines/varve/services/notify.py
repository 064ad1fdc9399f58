"""The notifier as a process: configuration, state, HTTP, and how it starts, reloads and ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.lowlevel
import uvloop
from pydantic import BaseModel, SecretStr
from starlette.middleware import Middleware

from varve.access.browsers import BrowserRules
from varve.api.access_check import BrowserCheck
from varve.api.server import Server, server_of, tcp_socket
from varve.model.clock import SteadyClock
from varve.model.errors import NeedsOperator
from varve.model.interpreter import look_for_garbage_rarely
from varve.notify.cluster.cluster import Cluster, ClusterOptions
from varve.notify.config import Configuration, load_config
from varve.notify.config.document import ConfigError
from varve.notify.driver import Driver
from varve.notify.http.app import create_app
from varve.notify.http.service import NotifyService, Recorder
from varve.notify.journal import Journal
from varve.notify.journal_writer import JournalWriter
from varve.notify.notifier import Notifier
from varve.notify.oncall.load import load_on_call
from varve.notify.oncall.on_call import OnCall
from varve.notify.receivers.late_sender import LateSender
from varve.notify.state import Options
from varve.services import supervised
from varve.services.logs import LogFormat, configure_logging
from varve.telemetry.metrics import NotifyMetrics
from varve.telemetry.registry import Telemetry

if TYPE_CHECKING:
    from varve.notify.receivers.addresses import Networks
    from varve.services.status import ComponentStatus

COMPONENT = "notify"

_PROGRESS_S = 3.0
# How long attempts that are under way may take to end, and the disk after them.
_STOP_S = 5.0
_BACKLOG = 1024

log = logging.getLogger("varve.notify")


@dataclass(frozen=True)
class NotifyOptions:
    """The command line of `varve serve notify`."""

    config_file: Path
    storage: Path
    listen: Sequence[str] = ("127.0.0.1:9093",)
    on_call_file: Path | None = None
    external_url: str = ""
    route_prefix: str = ""
    options: Options = field(default_factory=Options)
    cluster: ClusterOptions | None = None
    networks: Networks = ()
    """The only ones that receivers may be in; empty for all."""
    without_meaning: Sequence[str] = ()
    """Options of Alertmanager's that were given and change nothing here."""
    log_level: str = "info"
    log_format: LogFormat = "logfmt"


def run(options: NotifyOptions, status: ComponentStatus | None = None) -> int:
    """Serves until SIGTERM or SIGINT; 0 then, 1 if a defect ends it.

    status: where it says how it is, in a home.

    Raises NeedsOperator if the configuration, the state or an address cannot be used.
    """
    _configure_logging(options)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Process(options, status).run())


class _Process:
    def __init__(self, options: NotifyOptions, status: ComponentStatus | None) -> None:
        self._options = options
        self._status = status
        self._metrics = NotifyMetrics(Telemetry())
        self._clock = SteadyClock()
        self._reloading = asyncio.Lock()
        self._driver: Driver | None = None
        self._external_url = options.external_url

    async def run(self) -> int:
        options = self._options
        config = self._read_config()
        with ExitStack() as stack:
            listeners = [stack.enter_context(_listening(text)) for text in options.listen]
            addresses = [_address(listener) for listener in listeners]
            if not self._external_url:
                self._external_url = f"http://{_shown_host(addresses[0])}"
            on_call = self._read_on_call(config) or OnCall()
            sender = self._sender(config, on_call)
            journal = Journal(options.storage)
            notifier = Notifier(config, options.options, on_call=on_call)
            try:
                notifier.start(self._clock.now_ms(), journal.read())
            except OSError as err:
                raise NeedsOperator(f"{options.storage}: {err.strerror}") from err
            look_for_garbage_rarely()
            for note in journal.notes:
                log.warning("%s", note)
            writer = JournalWriter(journal)
            writer.start()
            driver = self._driver = Driver(
                notifier, writer, self._clock, sender, Recorder(self._metrics)
            )
            self._configured(config)
            for name in options.without_meaning:
                log.warning("--%s changes nothing here", name)
            try:
                ended_well = await self._serve(driver, sender, listeners, addresses)
            finally:
                await driver.stop(_STOP_S)
                if not writer.stop(_STOP_S):
                    log.error("the last changes could not be stored: %s", writer.failure)
        log.info("stopped")
        if self._status is not None:
            self._status.update(state="stopped" if ended_well else "failed")
        return 0 if ended_well else 1

    async def reload(self) -> str:
        """Reads the configuration file again; why the old one stays, or ""."""
        async with self._reloading:
            driver = self._driver
            if driver is None:
                return "starting"
            try:
                config = self._read_config()
                on_call = self._read_on_call(config)
                sender = self._sender(config, on_call or OnCall())
            except ConfigError as err:
                self._metrics.config_ok.set(0)
                log.error("the configuration is not reloaded: %s", err)  # noqa: TRY400 - says it all
                return str(err)
            await driver.reload(partial(driver.notifier.reload, config, on_call=on_call), sender)
            self._configured(config)
            return ""

    async def _serve(
        self,
        driver: Driver,
        sender: LateSender,
        listeners: list[socket.socket],
        addresses: list[str],
    ) -> bool:
        """Serves until it is asked to stop; False if a defect ended it."""
        options = self._options
        path = urlsplit(self._external_url).path
        prefix = "/" + (options.route_prefix or path).strip("/")
        service = NotifyService(
            driver, self._metrics, self.reload, self._clock.now_ms(), route_prefix=prefix
        )
        rules = _browser_rules(addresses, self._external_url)
        server = server_of(create_app(service, [Middleware(BrowserCheck, rules=rules)]))
        server.config.backlog = _BACKLOG
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[str]] = set()
        cluster = await self._join(driver)
        if cluster is not None:
            service.cluster = cluster.status

        def reload() -> None:
            task = asyncio.create_task(self.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        def stop() -> None:
            server.should_exit = True

        loop.add_signal_handler(signal.SIGHUP, reload)
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop)
        for listener in listeners:
            listener.listen(_BACKLOG)
        driving = asyncio.create_task(self._drive(service, sender, addresses))
        driving.add_done_callback(partial(_ended, server))
        living = asyncio.create_task(_live())
        await server.serve(sockets=listeners)
        driving.cancel()
        living.cancel()
        (end,) = await asyncio.gather(driving, return_exceptions=True)
        if cluster is not None:
            await cluster.stop()
        return isinstance(end, asyncio.CancelledError)

    async def _drive(
        self, service: NotifyService, sender: LateSender, addresses: Sequence[str]
    ) -> None:
        """Says that it is ready once what speaks to receivers is there, and runs the driver: no
        attempt loses time to it. Requests are answered before.
        """
        await sender.load()
        await anyio.lowlevel.checkpoint()  # loads what the first message would wait for
        service.can_tell = True
        for address in addresses:
            log.info("Listening on", extra={"fields": {"address": address}})
        supervised.notify(supervised.READY)
        if self._status is not None:
            url = f"http://{addresses[0]}{service.route_prefix.rstrip('/')}"
            self._status.update(state="ready", detail={"url": url, "metrics": f"{url}/metrics"})
        await service.driver.run()

    async def _join(self, driver: Driver) -> Cluster | None:
        """Begins to look for other notifiers, if that is wanted."""
        options = self._options.cluster
        if options is None:
            return None
        cluster = Cluster(options, uuid.uuid4().hex, driver)
        try:
            await cluster.start()
        except (OSError, ValueError) as err:
            raise NeedsOperator(f"{err}; see --cluster.listen-address") from err
        driver.notifier.turns = cluster
        return cluster

    def _read_config(self) -> Configuration:
        return load_config(self._options.config_file, self._options.options.mode)

    def _read_on_call(self, config: Configuration) -> OnCall | None:
        """What oncall.yml says; None if there is none."""
        options = self._options
        if options.on_call_file is None:
            return None
        return load_on_call(options.on_call_file, config.receivers, options.options.mode)

    def _sender(self, config: Configuration, on_call: OnCall) -> LateSender:
        url = self._external_url.rstrip("/")
        return LateSender(config, self._clock, url, on_call.links, self._options.networks)

    def _configured(self, config: Configuration) -> None:
        """A configuration is in force."""
        _configure_logging(self._options, _secrets(config))
        for warning in config.warnings:
            log.warning("%s", warning)
        self._metrics.config_ok.set(1)
        self._metrics.config_time.set(time.time())
        fields = {"file": str(self._options.config_file), "receivers": len(config.receivers)}
        log.info("Completed loading of configuration file", extra={"fields": fields})


async def _live() -> None:
    """Says, as long as the loop turns, that the process gets on."""
    while True:
        supervised.notify(supervised.PROGRESS)
        await asyncio.sleep(_PROGRESS_S)


def _configure_logging(options: NotifyOptions, secrets: Sequence[str] = ()) -> None:
    names = {"warn": "WARNING", "debug": "DEBUG", "info": "INFO", "error": "ERROR"}
    level = logging.getLevelNamesMapping()[names[options.log_level]]
    configure_logging(level, options.log_format, secrets)


def _secrets(config: Configuration) -> list[str]:
    """Every secret that the file itself has, so that no line of the log shows one."""
    found: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, SecretStr):
            found.add(value.get_secret_value())
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                collect(getattr(value, name))
        elif isinstance(value, dict):
            for item in value.values():
                collect(item)
        elif isinstance(value, list | tuple):
            for item in value:
                collect(item)

    for integrations in config.receivers.values():
        for integration in integrations:
            collect(integration.config)
    # A secret of one or two characters would blacken half of each line.
    return sorted((text for text in found if len(text) > 3), key=len, reverse=True)


def _browser_rules(addresses: Sequence[str], external_url: str) -> BrowserRules:
    """Who may ask: by name only who is known, while nobody but this machine can reach it."""
    url = urlsplit(external_url)
    local = all(address.startswith(("127.", "[::1]")) for address in addresses)
    hosts = [url.hostname or ""] if local else ["*"]
    rules = BrowserRules.of(hosts, [f"{url.scheme}://{url.netloc}"])
    remedy = "name it by --web.external-url"
    return replace(rules, host_remedy=remedy, origin_remedy=remedy)


def _ended(server: Server, driving: asyncio.Task[None]) -> None:
    """Nothing is told any more: the process ends, and what started it starts it again."""
    if not driving.cancelled() and driving.exception() is not None:
        log.critical("a defect of the notifier", exc_info=driving.exception())
        server.should_exit = True


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown_host(address: str) -> str:
    """The address as others may reach it: by this machine's name where it listens everywhere."""
    host, _, port = address.rpartition(":")
    return f"{socket.gethostname()}:{port}" if host in {"0.0.0.0", "[::]"} else address  # noqa: S104


@contextmanager
def _listening(text: str) -> Iterator[socket.socket]:
    """A socket bound to HOST:PORT; no host is every address. NeedsOperator if it cannot be had."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise NeedsOperator(f"--web.listen-address {text!r} should be HOST:PORT")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104 - as it was asked for
    with tcp_socket(host) as listener:
        try:
            listener.bind((host, int(port)))
        except OSError as err:
            raise NeedsOperator(
                f"cannot listen on {text}: {err.strerror}; see --web.listen-address"
            ) from err
        yield listener
