"""Whether an ingest query may claim completeness for what its machine's clock says.

A clock that is ahead would move `complete:` and every frontier ahead with it, and they never go
back. While the query runs, SteadyClock holds its time to the monotonic clock. At its start there is
only what was stored and what Kafka has: a clock far ahead of both is not believed until something
confirms it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from varve.kafka.partitions import Partition
from varve.model.clock import MAX_STEP_MS, SteadyClock, synchronised_ms

log = logging.getLogger(__name__)

MAX_GAP_MS = 86_400_000
"""How far the clock may be ahead of everything stored and sent when a query starts. A day: after a
night or a restart nothing has to be confirmed."""

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Witnesses(Protocol):
    """What other clocks say, as varve.kafka.offsets.TopicOffsets tells it."""

    def partitions(self) -> list[Partition]: ...

    def newest_timestamp_ms(self, partitions: Sequence[Partition]) -> int | None: ...

    def broker_time_ms(self) -> int | None: ...


class ClockGuard:
    """The time of one query. Not safe to share by threads; the clock is.

    State: `_newest_ms` is the newest time that was known at the start, while the clock is too far
    ahead of it to be believed; None from the first confirmation on.
    """

    def __init__(
        self,
        query: str,
        clock: SteadyClock,
        brokers: str,
        complete_ms: int | None,
        sent_ms: int | None,
    ) -> None:
        """brokers: host:port, comma separated. complete_ms: up to when input is complete as stored.
        sent_ms: the newest timestamp of Kafka's messages, 0 if there are none, None if Kafka does
        not tell; then nothing is held up.
        """
        self._query = query
        self._clock = clock
        # The clock of a broker on this machine is the one that is in question.
        hosts = (server.strip().rpartition(":")[0].strip("[]") for server in brokers.split(","))
        self._has_other_clock = not _LOCAL.issuperset(hosts)
        self._newest_ms: int | None = None
        self._said_ms = 0
        now_ms = clock.now_ms()
        newest_ms = 0 if sent_ms is None else max(sent_ms, complete_ms or 0)
        if newest_ms and now_ms - newest_ms > MAX_GAP_MS:
            self._newest_ms = newest_ms
        if complete_ms is not None and complete_ms - now_ms > MAX_STEP_MS:
            log.error(
                "%s: input is said to be complete up to %.0f s from now, so that no window closes"
                " until then. If this machine's clock is right, stop ingest and rollups and run"
                " `varve reset positions` (docs/operations.md)",
                *(query, (complete_ms - now_ms) / 1000),
            )

    @property
    def is_unconfirmed(self) -> bool:
        return self._newest_ms is not None

    def look(self, witnesses: Witnesses) -> int | None:
        """The time that completeness may be claimed for; None while the clock is not believed.

        Asks the witnesses only if the clock is in doubt. Raises TemporaryError without Kafka.
        """
        clock = self._clock
        if self._newest_ms is not None:
            told = [witnesses.newest_timestamp_ms(witnesses.partitions()), synchronised_ms()]
            if self._has_other_clock:
                told.append(witnesses.broker_time_ms())
            if clock.confirm(self._newest_ms, within_ms=MAX_GAP_MS) or any(
                map(clock.confirm, told)
            ):
                self._newest_ms = None
        elif self._has_other_clock and clock.step_ms():
            clock.confirm(witnesses.broker_time_ms())
        self._say_what_changed()
        return None if self.is_unconfirmed else clock.now_ms()

    def error_ms(self) -> int:
        """How far the machine's clock is from the time that is believed; 0 while it is believed."""
        if self._newest_ms is not None:
            return self._clock.now_ms() + self._clock.step_ms() - self._newest_ms
        return self._clock.step_ms()

    def _say_what_changed(self) -> None:
        error_ms = self.error_ms()
        is_new = bool(error_ms) != bool(self._said_ms)
        if not is_new and abs(error_ms - self._said_ms) <= MAX_STEP_MS:
            return
        self._said_ms = error_ms
        if not error_ms:
            log.warning("%s: this machine's clock is believed again", self._query)
        elif self.is_unconfirmed:
            log.error(
                "%s: this machine's clock is %.0f s ahead of all that is stored and sent:"
                " completeness stands still until a new message or a time server confirms it",
                *(self._query, error_ms / 1000),
            )
        else:
            log.error(
                "%s: this machine's clock was stepped by %+.0f s: ingest goes by its monotonic"
                " clock until it is right again, or a time server keeps it",
                *(self._query, error_ms / 1000),
            )
