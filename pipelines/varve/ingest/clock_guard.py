"""Whether an ingest query may claim completeness for what its machine's clock says.

A clock that is ahead would move `complete:` and every frontier ahead with it, and they never go
back. While the query runs, SteadyClock holds its time to the monotonic clock. At its start there is
only what was stored and what Kafka has: a clock far ahead of both is not believed until something
confirms it, or until nothing has spoken against it for a time in proportion (docs/adr/0014).
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from varve.ingest.message_pace import MessagePace, Pace
from varve.kafka.partitions import Partition
from varve.model.clock import MAX_STEP_MS, SteadyClock, synchronised_ms
from varve.model.window import DAY_MS, MINUTE_MS

log = logging.getLogger(__name__)

LEAST_WAIT_MS = 10 * MINUTE_MS
"""How long a clock in doubt has to be steady at least. Ten minutes: a time server that there is
corrects it in less, and two windows of MessagePace."""

WAIT_PER_DAY_MS = MINUTE_MS
"""How long for each day that it is ahead: a week in ten minutes, a year in six hours, within which
somebody may answer the alarm. What a wrong clock would falsify is in proportion, too."""


class Witnesses(Protocol):
    """What other clocks say, as varve.kafka.offsets.TopicOffsets tells it."""

    def partitions(self) -> list[Partition]: ...

    def newest_timestamp_ms(self, partitions: Sequence[Partition]) -> int | None: ...

    def broker_time_ms(self) -> int | None: ...


class ClockGuard:
    """The time of one query. Not safe to share by threads; the clock is.

    State: `_newest_ms` is the newest time that is known of otherwise, while the clock is too far
    ahead of it to be believed; None once it is. `_since_ms` is since when nothing spoke against the
    clock.
    """

    def __init__(
        self,
        query: str,
        clock: SteadyClock,
        brokers: str,
        complete_ms: int | None,
        sent_ms: int | None,
        *,
        max_gap_ms: int = DAY_MS,
    ) -> None:
        """brokers: host:port, comma separated. complete_ms: up to when input is complete as stored.
        sent_ms: the newest timestamp of Kafka's messages, 0 if there are none, None if Kafka does
        not tell; then nothing is held up. max_gap_ms: how far the clock may be ahead of both.
        """
        self._query, self._clock, self._brokers = query, clock, brokers
        self._max_gap_ms = max_gap_ms
        self._newest_ms: int | None = None
        self._said_ms = 0
        now_ms = clock.now_ms()
        self._since_ms = now_ms
        self._pace = MessagePace(now_ms, sent_ms or 0)
        newest_ms = 0 if sent_ms is None else max(sent_ms, complete_ms or 0)
        if newest_ms and now_ms - newest_ms > max_gap_ms:
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
            self._newest_ms = self._still_in_doubt(witnesses, self._newest_ms)
        elif clock.step_ms() and self._has_other_clock:
            clock.confirm(witnesses.broker_time_ms())
        self._say_what_changed()
        return None if self.is_unconfirmed else clock.now_ms()

    def wait_ms(self) -> int:
        """How much longer nothing may speak against a clock that is not believed."""
        if self._newest_ms is None:
            return 0
        days = (self._since_ms - self._newest_ms) / DAY_MS
        wait_ms = max(LEAST_WAIT_MS, int(days * WAIT_PER_DAY_MS))
        return self._since_ms + wait_ms - self._clock.now_ms()

    def _still_in_doubt(self, witnesses: Witnesses, newest_ms: int) -> int | None:
        """The newest time that is known of if the clock is too far ahead of it; None if it is
        believed from now on.
        """
        clock = self._clock
        sent_ms = witnesses.newest_timestamp_ms(witnesses.partitions()) or 0
        told = [synchronised_ms()]
        if self._has_other_clock:
            # Where all is on this machine, what was sent now has its time, whatever that is.
            told += [sent_ms, witnesses.broker_time_ms()]
            newest_ms = max(newest_ms, sent_ms)
        if any(map(clock.confirm, told)):
            return None
        if step_ms := clock.step_ms():
            # One that is in doubt is not held to what it said first: somebody may have set it.
            clock.confirm(clock.now_ms() + step_ms)
            self._since_ms = clock.now_ms()
            self._pace = MessagePace(self._since_ms, sent_ms)
            self._said_ms = 0
        now_ms = clock.now_ms()
        if now_ms - newest_ms <= self._max_gap_ms:
            return None
        pace, agrees = self._pace.observe(now_ms, sent_ms), now_ms - sent_ms <= self._max_gap_ms
        if pace is Pace.CLOCK and not agrees:
            log.error(
                "%s: producers are at work whose clocks are %.0f s behind this machine's",
                *(self._query, (now_ms - sent_ms) / 1000),
            )
            self._since_ms = now_ms
        is_over = self.wait_ms() <= 0 and (agrees or self._pace.is_settled)
        return None if is_over else newest_ms

    @cached_property
    def _has_other_clock(self) -> bool:
        """Whether a broker is on another machine: this machine's clock is the one in doubt."""
        hosts = (
            server.strip().rpartition(":")[0].strip("[]") for server in self._brokers.split(",")
        )
        return not all(map(_is_here, hosts))

    def error_ms(self) -> int:
        """How far the machine's clock is from the time that is believed; 0 while it is believed."""
        if self._newest_ms is not None:
            return self._clock.now_ms() + self._clock.step_ms() - self._newest_ms
        return self._clock.step_ms()

    def _say_what_changed(self) -> None:
        error_ms = self.error_ms()
        is_new = bool(error_ms) != bool(self._said_ms)
        if not is_new and (self.is_unconfirmed or abs(error_ms - self._said_ms) <= MAX_STEP_MS):
            return
        self._said_ms = error_ms
        if not error_ms:
            log.warning("%s: this machine's clock is believed again", self._query)
        elif self.is_unconfirmed:
            log.error(
                "%s: this machine's clock is %.0f s ahead of all that is stored and sent:"
                " completeness stands still until a time server or a broker elsewhere confirms"
                " it, or until nothing has spoken against it for %.0f s",
                *(self._query, error_ms / 1000, self.wait_ms() / 1000),
            )
        else:
            log.error(
                "%s: this machine's clock was stepped by %+.0f s: ingest goes by its monotonic"
                " clock until it is right again, or a time server keeps it",
                *(self._query, error_ms / 1000),
            )


def _is_here(host: str) -> bool:
    """Whether an address that a host name stands for is one of this machine's."""
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, 0, type=socket.SOCK_DGRAM
        ):
            with socket.socket(family, kind, protocol) as probe, contextlib.suppress(OSError):
                probe.bind(address)
                return True
    return False
