"""Groups of alerts, and what is under way for one: a flush, with a delivery to each integration."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from varve.notify.message import Message
from varve.notify.records import Alert, Key
from varve.notify.routes import Route

Target = tuple[Route, Key, str]
"""Route, labels and key of a group."""


@dataclass(slots=True, eq=False)
class Entry:
    """An alert that is known, and where it goes."""

    alert: Alert
    labels: dict[str, str]
    targets: tuple[Target, ...] = ()
    groups: tuple[str, ...] = ()
    """Keys of the groups it is in: one or two, mostly."""


@dataclass(slots=True, eq=False)
class Group:
    route: Route
    labels: Key
    key: str
    next_ms: int
    """When it is looked at next."""
    told_ms: int = 0
    """When all of it was told last, or it began: what had ended by then is not in it. 0 if it may
    be, as after another configuration.
    """
    flushed: bool = False
    members: dict[int, Entry] = field(default_factory=dict)
    """By the alert's id."""
    flush: Flush | None = None
    blocked: bool = False
    """It waits for a delivery that another configuration began."""
    wake: int = 0
    """Number of its last timer: those before it mean nothing."""


@dataclass(slots=True, eq=False)
class Flush:
    """One look at a group, until everybody was told or it is time for the next."""

    group: Group
    at_ms: int
    deadline_ms: int
    resolved: list[tuple[Entry, Alert]]
    """What had ended: it leaves the group once that was told."""
    open: int = 0
    """Deliveries that are not over."""
    failed: bool = False


class Outcome(Enum):
    """What became of an attempt."""

    TAKEN = "taken"
    REFUSED = "refused"
    """It can never be taken: not tried again before the next look."""
    FAILED = "failed"
    """It may be taken later."""


def outcome_of(status: int) -> Outcome:
    """What a status of HTTP means: 2xx is taken, 408, 429 and 5xx may be taken later."""
    if 200 <= status < 300:
        return Outcome.TAKEN
    return Outcome.FAILED if status >= 500 or status in {408, 429} else Outcome.REFUSED


@dataclass(slots=True, eq=False)
class Delivery:
    """A message on its way to one integration, over as many attempts as it takes."""

    flush: Flush
    message: Message
    log_key: str
    idempotency_key: str
    firing: tuple[int, ...]
    resolved: tuple[int, ...]
    reason: str
    attempts: int = 0
    in_flight: bool = False
    over: bool = False
    wake: int = 0
    admitted: bool = False
    """Its receiver is throttled, and may be sent this."""
    parts: tuple[Delivery, ...] = ()
    """Of a digest: what became of it becomes of each of these."""

    @property
    def deadline_ms(self) -> int:
        return self.flush.deadline_ms
