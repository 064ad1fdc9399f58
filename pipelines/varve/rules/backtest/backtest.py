"""Evaluates rules for every slot of a span of the past, as of one snapshot.

The same rules, span and snapshot give the same: no clock and no random number is in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from varve.promql.storage import Storage
from varve.rules.alerts import Alert, Sent
from varve.rules.backtest.hidden_series import HiddenSeries
from varve.rules.group_run import Evaluator, GroupRun
from varve.rules.instant import Sample
from varve.rules.label_sets import Labels
from varve.rules.range_ahead import RangeAhead
from varve.rules.rule_file import AlertingRule, Group
from varve.rules.running.changes import FIRING, INACTIVE, PENDING, RESOLVED, changes
from varve.rules.running.slots import GroupTiming
from varve.rules.running.written_series import Batch, WrittenSeries

FLAP_MS: Final = 900_000
"""An alert that fires again within 15 minutes of its end has flapped."""


@dataclass(slots=True)
class Episode:
    """An alert from when its condition held until it no longer did. Times are Unix ms, None if it
    did not come to that within the span.
    """

    labels: Labels
    pending_ms: int
    value: float
    annotations: dict[str, str]
    fired_ms: int | None = None
    ended_ms: int | None = None

    @property
    def fired(self) -> bool:
        return self.fired_ms is not None


@dataclass(slots=True)
class RuleRecord:
    """What became of one rule. samples: that it wrote. error: the last one."""

    group: str
    name: str
    is_alert: bool
    evaluations: int = 0
    failures: int = 0
    error: str = ""
    samples: int = 0
    episodes: list[Episode] = field(default_factory=list)

    @property
    def fired(self) -> list[Episode]:
        return [episode for episode in self.episodes if episode.fired]

    @property
    def flapped(self) -> int:
        """How often an alert fired again soon after its end."""
        ended: dict[Labels, int] = {}
        count = 0
        for episode in sorted(self.fired, key=lambda one: one.fired_ms or 0):
            last_ms, fired_ms = ended.get(episode.labels), episode.fired_ms or 0
            count += last_ms is not None and fired_ms - last_ms <= FLAP_MS
            if episode.ended_ms is not None:
                ended[episode.labels] = episode.ended_ms
        return count

    def firing_ms(self, until_ms: int) -> int:
        """How long its alerts fired, all together."""
        return sum((e.ended_ms or until_ms) - (e.fired_ms or 0) for e in self.fired)


SentAt = tuple[int, AlertingRule, Sent]
"""An alert that is handed to a notifier, and when."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """start_ms, end_ms: the first and last time that may be a slot, Unix ms."""

    start_ms: int
    end_ms: int
    rules: tuple[RuleRecord, ...]
    sent: tuple[SentAt, ...]


def backtest(
    groups: Sequence[Group],
    tables: Callable[[], Storage],
    evaluator: Evaluator,
    start_ms: int,
    end_ms: int,
    on_slot: Callable[[int], None] = lambda _at_ms: None,
) -> Backtest:
    """Evaluates all slots from start_ms to end_ms.

    tables: gives a storage for one evaluation. Series of these rules begin with the span, and so do
    their alerts. on_slot: told of each time.
    """
    runs = [_Run(group, groups, tables, evaluator, end_ms) for group in groups]
    written = WrittenSeries()
    sent: list[SentAt] = []
    for at_ms, due in _slots(runs, start_ms, end_ms):
        on_slot(at_ms)
        samples: list[Sample] = []
        for run in due:
            gave, told = run.evaluate(at_ms, written)
            samples += gave
            sent += [(at_ms, rule, one) for rule, one in told]
        written.write(Batch(samples, at_ms))
    return Backtest(
        start_ms, end_ms, tuple(record for run in runs for record in run.records), tuple(sent)
    )


def _slots(runs: Sequence[_Run], start_ms: int, end_ms: int) -> Iterator[tuple[int, list[_Run]]]:
    """Times with the groups that are evaluated then, in the order of their files."""
    queue = [(run.timing.next(start_ms - 1), place) for place, run in enumerate(runs)]
    heapq.heapify(queue)
    while queue and queue[0][0] <= end_ms:
        at_ms, due = queue[0][0], []
        while queue and queue[0][0] == at_ms:
            _, place = heapq.heappop(queue)
            due.append(place)
        yield at_ms, [runs[place] for place in sorted(due)]
        for place in due:
            heapq.heappush(queue, (runs[place].timing.next(at_ms), place))


class _Run:
    """One group."""

    def __init__(
        self,
        group: Group,
        groups: Sequence[Group],
        tables: Callable[[], Storage],
        evaluator: Evaluator,
        end_ms: int,
    ) -> None:
        interval_ms, offset_ms = evaluator.interval_of(group), evaluator.offset_of(group)
        self.timing = GroupTiming.of(group, interval_ms, offset_ms)
        self._evaluator = replace(evaluator, timer=lambda: 0.0)
        self._run = GroupRun(group)
        self._rules = [rule for one in groups for rule in one.rules]
        self._tables = tables
        self._ahead = RangeAhead(
            evaluator.engine.over(self._below()),
            self._rules,
            step_ms=interval_ms,
            until_ms=end_ms - offset_ms,
        )
        self.records = [
            RuleRecord(group.name, rule.name, isinstance(rule, AlertingRule))
            for rule in group.rules
        ]
        self._open: list[dict[Labels, Episode]] = [{} for _ in group.rules]

    def _below(self) -> Storage:
        return HiddenSeries(self._tables(), self._rules)

    def evaluate(
        self, at_ms: int, written: WrittenSeries
    ) -> tuple[Sequence[Sample], Sequence[tuple[AlertingRule, Sent]]]:
        before = [one.alerts for one in self._run.rules]
        series = written.over(self._below())
        given = self._run.evaluate(series, self._evaluator, at_ms, self._ahead)
        for place, one in enumerate(self._run.rules):
            record = self.records[place]
            record.evaluations += 1
            if one.error:
                record.failures += 1
                record.error = one.error
            record.samples += len(one.series) if not record.is_alert else 0
            for change in changes("", before[place], one.alerts, at_ms):
                self._note(place, change.state, change.alert, at_ms, change.ends_at_ms)
        return given.samples, given.sent

    def _note(self, place: int, state: str, alert: Alert, at_ms: int, ends_ms: int | None) -> None:
        known = self._open[place].get(alert.labels)
        if known is None and state in (PENDING, FIRING):
            known = self._open[place][alert.labels] = Episode(
                alert.labels, at_ms, alert.value, dict(alert.annotations)
            )
            self.records[place].episodes.append(known)
        if known is None:
            return
        if state == FIRING and known.fired_ms is None:
            known.fired_ms, known.value = at_ms, alert.value
            known.annotations = dict(alert.annotations)
        if state in (RESOLVED, INACTIVE):
            known.ended_ms = at_ms if ends_ms is None else ends_ms
            del self._open[place][alert.labels]
