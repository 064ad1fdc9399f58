"""How long after its timestamp a sample is first answered, as a user of the page sees it."""

from __future__ import annotations

import json
import math
import threading
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from varve.model.clock import Clock, SystemClock
from varve.services.own_services import opener_of_home
from varve.settings import Settings


@dataclass
class Freshness:
    """The ages, in ms, of samples of one series when an answer first had them.

    Not to be shared between threads.
    """

    ages_ms: list[int] = field(default_factory=list)
    newest_ms: int | None = None

    def observe(self, now_ms: int, timestamps_ms: Iterable[int]) -> None:
        """Notes an answer that arrived at now_ms; samples of the first answer have no age."""
        seen = sorted(timestamps_ms)
        if not seen:
            return
        if self.newest_ms is not None:
            self.ages_ms += [now_ms - ts for ts in seen if ts > self.newest_ms]
        self.newest_ms = max(seen[-1], self.newest_ms or 0)

    def quantile_s(self, q: float) -> float | None:
        """The quantile in seconds by nearest rank: an age that was measured. None if none was."""
        if not self.ages_ms:
            return None
        rank = max(0, math.ceil(q * len(self.ages_ms)) - 1)
        return sorted(self.ages_ms)[rank] / 1000


Ask = Callable[[], list[int]]


def range_query(settings: Settings, selector: str, timeout_s: float = 5.0) -> Ask:
    """Asks the query service of this home for the timestamps (ms) of `selector`[1m], which a range
    selector returns as they were stored. An answer that is none raises OSError.
    """
    query = urllib.parse.urlencode({"query": f"{selector}[1m]"})

    def ask() -> list[int]:
        request = f"{settings.query.url()}/api/v1/query?{query}"
        with opener_of_home(settings).open(request, timeout=timeout_s) as answer:
            result = json.load(answer)["data"]["result"]
        return [round(ts * 1000) for series in result for ts, _ in series["values"]]

    return ask


class FreshnessProbe:
    """Asks every interval_s seconds, in a thread of its own, and notes the answers."""

    def __init__(self, ask: Ask, *, clock: Clock | None = None, interval_s: float = 1.0) -> None:
        self._ask = ask
        self._clock = clock or SystemClock()
        self._interval_s = interval_s
        self._after_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="freshness", daemon=True)
        self.freshness = Freshness()
        """Read it after `stop`."""
        self.answers = 0
        self.failures = 0

    def start(self, after_s: float = 0.0) -> None:
        """Begins to ask after_s seconds from now, when caches are warm."""
        self._after_s = after_s
        self._thread.start()

    def stop(self) -> None:
        """Does nothing if it never started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        if self._stop.wait(self._after_s):
            return
        while not self._stop.wait(self._interval_s):
            try:
                timestamps = self._ask()
            except (OSError, ValueError, KeyError):  # counted: the summary says how many
                self.failures += 1
                continue
            self.answers += 1
            self.freshness.observe(self._clock.now_ms(), timestamps)
