"""When the rules of a group are evaluated: at every multiple of their interval, in order.

A slot is due once its data is complete. If that takes too long its alerting rules are evaluated
without, and the rest of the slot later. No slot is left out, unless it is too old to make up for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from varve.rules.group_run import Part
from varve.rules.rule_file import AlertingRule, Group


@dataclass(frozen=True, slots=True)
class Timing:
    """When groups are evaluated, ms. wait_ms: how long data may take to be complete.
    catch_up_ms: how old a slot may be that was missed.
    """

    wait_ms: int
    catch_up_ms: int

    def oldest_ms(self, now_ms: int, interval_ms: int) -> int:
        """Slots up to here are not made up for."""
        return now_ms - max(self.catch_up_ms, self.wait_ms + 2 * interval_ms)

    def is_late(self, at_ms: int, now_ms: int, interval_ms: int) -> bool:
        """Whether a slot is so old that the next one is overdue, too."""
        return now_ms - at_ms > interval_ms + self.wait_ms


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a group is: the last slot whose alerting rules were evaluated, and the last one of
    which nothing is left to do. Unix ms; evaluated_ms >= recorded_ms.
    """

    evaluated_ms: int
    recorded_ms: int


@dataclass(frozen=True, slots=True)
class Slot:
    """An evaluation of a group that is to be. at_ms: the time it is for, Unix ms. before: how far
    the group is until then. late: it was missed when it was due. fresh: nobody goes on from before,
    the for-state comes from the series.
    """

    group: str
    at_ms: int
    part: Part
    before: Cursor
    late: bool = False
    fresh: bool = False

    @property
    def after(self) -> Cursor:
        """How far the group is then."""
        match self.part:
            case Part.ALL:
                return Cursor(self.at_ms, self.at_ms)
            case Part.ALERTING:
                return replace(self.before, evaluated_ms=self.at_ms)
            case Part.RECORDING:
                return replace(self.before, recorded_ms=self.at_ms)

    @property
    def incomplete(self) -> bool:
        return self.part is Part.ALERTING


@dataclass(frozen=True, slots=True)
class GroupTiming:
    """What of a group says when it is evaluated, ms."""

    key: str
    interval_ms: int
    offset_ms: int
    alerts: bool
    """Whether it has alerting rules."""

    @classmethod
    def of(cls, group: Group, interval_ms: int, offset_ms: int) -> GroupTiming:
        alerts = any(isinstance(rule, AlertingRule) for rule in group.rules)
        return cls(group.key, interval_ms, offset_ms, alerts)

    def next(self, after_ms: int) -> int:
        """The first slot after a time."""
        return (after_ms // self.interval_ms + 1) * self.interval_ms

    def slots(self, after_ms: int, until_ms: int) -> int:
        """How many slots are in (after_ms, until_ms]."""
        return max(0, until_ms // self.interval_ms - after_ms // self.interval_ms)


def first_cursor(group: GroupTiming, now_ms: int) -> Cursor:
    """That of a group that has never been evaluated: the slot that began last is its first."""
    before_ms = now_ms // group.interval_ms * group.interval_ms - group.interval_ms
    return Cursor(before_ms, before_ms)


def skip_old(
    cursor: Cursor, group: GroupTiming, timing: Timing, now_ms: int
) -> tuple[Cursor, int, int]:
    """The cursor behind the slots that are too old to make up for, and how many there are: of
    whole slots, and of those whose recording rules alone are left.
    """
    oldest_ms = timing.oldest_ms(now_ms, group.interval_ms)
    first_ms = group.next(cursor.recorded_ms)
    if first_ms > oldest_ms:
        return cursor, 0, 0
    whole = 0
    evaluated_ms = cursor.evaluated_ms
    if group.next(evaluated_ms) <= oldest_ms:
        # What was away for so long begins anew, with the slot that began last.
        to_ms = first_cursor(group, now_ms).evaluated_ms
        whole = group.slots(evaluated_ms, to_ms)
        partly = group.slots(cursor.recorded_ms, evaluated_ms)
        return Cursor(to_ms, to_ms), whole, partly
    to_ms = oldest_ms // group.interval_ms * group.interval_ms
    return Cursor(evaluated_ms, to_ms), 0, group.slots(cursor.recorded_ms, to_ms)


def due(
    cursor: Cursor, group: GroupTiming, timing: Timing, *, complete_ms: int | None, now_ms: int
) -> Slot | None:
    """What is to be evaluated of a group now, if anything; another look may find more.

    complete_ms: all data up to here is there, Unix ms; None if nobody knows.
    """

    def is_complete(at_ms: int) -> bool:
        return complete_ms is not None and complete_ms >= at_ms - group.offset_ms

    def slot(at_ms: int, part: Part) -> Slot:
        late = part is not Part.RECORDING and timing.is_late(at_ms, now_ms, group.interval_ms)
        return Slot(group.key, at_ms, part, cursor, late)

    if cursor.recorded_ms < cursor.evaluated_ms:
        behind_ms = group.next(cursor.recorded_ms)
        if is_complete(behind_ms):
            return slot(behind_ms, Part.RECORDING)
    next_ms = group.next(cursor.evaluated_ms)
    if next_ms > now_ms:
        return None
    if cursor.recorded_ms == cursor.evaluated_ms and is_complete(next_ms):
        return slot(next_ms, Part.ALL)
    if group.alerts and now_ms >= next_ms + timing.wait_ms:
        return slot(next_ms, Part.ALERTING)
    return None
