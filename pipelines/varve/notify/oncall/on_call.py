"""What oncall.yml says, ready to be asked: who is told of a group, and when others are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from varve.notify.matchers import Matcher
from varve.notify.oncall.schedules import Schedule
from varve.notify.oncall.signed_links import SignedLinks

SCHEDULE = "schedule:"
"""What a name of a schedule begins with where a receiver could stand."""


@dataclass(frozen=True, slots=True)
class Step:
    """Who is told once nobody has acknowledged for after_ms: receivers, or schedule:NAME."""

    after_ms: int
    notify: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watchdog:
    """An alert that has to be heard of every within_ms. labels, annotations: of the alert that
    tells that it was not.
    """

    name: str
    matchers: tuple[Matcher, ...]
    within_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Throttle:
    """A receiver is told at most so many messages in per_ms."""

    messages: int
    per_ms: int


@dataclass(frozen=True, slots=True)
class Flapping:
    """Of an alert that began `fires` times in within_ms the end is not told until that is over."""

    fires: int
    within_ms: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """The receiver that is told of another one which has taken nothing for after_ms. labels: of
    the alert that tells it.
    """

    receiver: str
    after_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnCall:
    """chains: by receiver of alertmanager.yml, the steps of its escalation, in order."""

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    chains: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    watchdogs: tuple[Watchdog, ...] = ()
    links: SignedLinks | None = None
    """Makes the links in messages that acknowledge; None: there are none."""
    throttles: Mapping[str, Throttle] = field(default_factory=dict)
    """By receiver."""
    flapping: Flapping | None = None
    silenced_ends: bool = False
    """Whether the end of what was told as firing is told although it is silenced by then."""
    fallback: Fallback | None = None

    def receivers(self, receiver: str, waited_ms: int | None, now_ms: int) -> tuple[str, ...]:
        """Who is told in a receiver's place: itself and whoever its chain has reached.

        waited_ms: for how long something has fired that nobody acknowledged; None if nothing does:
        then the steps that begin at once are told alone.
        """
        found = [receiver]
        for step in self.chains.get(receiver, ()):
            if step.after_ms <= (waited_ms or 0):
                found += self._named(step, now_ms)
        return tuple(dict.fromkeys(found))

    def everybody(self, receiver: str) -> tuple[str, ...]:
        """All whom a receiver's chain may ever reach."""
        found = [receiver]
        for step in self.chains.get(receiver, ()):
            for name in step.notify:
                if name.startswith(SCHEDULE):
                    schedule = self.schedules[name.removeprefix(SCHEDULE)]
                    found += [m for rotation in schedule.rotations for m in rotation.members]
                    found += [override.member for override in schedule.overrides]
                else:
                    found.append(name)
        return tuple(dict.fromkeys(found))

    def next_step_ms(self, receiver: str, waited_ms: int) -> int | None:
        """In how long the next step of a chain begins; None if there is none."""
        left = [s.after_ms - waited_ms for s in self.chains.get(receiver, ())]
        return min((ms for ms in left if ms > 0), default=None)

    def _named(self, step: Step, now_ms: int) -> Iterator[str]:
        for name in step.notify:
            if name.startswith(SCHEDULE):
                yield from self.schedules[name.removeprefix(SCHEDULE)].on_call(now_ms)
            else:
                yield name
