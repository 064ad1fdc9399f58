"""Who is on call when: members in turn, by the clock of their place, and exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Rotation:
    """Members that take turns. starts: when the first turn of the first begins, in local time.
    shift: how long a turn is, by the clock on the wall: a day has 23 or 25 hours at times.
    """

    members: tuple[str, ...]
    starts: datetime
    shift: timedelta

    def at(self, local: datetime) -> tuple[str, datetime, datetime] | None:
        """Who has the turn at a local time, from when and until when; None before the first."""
        if local < self.starts:
            return None
        number = (local - self.starts) // self.shift
        begin = self.starts + number * self.shift
        return self.members[number % len(self.members)], begin, begin + self.shift


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody takes over from a time until another. Unix ms."""

    member: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Somebody is on call from a time until another. Unix ms."""

    member: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of several rotations all that have begun are on call at once, unless somebody overrides."""

    name: str
    zone: ZoneInfo
    rotations: tuple[Rotation, ...]
    overrides: tuple[Override, ...] = ()

    def on_call(self, at_ms: int) -> tuple[str, ...]:
        """Who is on call, in the order of the file; of overrides at once all are."""
        over = [o.member for o in self.overrides if o.start_ms <= at_ms < o.end_ms]
        if over:
            return tuple(dict.fromkeys(over))
        local = self._local(at_ms)
        turns = [turn[0] for rotation in self.rotations if (turn := rotation.at(local))]
        return tuple(dict.fromkeys(turns))

    def shifts(self, start_ms: int, end_ms: int) -> Iterator[Shift]:
        """Who is on call from start_ms to end_ms, in order of time."""
        edges = sorted({start_ms, end_ms, *self._edges(start_ms, end_ms)})
        open_: dict[str, int] = {}
        for begin in edges[:-1]:
            now = self.on_call(begin)
            for member in [m for m in open_ if m not in now]:
                yield Shift(member, open_.pop(member), begin)
            for member in now:
                open_.setdefault(member, begin)
        for member, begin in open_.items():
            yield Shift(member, begin, end_ms)

    def _edges(self, start_ms: int, end_ms: int) -> Iterator[int]:
        """Times at which somebody else may be on call."""
        for override in self.overrides:
            yield from (at for at in (override.start_ms, override.end_ms) if start_ms < at < end_ms)
        for rotation in self.rotations:
            turn = rotation.at(self._local(start_ms))
            at = rotation.starts if turn is None else turn[2]
            while (at_ms := self._ms(at)) < end_ms:
                if at_ms > start_ms:
                    yield at_ms
                at += rotation.shift

    def _local(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, self.zone).replace(tzinfo=None)

    def _ms(self, local: datetime) -> int:
        return to_ms(local, self.zone)


def to_ms(local: datetime, zone: ZoneInfo) -> int:
    """Unix ms of a local time; one that the clock skips is that of the hour after it, of one that
    it shows twice the first counts.
    """
    return round(local.replace(tzinfo=zone).astimezone(UTC).timestamp() * 1000)
