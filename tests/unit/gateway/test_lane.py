"""A lane: acknowledged by Kafka, or spooled and sent later, or refused; nothing else, ever."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import Counter

import pytest

from varve.gateway.circuit_breaker import CircuitBreaker
from varve.gateway.lane import Fate, Lane, LanePolicy, Overloaded
from varve.gateway.messages import TargetMessage
from varve.gateway.spool import Spool
from varve.model.clock import SystemClock
from varve.model.errors import TemporaryError


class Broker:
    """A producer whose Kafka can be away, silent or back. Acknowledges from a thread of its own."""

    topic = "raw"

    def __init__(self):
        self.state = "up"
        self.got: list[bytes] = []
        self.is_connected = True
        self.silent = []
        self.lock = threading.Lock()

    def connect(self):
        if self.state == "away":
            raise TemporaryError("no Kafka")
        self.is_connected = True

    def drop_connection(self):
        self.is_connected = False

    def close(self, timeout_s):
        self.is_connected = False

    def send(self, partition, key, value, settled):
        with self.lock:
            state = self.state
            if state == "up":
                self.got.append((partition, value))
            elif state == "silent":
                self.silent.append((partition, value, settled))
                return
        error = None if state == "up" else TemporaryError("not now")
        threading.Thread(target=settled, args=(error,)).start()

    def speak(self):
        with self.lock:
            self.state = "up"
            waiting, self.silent = self.silent, []
            self.got += [(partition, value) for partition, value, _ in waiting]
        for _, _, settled in waiting:
            settled(None)


class Deployment:
    """A lane over a broker and a spool in a folder."""

    def __init__(self, folder, broker, **policy):
        self.broker = broker
        self.counts = Counter()
        self.spool = Spool(
            folder,
            max_bytes=policy.pop("max_bytes", 1 << 20),
            max_age_ms=1 << 40,
            segment_bytes=400,
            clock=SystemClock(),
        )
        self.breaker = CircuitBreaker(
            asyncio.get_running_loop().time, first_pause_s=0.001, longest_pause_s=0.01
        )
        self.lane = Lane(
            "bulk",
            broker,
            self.spool,
            self.breaker,
            LanePolicy(**({"ack_s": 30.0} | policy)),
            self.account,
        )

    def account(self, fate, samples):
        self.counts[fate] += samples

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - threads take part
                await asyncio.sleep(0.001)

    async def close(self):
        await asyncio.to_thread(self.lane.close)


def messages(first, count=3):
    return [
        TargetMessage(n % 2, b"k" * 8, b"%04d" % n + b"x" * 50, 10, derived=1)
        for n in range(first, first + count)
    ]


def sent(*batches):
    return {(m.target, m.value) for batch in batches for m in batch}


def scenario(story):
    """Runs a coroutine function of (tmp_path) in a loop."""

    def test(tmp_path):
        asyncio.run(story(tmp_path))

    test.__name__ = story.__name__
    return test


@scenario
async def test_what_kafka_acknowledges_is_done_and_nothing_is_spooled(folder):
    d = Deployment(folder, Broker())
    await d.lane.deliver(messages(0))

    assert set(d.broker.got) == sent(messages(0))
    assert d.counts == {Fate.ACKNOWLEDGED: 27}
    assert d.spool.size == 0
    assert d.lane.waiting_bytes == 0
    await d.close()


@scenario
async def test_what_kafka_refuses_is_spooled_and_sent_once_it_is_back(folder):
    d = Deployment(folder, Broker())
    d.broker.state = "failing"

    await asyncio.gather(d.lane.deliver(messages(0)), d.lane.deliver(messages(10)))

    assert d.counts == {Fate.SPOOLED: 54}
    assert d.breaker.is_open
    d.broker.state = "up"
    await d.until(lambda: d.spool.size == 0 and not d.breaker.is_open)
    assert set(d.broker.got) == sent(messages(0), messages(10))
    await d.lane.deliver(messages(20))
    assert d.counts == {Fate.SPOOLED: 54, Fate.ACKNOWLEDGED: 27}
    await d.close()


@scenario
async def test_it_says_once_that_what_was_spooled_has_been_overtaken(folder):
    d = Deployment(folder, Broker())
    await d.lane.deliver(messages(0))
    assert d.lane.recovered() is None
    begun = asyncio.get_running_loop().time()
    d.broker.state = "failing"
    await d.lane.deliver(messages(10))
    assert d.lane.recovered() is None

    d.broker.state = "up"
    await d.until(lambda: not d.breaker.is_open)

    assert d.lane.recovered() <= begun
    assert d.lane.recovered() is None
    await d.close()


@scenario
async def test_what_kafka_is_silent_about_is_spooled_in_time(folder):
    d = Deployment(folder, Broker(), ack_s=0.05)
    d.broker.state = "silent"

    await d.lane.deliver(messages(0))

    assert d.counts == {Fate.SPOOLED: 27}
    assert d.lane.waiting_bytes > 0
    d.broker.speak()
    await d.until(lambda: d.spool.size == 0 and d.lane.waiting_bytes == 0)
    assert set(d.broker.got) == sent(messages(0))  # twice, which merges
    assert d.counts == {Fate.SPOOLED: 27}
    await d.close()


@scenario
async def test_while_kafka_is_away_nothing_waits_for_it(folder):
    broker = Broker()
    broker.state, broker.is_connected = "away", False
    d = Deployment(folder, broker)

    for n in range(0, 50, 5):
        await d.lane.deliver(messages(n))

    assert d.counts == {Fate.SPOOLED: 270}
    await d.close()
    later = Deployment(folder, Broker())
    await later.until(lambda: later.spool.size == 0)
    assert set(later.broker.got) == sent(*(messages(n) for n in range(0, 50, 5)))
    await later.close()


@scenario
async def test_more_than_may_wait_goes_to_the_spool(folder):
    d = Deployment(folder, Broker(), waiting_bytes=200)
    d.broker.state = "silent"
    first = d.lane.deliver(messages(0))

    await d.lane.deliver(messages(10))

    assert not first.done()
    assert d.counts == {Fate.SPOOLED: 27}
    d.broker.speak()
    await first
    await d.close()


@scenario
async def test_with_neither_kafka_nor_room_the_sender_is_told_to_come_again(folder):
    broker = Broker()
    broker.state, broker.is_connected = "away", False
    d = Deployment(folder, broker, max_bytes=400)
    await d.lane.deliver(messages(0))
    assert d.lane.why_overloaded() == ""

    with pytest.raises(Overloaded, match="400 bytes") as refused:
        await d.lane.deliver(messages(10))

    assert refused.value.retry_after_s > 0
    assert d.counts == {Fate.SPOOLED: 27, Fate.REFUSED: 27}
    broker.state = "up"
    await d.until(lambda: d.spool.size == 0)
    await d.lane.deliver(messages(10))
    assert set(broker.got) == sent(messages(0), messages(10))
    await d.close()


@scenario
async def test_a_disk_that_fails_refuses_and_kafka_is_tried_again(folder):
    real = os.fdatasync

    def failing(_fd):
        raise OSError(errno.EIO, "the disk is broken")

    d = Deployment(folder, Broker())
    d.broker.state = "failing"
    os.fdatasync = failing
    try:
        with pytest.raises(Overloaded, match="broken"):
            await d.lane.deliver(messages(0))
    finally:
        os.fdatasync = real
    d.broker.state = "up"

    async def delivered():
        try:
            await d.lane.deliver(messages(10))
        except Overloaded:
            return False
        return True

    async with asyncio.timeout(30):
        while not await delivered() or d.breaker.is_open:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
    await d.until(lambda: sent(messages(10)) <= set(d.broker.got))
    await d.close()


@scenario
async def test_whoever_gives_up_waiting_takes_nothing_from_the_others(folder):
    d = Deployment(folder, Broker())
    d.broker.state = "silent"
    answer = d.lane.deliver(messages(0))
    impatient = asyncio.create_task(asyncio.wait([answer]))
    await asyncio.sleep(0)
    impatient.cancel()
    d.broker.speak()

    await answer

    assert d.counts == {Fate.ACKNOWLEDGED: 27}
    await d.close()
