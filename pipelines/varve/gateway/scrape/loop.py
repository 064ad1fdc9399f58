"""The loop over one target: when it is read, what becomes of it, how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from varve.gateway.exposition.formats import format_of
from varve.gateway.exposition.known_lines import InvalidBody
from varve.gateway.exposition.samples import InvalidExposition
from varve.gateway.lane import Overloaded
from varve.gateway.refusals import Refused
from varve.gateway.scrape.assembly import Assembly, Counts, Report, ScrapeRefused
from varve.gateway.scrape.fetch import ScrapeFailed, TargetClient
from varve.gateway.scrape.targets import Target
from varve.gateway.write_request import Message, WriteRequest
from varve.model.clock import Clock

Deliver = Callable[[Message], Awaitable[None]]
"""Takes samples to Kafka or the spool. Raises Refused, Overloaded."""

# Times are taken as whole intervals if they are so near to one.
_TOLERANCE_MS = 2
# A target that is gone may come back under another job: its end is told after so many intervals.
_END_INTERVALS = 2.1

log = logging.getLogger("varve.scrape")


@dataclass
class TargetState:
    """What is known of the last scrape."""

    health: str = "unknown"
    last_error: str = ""
    last_scrape_ms: int = 0
    last_duration_s: float = 0.0
    missed: int = 0
    """Intervals in which it was not read, because the scrape before had not ended."""


class TargetLoop:
    """Scrapes a target until it is cancelled."""

    def __init__(
        self,
        target: Target,
        client: TargetClient,
        assembly: Assembly,
        deliver: Deliver,
        clock: Clock,
        seed: str,
        scraped: Callable[[Report], None] = lambda _: None,
    ) -> None:
        """seed: where in its interval a target is read depends on it. scraped: is told of each."""
        self.target = target
        self.state = TargetState()
        self.assembly = assembly
        self._client = client
        self._deliver = deliver
        self._clock = clock
        self._offset_ms = target.offset_ms(seed)
        self._scraped = scraped

    async def run(self) -> None:
        interval_ms = self.target.interval_ms
        last_due_ms = 0
        while True:
            now_ms = self._clock.now_ms()
            due_ms = next_due_ms(now_ms, interval_ms, self._offset_ms)
            if due_ms <= last_due_ms:  # woken early, or the clock was set back
                due_ms = last_due_ms + interval_ms
            if last_due_ms:
                self.state.missed += (due_ms - last_due_ms) // interval_ms - 1
            await asyncio.sleep((due_ms - now_ms) / 1000)
            last_due_ms = due_ms
            now_ms = self._clock.now_ms()
            await self.scrape(due_ms if abs(now_ms - due_ms) <= _TOLERANCE_MS else now_ms)

    async def scrape(self, ts_ms: int) -> None:
        """Reads the target once and delivers what it says, as of `ts_ms`."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        error = ""
        size = 0
        counts = Counts()
        request: WriteRequest | None = None
        try:
            async with asyncio.timeout(self.target.timeout_ms / 1000):
                scraped = await self._client.read(self.target.url, self.target.timeout_ms)
            duration_s = loop.time() - begun
            size = len(scraped.body)
            kind = format_of(scraped.content_type, self._client.fallback())
            found = self.assembly.read(scraped.body, kind)
            request, report = self.assembly.take(found, ts_ms, duration_s, size)
        except TimeoutError:
            error = f"no answer within {self.target.timeout_ms / 1000:g} s"
        except ScrapeFailed as bad:
            error = str(bad)
        except ScrapeRefused as bad:
            error, counts = str(bad), bad.counts
        except InvalidBody as bad:
            error, counts = str(bad), self.assembly.counts_before(bad.columns)
        except InvalidExposition as bad:
            error = str(bad)
        if request is None:
            duration_s = loop.time() - begun
            request, report = self.assembly.fail(ts_ms, duration_s, counts, size)
        if error and self.state.health != "down":
            log.info("%s is down: %s", self.target.url, error)
        state = self.state
        state.health, state.last_error = ("down" if error else "up"), error
        state.last_scrape_ms, state.last_duration_s = ts_ms, report.duration_s
        self._scraped(report)
        await self._send(request)

    async def end(self, came_back: Callable[[], bool]) -> None:
        """Tells that the series end, after a while. came_back: whether another loop reads a target
        with the same labels by then; then they go on.
        """
        interval_ms = self.target.interval_ms
        ended_ms = max(self.state.last_scrape_ms + interval_ms, self._clock.now_ms())
        await asyncio.sleep(interval_ms * _END_INTERVALS / 1000)
        if not came_back():
            await self._send(self.assembly.end(ended_ms))

    async def _send(self, request: WriteRequest) -> None:
        if not len(request):
            return
        try:
            await self._deliver(request.message())
        except (Refused, Overloaded) as err:
            log.warning("samples of %s are lost: %s", self.target.url, err)


def next_due_ms(now_ms: int, interval_ms: int, offset_ms: int) -> int:
    """The first time after now that is `offset_ms` into an interval."""
    return now_ms + interval_ms - (now_ms - offset_ms) % interval_ms
