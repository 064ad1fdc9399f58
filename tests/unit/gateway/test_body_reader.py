"""Who is slow gives way to who is not; nothing else is counted wrong by it."""

from __future__ import annotations

import asyncio

import pytest

from varve.gateway.body_reader import BodyBounds, BodyReader, Gone
from varve.gateway.refusals import Refused


class Sender:
    """Gives parts of a body as it is told to."""

    def __init__(self):
        self.parts = asyncio.Queue()
        self.all_read = asyncio.Event()

    async def receive(self):
        if self.parts.empty():
            self.all_read.set()
        return await self.parts.get()

    def give(self, size, *, more=True):
        self.parts.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})

    def hang_up(self):
        self.parts.put_nowait({"type": "http.disconnect"})


async def started(reader, sender, size):
    """A body of which `size` bytes have been read."""
    sender.give(size)
    reading = asyncio.create_task(reader.read(sender.receive))
    await sender.all_read.wait()
    return reading


def whole(size):
    sender = Sender()
    sender.give(size, more=False)
    return sender.receive


def test_a_slow_body_gives_way_and_is_told_to_come_again():
    async def scenario():
        reader = BodyReader(BodyBounds(body=1_000, in_flight=1_500, patience_s=0))
        slow = [await started(reader, Sender(), 600) for _ in range(2)]

        assert len(await reader.read(whole(900))) == 900

        with pytest.raises(Refused, match="others had no room") as refused:
            await slow[0]
        assert refused.value.status == 503
        assert not slow[1].done()
        assert reader.bytes_in_flight == 900 + 600
        reader.release(900)
        slow[1].cancel()
        await asyncio.wait(slow)
        assert reader.bytes_in_flight == 0

    asyncio.run(scenario())


def test_one_that_has_just_begun_does_not_give_way():
    async def scenario():
        reader = BodyReader(BodyBounds(body=1_000, in_flight=1_500, patience_s=3_600))
        sender = Sender()
        first = await started(reader, sender, 900)

        with pytest.raises(Refused, match="too many") as refused:
            await reader.read(whole(900))
        assert refused.value.status == 503
        with pytest.raises(Refused, match="too many"):
            reader.admit(900)

        sender.give(50, more=False)
        assert len(await first) == 950
        reader.release(950)
        assert reader.bytes_in_flight == 0

    asyncio.run(scenario())


def test_whatever_ends_a_body_it_counts_no_more():
    async def scenario():
        reader = BodyReader(BodyBounds(body=1_000, in_flight=1_500, patience_s=0))
        hung_up, too_long, gone = Sender(), Sender(), Sender()
        reads = [await started(reader, one, 300) for one in (hung_up, too_long, gone)]
        hung_up.hang_up()
        too_long.give(701)
        reads[2].cancel()

        await asyncio.wait(reads)

        with pytest.raises(Gone):
            reads[0].result()
        with pytest.raises(Refused, match="over the 1,000 bytes"):
            reads[1].result()
        assert reader.bytes_in_flight == 0
        reader.admit(1_000)
        reader.release(1_000)
        assert len(await reader.read(whole(1_000))) == 1_000

    asyncio.run(scenario())


def test_many_slow_senders_never_keep_a_quick_one_out():
    async def scenario():
        reader = BodyReader(BodyBounds(body=1_000, in_flight=2_000, patience_s=0))
        slow = []
        for _ in range(50):
            slow.append(await started(reader, Sender(), 450))
            assert len(await reader.read(whole(1_000))) == 1_000
            reader.release(1_000)
            assert reader.bytes_in_flight - 1_000 <= 2_000

        for one in slow:
            one.cancel()
        await asyncio.wait(slow)
        assert reader.bytes_in_flight == 0
        assert reader._giving_way == 0

    asyncio.run(scenario())
