"""Who is answered next: some at once, the others from a bounded queue, principals in turn."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

# What a new answer counts in the mean time that one takes.
_WEIGHT = 0.2
_LONGEST_RETRY_S = 60


class OverloadedError(Exception):
    """The queue is full. retry_after_s: when there may be room again, whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests wait: send this again later")
        self.retry_after_s = retry_after_s


@dataclass(eq=False)
class Place:
    """A place in the queue. `granted` is done when its turn has come; it raises OverloadedError if
    it has to make room for others.
    """

    who: str
    granted: asyncio.Future[None]
    since_s: float = field(default_factory=time.monotonic)


class FairQueue:
    """Of those who wait, each principal's first one goes in turn. For one event loop."""

    def __init__(self, places: int, most_waiting: int, places_of_one: int = 0) -> None:
        """places: how many are answered at once, of one principal places_of_one at most (0: all of
        them). most_waiting: how many more may wait.
        """
        self._places = places
        self._places_of_one = places_of_one or places
        self._most_waiting = most_waiting
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[Place]] = OrderedDict()
        self._mean_s = 0.0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """How many are being answered."""
        return self._running.total()

    def enter(self, who: str) -> Place:
        """A place for a principal, to be left in any case. Raises OverloadedError if the queue is
        full and nobody has more waiting in it.
        """
        place = Place(who, asyncio.get_running_loop().create_future())
        if self._may_run(who):
            self._grant(place)
            return place
        if self.waiting >= self._most_waiting:
            self._make_room(who)
        self._waiting.setdefault(who, deque()).append(place)
        return place

    def leave(self, place: Place) -> None:
        """Gives a place back, whether its turn has come or not."""
        queue = self._waiting.get(place.who)
        if queue is not None and place in queue:
            queue.remove(place)
            place.granted.cancel()
            self._forget_if_empty(place.who)
        elif _was_granted(place):
            self._running[place.who] -= 1
            self._running += Counter()  # without those that have none
            took_s = time.monotonic() - place.since_s
            self._mean_s += _WEIGHT * (took_s - self._mean_s)
        self._let_in()

    def _may_run(self, who: str) -> bool:
        is_free = self.running < self._places
        return is_free and self._running[who] < self._places_of_one

    def _grant(self, place: Place) -> None:
        self._running[place.who] += 1
        place.since_s = time.monotonic()
        place.granted.set_result(None)

    def _let_in(self) -> None:
        for who in list(self._waiting):
            if self._may_run(who):
                self._grant(self._waiting[who].popleft())
                self._waiting.move_to_end(who)
                self._forget_if_empty(who)

    def _make_room(self, who: str) -> None:
        """Sends the last one away of who has most waiting, OverloadedError if that is `who`."""
        most = max(self._waiting, key=lambda other: len(self._waiting[other]), default=who)
        if len(self._waiting.get(most, ())) <= len(self._waiting.get(who, ())) + 1:
            raise OverloadedError(self._retry_after_s())
        last = self._waiting[most].pop()
        last.granted.set_exception(OverloadedError(self._retry_after_s()))
        self._forget_if_empty(most)

    def _forget_if_empty(self, who: str) -> None:
        if not self._waiting[who]:
            del self._waiting[who]

    def _retry_after_s(self) -> int:
        """How long those that wait take, as long as answers have taken lately."""
        wait_s = self._mean_s * (self.waiting + 1) / self._places
        return min(max(1, math.ceil(wait_s)), _LONGEST_RETRY_S)


def _was_granted(place: Place) -> bool:
    granted = place.granted
    return granted.done() and not granted.cancelled() and granted.exception() is None
