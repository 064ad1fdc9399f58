"""Drives a notifier: gives it the time, stores what it changes, makes the deliveries it asks for.

Everything happens in one event loop; the disk has a thread of its own. Nothing is sent before the
state that led to it is durable, unless the disk takes nothing: then it is told all the same, since
twice is better than not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from varve.model.clock import Clock
from varve.notify.groups import Delivery, Outcome
from varve.notify.journal_writer import JournalWriter
from varve.notify.notifier import Notifier
from varve.notify.records import Record

STORE_TIMEOUT_S = 10.0
"""How long an answer waits for the disk before it says that the state is not stored."""
_BEFORE_SENDING_S = 2.0
# So long at least an attempt may take, even if the next look at its group comes sooner.
_LEAST_TIMEOUT_S = 1.0
_LONGEST_TIMEOUT_S = 60.0
# How many messages one integration is sent at once.
_AT_ONCE = 32
# So many groups are looked at before requests get their turn.
_LOOKS_AT_ONCE = 20
# The event loop looks at the time at least so often: a clock may be set.
_LONGEST_SLEEP_S = 10.0

T = TypeVar("T")

_log = logging.getLogger("varve.notify")


@dataclass(frozen=True)
class Result:
    """What became of an attempt. detail: why it failed, without any secret."""

    outcome: Outcome
    detail: str = ""
    data: dict[str, str] | None = None


class Sender(Protocol):
    """Sends messages of one configuration."""

    async def send(self, delivery: Delivery) -> Result:
        """Makes one attempt. Never raises but when it is cancelled."""
        ...

    async def close(self) -> None: ...


class NotStored(Exception):
    """The disk did not take a change in time; it counts, but not beyond this process."""


class Observer(Protocol):
    """Hears of every attempt."""

    def attempted(self, delivery: Delivery, result: Result, seconds: float) -> None: ...


class Driver:
    def __init__(
        self,
        notifier: Notifier,
        writer: JournalWriter,
        clock: Clock,
        sender: Sender,
        observer: Observer,
    ) -> None:
        self.notifier = notifier
        self.clock = clock
        self._writer = writer
        self._sender = sender
        self._observer = observer
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self.on_change: Callable[[list[Record]], None] | None = None
        """Hears of every change that began here."""

    @property
    def failure(self) -> str:
        """Why changes are not stored now; "" if they are."""
        return self._writer.failure

    async def change(self, action: Callable[[int], T]) -> T:
        """Does something to the notifier, and returns once that is durable.

        What it raises is raised once its change is durable, too. Raises NotStored after
        STORE_TIMEOUT_S.
        """
        try:
            return action(self.clock.now_ms())
        finally:
            self._store()
            self._wake.set()
            await self._durable()

    def merge(self, action: Callable[[int], T]) -> T:
        """Does to the notifier what another one has done; it is stored, and not waited for."""
        result = action(self.clock.now_ms())
        journal, self.notifier.journal = self.notifier.journal, []
        self._writer.put(journal)
        self._wake.set()
        return result

    def wake(self) -> None:
        """Looks at what is due, since whose turn it is may have changed."""
        self._wake.set()

    async def reload(self, change: Callable[[int], None], sender: Sender) -> None:
        """Goes by another configuration, whose messages another sender sends."""
        old, self._sender = self._sender, sender
        await self.change(change)
        self._slots = {}
        task = asyncio.create_task(self._close_later(old, set(self._tasks)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            self._wake.clear()
            now_ms = self.clock.now_ms()
            for delivery in self.notifier.due(now_ms, _LOOKS_AT_ONCE):
                task = asyncio.create_task(self._attempt(delivery, self._sender))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            self._store()
            due_ms = self.notifier.next_due_ms()
            sleep_s = _LONGEST_SLEEP_S
            if due_ms is not None:
                sleep_s = min(max(due_ms - self.clock.now_ms(), 0) / 1000, sleep_s)
            await _within(self._wake.wait(), sleep_s)

    async def stop(self, timeout_s: float) -> None:
        """Lets attempts that are under way end, and stores what came of them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._store()
        await self._sender.close()

    def _store(self) -> None:
        journal = self.notifier.journal
        if journal:
            self.notifier.journal = []
            self._writer.put(journal)
            if self.on_change is not None:
                self.on_change(journal)
        if self._writer.wants_snapshot:
            self._writer.put_snapshot(self.notifier.snapshot())

    async def _durable(self) -> None:
        if not await _within(self._writer.durable(), STORE_TIMEOUT_S):
            raise NotStored(self._writer.failure or "the disk is slow")

    async def _attempt(self, delivery: Delivery, sender: Sender) -> None:
        key = delivery.message.integration.key
        slots = self._slots.setdefault(key, asyncio.Semaphore(_AT_ONCE))
        async with slots:
            await _within(self._writer.durable(), _BEFORE_SENDING_S)
            began_ms = self.clock.now_ms()
            left_s = (delivery.deadline_ms - began_ms) / 1000
            own_ms = getattr(delivery.message.integration.config, "timeout", 0)
            longest_s = own_ms / 1000 if own_ms else _LONGEST_TIMEOUT_S
            timeout_s = min(max(left_s, _LEAST_TIMEOUT_S), longest_s)
            result = Result(Outcome.FAILED, f"no answer within {timeout_s:g} s")
            try:
                async with asyncio.timeout(timeout_s):
                    result = await sender.send(delivery)
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                result = Result(Outcome.FAILED, "the process ended")
                raise
            except Exception:  # noqa: BLE001 - one receiver's defect ends no other's messages
                _log.exception("a defect of the receiver %s", key)
                result = Result(Outcome.REFUSED, "a defect; see the log")
            finally:
                now_ms = self.clock.now_ms()
                self.notifier.attempted(delivery, result.outcome, now_ms, result.data)
                self._store()
                self._wake.set()
                self._observer.attempted(delivery, result, (now_ms - began_ms) / 1000)

    async def _close_later(self, sender: Sender, under_way: set[asyncio.Task[None]]) -> None:
        if under_way:
            await asyncio.wait(under_way)
        await sender.close()


async def _within(awaited: Awaitable[object], seconds: float) -> bool:
    """Waits for something, at most so long; whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await awaited
    except TimeoutError:
        return False
    return True
