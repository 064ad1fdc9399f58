"""The way of messages to one topic: Kafka while it answers, else the spool, which is sent later."""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from varve.gateway.circuit_breaker import CircuitBreaker
from varve.gateway.messages import TargetMessage
from varve.gateway.spool import Segment, Spool, SpooledMessage
from varve.gateway.spool_writer import SpoolWriter
from varve.gateway.topic_producer import Settled
from varve.model.errors import VarveError

log = logging.getLogger("varve.gateway.lane")

_RETRY_AFTER_S = 5.0
# How many spooled messages are on their way to Kafka at once.
_DRAIN_WINDOW = 64
_LOOK_S = 0.2
_CLOSE_S = 1.0
# Attempts of the drain after which Kafka's client is replaced: it may not recover by itself.
_REPLACE_AFTER = 3


class Overloaded(VarveError):
    """Messages could be neither acknowledged by Kafka nor spooled; the sender may send again."""

    def __init__(self, text: str, retry_after_s: float = _RETRY_AFTER_S) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Fate(enum.StrEnum):
    """What became of samples."""

    ACKNOWLEDGED = "acknowledged"
    SPOOLED = "spooled"
    REFUSED = "refused"


Account = Callable[[Fate, int], None]
"""Counts samples of senders."""


class Producer(Protocol):
    """What a lane needs of TopicProducer."""

    topic: str

    @property
    def is_connected(self) -> bool: ...

    def connect(self) -> None: ...

    def drop_connection(self) -> None: ...

    def send(self, partition: int, key: bytes, value: bytes, settled: Settled) -> None: ...

    def close(self, timeout_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """ack_s: seconds that Kafka has for an acknowledgement before messages are spooled as well.
    waiting_bytes: bytes of messages that wait for it at most; more is spooled at once.
    """

    ack_s: float = 3.0
    waiting_bytes: int = 64 * 2**20


@dataclass
class _Batch:
    """Messages whose senders wait for the same answer."""

    answer: asyncio.Future[None]
    waiting: dict[int, TargetMessage]
    timer: asyncio.TimerHandle | None = None
    spooling: int = field(default=0)


class Lane:
    """Delivers messages to one topic. For the event loop's thread, but for `close`."""

    def __init__(
        self,
        name: str,
        producer: Producer,
        spool: Spool,
        breaker: CircuitBreaker,
        policy: LanePolicy,
        account: Account,
    ) -> None:
        """account: called from the event loop's thread."""
        self.name = name
        self.topic = producer.topic
        self.spool = spool
        self.breaker = breaker
        self.producer = producer
        self.waiting_bytes = 0
        self._spooling_since_s: float | None = None
        self._policy = policy
        self._account = account
        self._loop = asyncio.get_running_loop()
        self._drain = _Drain(name, producer, spool, breaker)
        self._writer = SpoolWriter(spool, self._drain.wake)

    def why_overloaded(self) -> str:
        """Why messages would be refused now; "" if they would not, as far as that can be told."""
        if self.breaker.is_open or not self.producer.is_connected:
            return self.spool.why_full()
        return ""

    def recovered(self) -> float | None:
        """Once after messages were spooled, when Kafka takes them again: the time, by the event
        loop's clock, since when they were; else None.

        What is sent from then on overtakes the spool, and so the definitions that are in it.
        """
        since_s = self._spooling_since_s
        if since_s is None or self.breaker.is_open or not self.producer.is_connected:
            return None
        self._spooling_since_s = None
        return since_s

    def deliver(self, messages: Sequence[TargetMessage]) -> asyncio.Future[None]:
        """Delivers messages, whose targets are partitions here. Is done once every one is
        acknowledged by Kafka or synced in the spool; raises Overloaded if one is neither.
        """
        batch = _Batch(self._loop.create_future(), dict(enumerate(messages)))
        size = sum(len(message.value) for message in messages)
        may_send = (
            self.producer.is_connected
            and self.waiting_bytes + size <= self._policy.waiting_bytes
            and self.breaker.may_try()
        )
        if not may_send:
            self._spool_rest(batch)
            return batch.answer
        self.waiting_bytes += size
        batch.timer = self._loop.call_later(self._policy.ack_s, self._took_too_long, batch)
        for number, message in enumerate(messages):
            self._send(batch, number, message)
        return batch.answer

    def _send(self, batch: _Batch, number: int, message: TargetMessage) -> None:
        def settled(error: BaseException | None) -> None:
            self._loop.call_soon_threadsafe(self._settled, batch, number, len(message.value), error)

        self.producer.send(message.target, message.key, message.value, settled)

    def _settled(self, batch: _Batch, number: int, size: int, error: BaseException | None) -> None:
        self.waiting_bytes -= size
        if error is not None:
            if number in batch.waiting:
                self._fail(f"{type(error).__name__}: {error}")
                self._spool_rest(batch)
            return
        if self.breaker.is_open:
            self.breaker.succeeded()
        message = batch.waiting.pop(number, None)
        if message is None:  # spooled meanwhile, and so sent twice
            return
        self._account(Fate.ACKNOWLEDGED, message.samples - message.derived)
        self._answer_if_done(batch)

    def _took_too_long(self, batch: _Batch) -> None:
        batch.timer = None
        if batch.waiting:
            self._fail(f"no acknowledgement within {self._policy.ack_s:g} s")
            self._spool_rest(batch)

    def _fail(self, why: str) -> None:
        if not self.breaker.is_open:
            log.warning("%s: Kafka does not take messages (%s): they are spooled", self.name, why)
        self.breaker.failed()
        self._drain.wake()

    def _spool_rest(self, batch: _Batch) -> None:
        """Spools what of a batch is not acknowledged."""
        rest, batch.waiting = batch.waiting, {}
        if not rest:
            return
        batch.spooling += 1
        if self._spooling_since_s is None:
            self._spooling_since_s = self._loop.time() - self._policy.ack_s
        messages = [
            SpooledMessage(m.target, m.key, m.value, m.samples - m.derived) for m in rest.values()
        ]
        samples = sum(message.samples for message in messages)

        def written(error: OSError | None) -> None:
            self._loop.call_soon_threadsafe(self._spooled, batch, samples, error)

        self._writer.append(messages, written)

    def _spooled(self, batch: _Batch, samples: int, error: OSError | None) -> None:
        batch.spooling -= 1
        self._account(Fate.REFUSED if error else Fate.SPOOLED, samples)
        if error is not None and not batch.answer.done():
            text = f"Kafka does not take messages, and neither does the spool: {error}"
            batch.answer.set_exception(Overloaded(text))
        self._answer_if_done(batch)

    def _answer_if_done(self, batch: _Batch) -> None:
        if batch.waiting or batch.spooling:
            return
        if batch.timer is not None:
            batch.timer.cancel()
            batch.timer = None
        if not batch.answer.done():
            batch.answer.set_result(None)

    def close(self) -> None:
        """Ends the threads. What is spooled stays for the next start."""
        self._writer.close()
        self._drain.close()
        self.producer.close(_CLOSE_S)
        self.spool.close()


class _Drain:
    """Sends what is spooled, oldest first, from a thread of its own; so it is what notices that
    Kafka is back. Keeps the producer connected.
    """

    def __init__(
        self, name: str, producer: Producer, spool: Spool, breaker: CircuitBreaker
    ) -> None:
        self._name = name
        self._producer = producer
        self._spool = spool
        self._breaker = breaker
        self._failures = 0
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._wake.set()
        self._thread = threading.Thread(target=self._run, name=f"drain-{name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._producer.connect()
                segment = self._spool.oldest()
                if segment is None:
                    self._wake.wait(timeout=1.0)
                    continue
                self._deliver(segment)
            except (VarveError, OSError) as err:
                self._failed(err)
            else:
                if self._breaker.is_open:
                    log.info("%s: Kafka takes messages again", self._name)
                self._failures = 0
                self._breaker.succeeded()

    def _failed(self, err: Exception) -> None:
        if not self._breaker.is_open or not self._failures:
            log.warning("%s: %s", self._name, err)
        self._failures += 1
        if self._failures % _REPLACE_AFTER == 0:
            self._producer.drop_connection()
        self._stopping.wait(self._breaker.failed())

    def _deliver(self, segment: Segment) -> None:
        """Sends a segment and deletes it. Raises Overloaded if Kafka does not take all of it."""
        window = threading.Semaphore(_DRAIN_WINDOW)
        errors: list[BaseException] = []

        def settled(error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)
            window.release()

        for message in self._spool.read(segment):
            if not self._acquired(window) or errors:
                break
            self._producer.send(message.partition, message.key, message.value, settled)
        else:
            # Until all have been settled.
            if all(self._acquired(window) for _ in range(_DRAIN_WINDOW)) and not errors:
                self._spool.discard(segment)
        if errors:
            raise Overloaded(f"{type(errors[0]).__name__}: {errors[0]}")

    def _acquired(self, window: threading.Semaphore) -> bool:
        """Waits for a place in the window; False if the lane is closed meanwhile."""
        while not window.acquire(timeout=_LOOK_S):
            if self._stopping.is_set():
                return False
        return not self._stopping.is_set()
