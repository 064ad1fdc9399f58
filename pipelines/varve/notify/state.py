"""What a notifier knows: the state that its parts share."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from varve.notify.config.load import Configuration
from varve.notify.groups import Entry, Group
from varve.notify.inhibition import Inhibitor
from varve.notify.matchers import Mode
from varve.notify.notification_log import NotificationLog
from varve.notify.oncall.on_call import OnCall
from varve.notify.records import Acknowledged, Alert, Began, Key, Record
from varve.notify.silences import Limits, Silences
from varve.notify.timers import Timers
from varve.notify.turns import Alone, Turns


@dataclass(frozen=True, slots=True)
class Options:
    """Durations in ms. retention: of ended silences and of the notification log."""

    retention_ms: int = 120 * 3_600_000
    alerts_gc_ms: int = 30 * 60_000
    maintenance_ms: int = 15 * 60_000
    start_delay_ms: int = 0
    """How long after a start nothing is told, so that senders can say what is."""
    mode: Mode = Mode.FALLBACK
    silence_limits: Limits = field(default_factory=Limits)
    per_alertname_limit: int = 0
    """How many alerts of one name are taken; 0 is no limit."""


def random_id() -> str:
    return str(uuid.uuid4())


@dataclass
class State:
    """`journal` gets every change; whoever drives the notifier stores and empties it."""

    config: Configuration
    options: Options = field(default_factory=Options)
    new_id: Callable[[], str] = random_id
    chance: random.Random = field(default_factory=random.Random)
    turns: Turns = field(default_factory=Alone)
    """Which of several notifiers tells."""
    on_call: OnCall = field(default_factory=OnCall)

    def __post_init__(self) -> None:
        self.journal: list[Record] = []
        self.timers = Timers()
        self.log = NotificationLog()
        self.silences = Silences(self.new_id, self.options.silence_limits)
        self.entries: dict[Key, Entry] = {}
        self.acknowledged: dict[Key, Acknowledged] = {}
        self.began: dict[Key, Began] = {}
        """When alerts began lately, if flapping is damped."""
        self.inhibitor = Inhibitor(self.config.inhibit_rules)

    def is_told_firing(self, alert: Alert, now_ms: int) -> bool:
        """Whether an alert is told as one that fires: it does, or its end is damped."""
        return not alert.resolved_at(now_ms) or self.is_flapping(alert, now_ms)

    def is_flapping(self, alert: Alert, now_ms: int) -> bool:
        """Whether an alert began so often lately that its end is not told yet."""
        flapping = self.on_call.flapping
        if flapping is None:
            return False
        began = self.began.get(alert.labels)
        return (
            began is not None
            and len(began.at_ms) >= flapping.fires
            and (began.at_ms[-flapping.fires] > now_ms - flapping.within_ms)
        )

    def note_begin(self, old: Alert | None, new: Alert, now_ms: int) -> None:
        """Remembers when an alert that did not fire begins to."""
        flapping = self.on_call.flapping
        if flapping is None or new.resolved_at(now_ms):
            return
        if old is not None and not old.resolved_at(now_ms):
            return
        before = self.began[new.labels].at_ms if new.labels in self.began else ()
        self.began[new.labels] = Began(new.labels, (*before, now_ms)[-flapping.fires :])
        self.journal.append(self.began[new.labels])

    def acknowledged_by(self, alert: Alert) -> str:
        """Who takes care of an alert since it fires; "" if nobody does."""
        found = self.acknowledged.get(alert.labels)
        return found.by if found is not None and found.at_ms >= alert.starts_ms else ""

    def muted_by(self, group: Group, now_ms: int) -> tuple[str, ...] | None:
        """The time intervals that keep a group from being told now: those it is in, or the active
        ones of which it is in none. None if it may be told.
        """
        intervals = self.config.intervals

        def now_in(name: str) -> bool:
            return any(interval.contains(now_ms) for interval in intervals[name])

        active = group.route.active_time_intervals
        if active and not any(map(now_in, active)):
            return active
        return tuple(filter(now_in, group.route.mute_time_intervals)) or None
