"""Requests take turns: who sends critical samples first, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.gateway.turns import CriticalSenders, Turns


def test_between_two_requests_the_event_loop_runs_and_urgent_ones_overtake():
    async def scenario():
        turns, order, two = Turns(), [], asyncio.Event()

        async def request(name, *, urgent=False):
            await turns.turn(urgent=urgent)
            order.append(name)
            if len(order) == 2:
                two.set()

        bulk = [asyncio.create_task(request(n)) for n in range(5)]
        await two.wait()
        urgent = [asyncio.create_task(request(f"urgent {n}", urgent=True)) for n in range(2)]
        await asyncio.gather(*bulk, *urgent)
        return order

    order = asyncio.run(scenario())
    assert [name for name in order if isinstance(name, int)] == list(range(5))
    assert [name for name in order if isinstance(name, str)] == ["urgent 0", "urgent 1"]
    assert order.index("urgent 1") < order.index(4)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), max_size=30))
def test_every_request_gets_its_turn_whoever_goes(arrivals):
    async def scenario():
        turns, served, inside = Turns(), [], 0

        async def request(n, urgent):
            nonlocal inside
            await turns.turn(urgent=urgent)
            inside += 1
            assert inside == 1
            served.append(n)
            inside -= 1

        tasks = []
        for n, (urgent, goes, pauses) in enumerate(arrivals):
            tasks.append(asyncio.create_task(request(n, urgent)))
            for _ in range(pauses):
                await asyncio.sleep(0)
            if goes:
                tasks[-1].cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks, return_exceptions=True)
            await turns.turn(urgent=False)
        return served

    served = asyncio.run(scenario())
    assert len(served) == len(set(served))
    assert {n for n, (_, goes, _) in enumerate(arrivals) if not goes} <= set(served)


def test_one_urgent_request_goes_ahead_of_its_turn_and_the_next_ones_wait_for_theirs():
    async def scenario():
        turns = Turns()
        await turns.turn(urgent=False)  # whose successor is called when the loop comes round
        with pytest.raises(StopIteration):
            turns.turn(urgent=True).send(None)

        second = turns.turn(urgent=True)
        assert not second.send(None).done()
        assert turns.are_wanted
        second.close()

    asyncio.run(scenario())


def test_it_is_crowded_while_one_waits_for_too_long():
    async def scenario():
        turns = Turns(most_wait_s=-1.0)
        await turns.turn(urgent=False)
        assert not turns.is_crowded()
        waiting = [asyncio.create_task(turns.turn(urgent=False)) for _ in range(2)]
        crowded = []
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: crowded.append(turns.is_crowded()))
        loop.call_soon(waiting[1].cancel)
        await waiting[0]
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
        assert crowded == [True]
        assert not turns.is_crowded()

    asyncio.run(scenario())


def test_a_connection_is_what_its_newest_request_was():
    senders = CriticalSenders()
    assert senders.of("a") is None

    senders.note("a", has_critical=True)
    senders.note("b", has_critical=False)
    assert (senders.of("a"), senders.of("b")) == (True, False)

    senders.note("a", has_critical=False)
    for n in range(30_000):
        senders.note(n, has_critical=True)
    assert (senders.of("a"), senders.of(29_999)) == (None, True)
