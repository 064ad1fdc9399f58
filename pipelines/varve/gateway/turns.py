"""Whose request is decoded next: in a storm, those of senders of critical samples come first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

_KEPT = 20_000


class Turns:
    """Lets one request after the other be decoded, and between two of them the event loop read what
    has come. Without it, who sends a little waits for all who send much. For one event loop.
    """

    def __init__(self, most_wait_s: float = 1.0) -> None:
        """most_wait_s: how long the oldest request may have waited when another usual one joins."""
        self._most_wait_s = most_wait_s
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._usual: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._is_taken = False
        self._one_went_ahead = False

    @property
    def are_wanted(self) -> bool:
        """Whether requests wait for their turn."""
        return bool(self._urgent or self._usual)

    def is_crowded(self) -> bool:
        """Whether a usual request would wait for too long."""
        while self._usual and self._usual[0][1].done():
            self._usual.popleft()
        if not self._usual:
            return False
        return asyncio.get_running_loop().time() - self._usual[0][0] > self._most_wait_s

    async def turn(self, *, urgent: bool) -> None:
        """Waits until it is this request's turn: then it must be decoded without waiting for
        anything else.
        """
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._next)
            return
        if urgent and not self._urgent and not self._one_went_ahead:
            # In a storm the loop takes long to come round to its next turn.
            self._one_went_ahead = True
            return
        waiting = loop.create_future()
        if urgent:
            self._urgent.append(waiting)
        else:
            self._usual.append((loop.time(), waiting))
        await waiting

    def _next(self) -> None:
        """Gives the turn to who is next. Whoever got it has been decoded before this is called."""
        self._one_went_ahead = False
        while self._urgent or self._usual:
            waiting = self._urgent.popleft() if self._urgent else self._usual.popleft()[1]
            if not waiting.done():  # else its sender has gone
                waiting.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False


class CriticalSenders:
    """What the newest request of each connection had in it: it is what the next will have."""

    def __init__(self) -> None:
        self._has_critical: OrderedDict[object, bool] = OrderedDict()

    def note(self, connection: object, *, has_critical: bool) -> None:
        self._has_critical[connection] = has_critical
        self._has_critical.move_to_end(connection)
        if len(self._has_critical) > _KEPT:
            self._has_critical.popitem(last=False)

    def of(self, connection: object) -> bool | None:
        """Whether it had critical samples; None if nothing has come yet."""
        return self._has_critical.get(connection)
