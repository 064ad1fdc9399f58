"""Who is answered next, and who is sent away."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.api.fair_queue import FairQueue, OverloadedError


def running(work):
    return asyncio.run(work)


def test_principals_have_turns_whoever_has_how_many_waiting():
    async def story():
        queue = FairQueue(1, 100)
        first = queue.enter("hog")
        hog = [queue.enter("hog") for _ in range(20)]
        guest = queue.enter("guest")
        queue.leave(first)
        served = []
        for _ in range(3):
            (now,) = [p for p in [*hog, guest] if p.granted.done() and p not in served]
            served.append(now)
            queue.leave(now)
        return [place.who for place in served]

    assert running(story()).index("guest") <= 1


def test_a_full_queue_sends_away_who_has_most_in_it():
    async def story():
        queue = FairQueue(1, 4)
        places = [queue.enter("hog") for _ in range(5)]
        with pytest.raises(OverloadedError) as refused:
            queue.enter("hog")
        guest = queue.enter("guest")
        await asyncio.sleep(0)
        sent_away = [
            place for place in places if place.granted.done() and place.granted.exception()
        ]
        return refused.value.retry_after_s, sent_away == [places[-1]], guest.granted.done()

    assert running(story()) == (1, True, False)


def test_one_principal_has_no_more_places_than_its_own():
    async def story():
        queue = FairQueue(4, 100, places_of_one=2)
        hog = [queue.enter("hog") for _ in range(10)]
        guest = queue.enter("guest")
        before = sum(place.granted.done() for place in hog), guest.granted.done()
        queue.leave(hog[0])
        return before, sum(place.granted.done() for place in hog)

    assert running(story()) == ((2, True), 3)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=60),
    st.integers(1, 3),
    st.integers(0, 5),
    st.integers(0, 2),
)
def test_no_place_is_lost_or_given_twice(steps, places, most_waiting, of_one):
    """Enters and leaves at random; leaves happen before a turn has come, too."""

    async def story():
        queue = FairQueue(places, most_waiting, of_one)
        held = []
        for who, which in steps:
            if which >= 5 and held:
                queue.leave(held.pop(which % len(held)))
            else:
                with contextlib.suppress(OverloadedError):
                    held.append(queue.enter(who))
            sent_away = [p for p in held if p.granted.done() and p.granted.exception()]
            for place in sent_away:
                held.remove(place)
                queue.leave(place)
            granted = Counter(p.who for p in held if p.granted.done())
            waiting = [p for p in held if not p.granted.done()]
            assert granted.total() <= places
            assert all(count <= (of_one or places) for count in granted.values())
            assert queue.waiting == len(waiting) <= most_waiting
            # Nobody waits who could run.
            if granted.total() < places:
                assert all(granted[p.who] >= (of_one or places) for p in waiting)
        for place in list(held):
            queue.leave(place)
            held.remove(place)
        assert queue.waiting == 0
        assert sum(queue.enter("z").granted.done() for _ in range(1)) == 1

    asyncio.run(story())
