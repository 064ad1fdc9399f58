"""StatsD in the gateway: lines that come in, and their flush every few seconds."""

from __future__ import annotations

import asyncio
import logging

from varve.gateway.app import GatewayApp
from varve.gateway.lane import Overloaded
from varve.gateway.refusals import Refused
from varve.gateway.statsd.aggregation import Aggregation
from varve.gateway.statsd.listener import Listener
from varve.gateway.write_request import Message
from varve.services.road import Road
from varve.settings.gateway import Gateway
from varve.telemetry.metrics import StatsdMetrics

_PROTOCOL = "statsd"

log = logging.getLogger("varve.gateway.statsd")


class Statsd:
    """Takes lines from when it is opened. For one event loop."""

    def __init__(self, gateway: Gateway, road: Road) -> None:
        self._gateway = gateway
        self._road = road
        self._aggregation = Aggregation(
            gateway.statsd_bounds(),
            most=gateway.statsd_series,
            forgotten_after_ms=gateway.statsd_forgotten_s * 1000,
            are_native=gateway.statsd_histograms == "native",
        )
        self._listener = Listener(self._take)
        self._metrics = StatsdMetrics(road.telemetry)
        self._told = (0, 0, 0)
        self._flushing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises NeedsOperator if a port or socket is taken."""
        gateway = self._gateway
        host = gateway.statsd_host
        await self._listener.open(host, gateway.statsd_port, gateway.statsd_socket)
        self._flushing = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Takes no more, and flushes what has come."""
        if self._flushing is None:
            return
        self._flushing.cancel()
        await asyncio.wait([self._flushing])
        await self._listener.close()
        await self._flush()

    def _take(self, packet: bytes) -> None:
        self._aggregation.take(packet, self._road.clock.now_ms())

    async def _run(self) -> None:
        interval_ms = round(self._gateway.statsd_flush_s * 1000)
        while True:
            now_ms = self._road.clock.now_ms()
            await asyncio.sleep((interval_ms - now_ms % interval_ms) / 1000)
            await self._flush()

    async def _flush(self) -> None:
        self._count()
        app = self._road.app
        if app is None:
            return  # counters are totals: the next flush has all of it
        request = self._aggregation.flush(self._road.clock.now_ms())
        if len(request):
            await self._deliver(app, request.message())

    async def _deliver(self, app: GatewayApp, message: Message) -> None:
        size = message.content.nbytes
        try:
            _, why = await app.take(_PROTOCOL, lambda: message, size, _PROTOCOL, "")
        except (Refused, Overloaded) as err:
            why = Refused(503, str(err))
        if why is not None:
            log.warning("a flush of StatsD is lost: %s", why)

    def _count(self) -> None:
        """Counts what has come since the last time, and logs a line that was refused."""
        found = self._aggregation.lines, self._aggregation.rejected, self._listener.dropped()
        lines, rejected, dropped = (now - then for now, then in zip(found, self._told, strict=True))
        self._told = found
        self._metrics.lines.inc(lines)
        self._metrics.rejected.inc(rejected)
        self._metrics.dropped.inc(max(dropped, 0))
        self._metrics.series.set(len(self._aggregation))
        if rejected:
            log.info(
                "%d lines were refused, the last: %s", rejected, self._aggregation.last_problem
            )
        if dropped > 0:
            log.warning("the kernel dropped %d packets of StatsD", dropped)
