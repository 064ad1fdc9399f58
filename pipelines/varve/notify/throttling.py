"""Receivers that are told at most so much in a while: the rest comes as one digest.

A message over the bound is not sent; its group stays untold, as if the receiver had been away. Once
the receiver may be told again, all groups that wait for it are looked at together, and what there
is to tell of several is one message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from varve.notify.groups import Delivery, Flush
from varve.notify.message import Message, order
from varve.notify.oncall.on_call import Throttle
from varve.notify.state import State

DIGEST = "digest"
"""The reason of a message about several groups."""


class Throttling:
    """What each throttled integration was sent lately, and what waits for it.

    attempt: sends a delivery. hold: ends it untold, until its group is looked at again. look_at:
    looks at some groups now.
    """

    def __init__(
        self,
        state: State,
        *,
        attempt: Callable[[Delivery, int], None],
        hold: Callable[[Delivery, int], None],
        look_at: Callable[[Iterable[str], int], None],
    ) -> None:
        self._state = state
        self._attempt, self._hold, self._look_at = attempt, hold, look_at
        self._sent: dict[str, list[int]] = {}
        """By integration, when it was sent a message by this process."""
        self._own: dict[str, set[int]] = {}
        """The times of the log's lines about these, which are those of the answers."""
        self._ready: dict[str, list[Delivery]] = {}
        self._held: dict[str, dict[str, str]] = {}
        """By integration: the keys of groups, by those of the log."""
        self._release_ms: dict[str, int] = {}

    def bounds(self, delivery: Delivery) -> bool:
        """Whether a delivery has to wait for its turn; those that were let through do not."""
        return not delivery.admitted and self._bound(delivery) is not None

    def taken(self, delivery: Delivery, now_ms: int) -> None:
        """A receiver has taken a message: the log has a line of now_ms."""
        if self._bound(delivery) is not None:
            self._own.setdefault(delivery.message.integration.key, set()).add(now_ms)

    def take(self, delivery: Delivery, now_ms: int) -> None:
        """Takes a delivery to a throttled receiver; what becomes of it shows once all that are due
        at this time are there.
        """
        key = delivery.message.integration.key
        ready = self._ready.setdefault(key, [])
        ready.append(delivery)
        if len(ready) == 1:
            self._state.timers.add(now_ms, lambda at_ms: self._decide(key, at_ms))

    def _bound(self, delivery: Delivery) -> Throttle | None:
        return self._state.on_call.throttles.get(delivery.message.receiver)

    def _decide(self, key: str, now_ms: int) -> None:
        ready = [delivery for delivery in self._ready.pop(key) if not delivery.over]
        bound = self._bound(ready[0]) if ready else None
        if bound is None:
            for delivery in ready:
                self._let_through([delivery], now_ms)
            return
        times = self._times(key, now_ms - bound.per_ms)
        room, held = max(0, bound.messages - len(times)), self._held.setdefault(key, {})
        waited = [delivery for delivery in ready if delivery.log_key in held]
        others = [delivery for delivery in ready if delivery.log_key not in held]
        if waited and room:
            room -= 1
            for delivery in waited:
                del held[delivery.log_key]
            self._let_through(waited, now_ms)
            waited = []
        for delivery in others[:room]:
            self._let_through([delivery], now_ms)
        for delivery in [*waited, *others[room:]]:
            held[delivery.log_key] = delivery.flush.group.key
            self._hold(delivery, now_ms)
        if held:
            times = self._times(key, now_ms - bound.per_ms)
            free_ms = min(times, default=now_ms) + bound.per_ms
            if self._release_ms.get(key, 0) <= now_ms:
                self._release_ms[key] = free_ms
                self._state.timers.add(free_ms, lambda at_ms: self._release(key, at_ms))

    def _times(self, key: str, since_ms: int) -> Sequence[int]:
        """When an integration was told after since_ms, by whichever notifier."""
        mine = [at_ms for at_ms in self._sent.get(key, ()) if at_ms > since_ms]
        self._sent[key] = mine
        own = self._own[key] = {at_ms for at_ms in self._own.get(key, ()) if at_ms > since_ms}
        others = {
            told.at_ms
            for told in self._state.log
            if told.at_ms > since_ms and told.key.startswith(f"{key}:")
        }
        return [*mine, *(others - own)]

    def _release(self, key: str, now_ms: int) -> None:
        """An integration may be told again: of all that waits."""
        self._look_at([*self._held.get(key, {}).values()], now_ms)

    def _let_through(self, deliveries: Sequence[Delivery], now_ms: int) -> None:
        """Sends one message, about one group or several."""
        first = deliveries[0]
        self._sent.setdefault(first.message.integration.key, []).append(now_ms)
        delivery = first if len(deliveries) == 1 else digest_of(deliveries, now_ms)
        delivery.admitted = True
        self._attempt(delivery, now_ms)


def digest_of(parts: Sequence[Delivery], now_ms: int) -> Delivery:
    """One message about several groups: their alerts in the usual order, each once."""
    first = parts[0]
    integration = first.message.integration
    alerts = {told.alert.id: told for part in parts for told in part.message.alerts}
    log_key = f"{integration.key}:{DIGEST}"
    message = Message(
        integration,
        f"{DIGEST} of {len(parts)} groups",
        (),
        {},
        tuple(sorted(alerts.values(), key=order)),
        now_ms,
    )
    deadline_ms = min(part.deadline_ms for part in parts)
    text = "|".join(sorted(part.idempotency_key for part in parts))
    return Delivery(
        Flush(first.flush.group, now_ms, deadline_ms, []),
        message,
        log_key,
        hashlib.sha256(text.encode()).hexdigest()[:32],
        (),
        (),
        DIGEST,
        parts=tuple(parts),
    )
