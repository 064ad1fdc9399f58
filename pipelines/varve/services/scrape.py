"""`varve serve scrape`: targets of a prometheus.yml are read, and go the road of the gateway."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import uvloop

from varve.access.credentials import Credentials
from varve.api.server import server_of
from varve.gateway.first_sight import Input
from varve.gateway.scrape.assembly import Report
from varve.gateway.scrape.config import Configuration, load_config
from varve.gateway.scrape.http_app import ScrapeApp
from varve.gateway.scrape.manager import Pool, ScrapeManager
from varve.gateway.startup import make_ready
from varve.gateway.write_request import Message
from varve.kafka.client_options import Cluster
from varve.kafka.membership import Membership, Share
from varve.model.errors import NeedsOperator
from varve.notify.config.document import ConfigError
from varve.services.listening import listening
from varve.services.road import Road
from varve.services.road_serving import serve_until_asked
from varve.services.road_watch import RoadWatch
from varve.services.status import ComponentStatus
from varve.services.tls import tls_of
from varve.settings import Settings
from varve.telemetry.metrics import ScrapeMetrics

COMPONENT = "scrape"

_PROTOCOL = "scrape"

log = logging.getLogger("varve.scrape")


def run(settings: Settings) -> int:
    """Scrapes until SIGTERM or SIGINT, then returns 0. SIGHUP and a changed file reload the
    configuration.

    Raises NeedsOperator if the configuration cannot be used, or the port is taken.
    """
    scrape = settings.scrape
    if not scrape.config_file:
        raise NeedsOperator("which prometheus.yml? Say --config.file FILE, or scrape.config_file")
    status = ComponentStatus(settings.home, COMPONENT)
    with listening(scrape.host, scrape.port, "scrape.port") as listener:
        url = scrape.url()
        status.update(state="starting", detail={"url": url, "metrics": f"{url}/metrics"})
        make_ready()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Service(settings, status).serve(listener))
    status.update(state="stopped")
    return 0


class _Service:
    """The parts of scraping, put together."""

    def __init__(self, settings: Settings, status: ComponentStatus) -> None:
        self._settings = settings
        self._watch = RoadWatch(status, log)
        self._file = Path(settings.scrape.config_file)
        self._configuration = self._read()
        self._road = Road(settings, settings.home / "scrape-spool")
        self._metrics = ScrapeMetrics(self._road.telemetry)
        self._manager = ScrapeManager(
            self._deliver,
            self._road.clock,
            settings.scrape.allowed(),
            # Instances that share targets read them at the same moments.
            settings.scrape.group or socket.gethostname(),
            self._scraped,
            owns=self._owns,
        )
        self._share: Share | None = None
        self._ends = threading.Event()
        self._seen = self._file_state()
        self._reload_wanted = False

    async def serve(self, listener: socket.socket) -> None:
        scrape = self._settings.scrape
        app = ScrapeApp(self, Credentials(*scrape.tokens_and_users()))
        server = server_of(app, tls=tls_of(scrape, "scrape"))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._ask_for_reload)
        starting = asyncio.create_task(self._start())
        sharing = asyncio.create_task(self._follow_group())

        async def look() -> None:
            if starting.done():
                await self._reload_if_wanted()
            self._watch.look(self._road)

        async def close() -> None:
            starting.cancel()
            self._ends.set()
            await asyncio.wait([sharing])

        try:
            await serve_until_asked({server: [listener]}, [sharing, starting], look, close)
        finally:
            await self._manager.close()
            await self._road.close()

    # What the HTTP application tells of.

    @property
    def pools(self) -> Mapping[str, Pool]:
        return self._manager.pools

    def why_not_ready(self) -> str:
        return self._road.why_not_ready()

    def page(self, accept: str) -> tuple[bytes, str]:
        for name, pool in self._manager.pools.items():
            states = [loop.state for loop in pool.loops.values()]
            for health in ("up", "down", "unknown"):
                count = sum(state.health == health for state in states)
                self._metrics.targets.labels(name, health).set(count)
            self._metrics.missed.labels(name).set(sum(state.missed for state in states))
        return self._road.page(accept)

    async def _start(self) -> None:
        await self._road.open(Credentials({}, {}), self._input_of)
        await self._manager.apply(self._configuration)

    async def _follow_group(self) -> None:
        """Keeps to this instance's share of the targets, if there is a group of instances."""
        group = self._settings.scrape.group
        if not group:
            return
        kafka = self._settings.kafka
        membership = Membership(
            Cluster(kafka.servers(), kafka.client_options()),
            kafka.topics.raw,
            f"varve-scrape-{group}",
        )
        loop = asyncio.get_running_loop()

        def changed(share: Share) -> None:
            loop.call_soon_threadsafe(self._take, share)

        await asyncio.to_thread(membership.follow, changed, self._ends.wait)

    def _take(self, share: Share) -> None:
        if share != self._share:
            log.info("scrapes %d of %d shares", len(share.numbers), share.of)
            self._share = share
            self._manager.share()

    def _owns(self, number: int) -> bool:
        if not self._settings.scrape.group:
            return True
        return self._share is not None and self._share.has(number)

    async def _deliver(self, message: Message) -> None:
        if self._road.app is None:
            return
        _, why = await self._road.app.take(
            _PROTOCOL, lambda: message, message.content.nbytes, _PROTOCOL, ""
        )
        if why is not None:
            raise why

    def _input_of(self, _sender: str) -> Input:
        labels = self._settings.gateway.external_labels | dict(self._configuration.external_labels)
        return Input(_PROTOCOL, tuple(sorted(labels.items())))

    def _scraped(self, job: str, report: Report) -> None:
        self._metrics.scrapes.labels(job, "up" if report.is_up else "down").inc()
        self._metrics.scrape.labels(job).observe(report.duration_s)

    def _read(self) -> Configuration:
        try:
            return load_config(self._file)
        except ConfigError as err:
            raise NeedsOperator(f"the configuration cannot be used:\n{err}") from err

    def _file_state(self) -> tuple[int, int, int]:
        try:
            found = self._file.stat()
        except OSError:
            return 0, 0, 0
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _ask_for_reload(self) -> None:
        self._reload_wanted = True

    async def _reload_if_wanted(self) -> None:
        """Goes by the file as it is now; if it cannot be used, by what was read before."""
        seen = self._file_state()
        if seen == self._seen and not self._reload_wanted:
            return
        self._seen, self._reload_wanted = seen, False
        try:
            configuration = self._read()
            await self._manager.apply(configuration)
        except NeedsOperator as err:
            log.error("not reloaded, the configuration before it stays: %s", err)  # noqa: TRY400 - says it all
            self._metrics.config_ok.set(0)
            return
        self._configuration = configuration
        self._metrics.config_ok.set(1)
        log.info("reloaded %s: %d jobs", self._file, len(configuration.jobs))
