"""The state of groups that somebody else evaluated before: from the table alerts and the series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from varve.model.staleness import is_stale
from varve.promql.labels.label_table import METRIC_NAME, Labels
from varve.promql.storage import SelectHints, Storage
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.rules.alerts import Alert, Alerts, series_of
from varve.rules.group_run import GroupRun
from varve.rules.instant import Sample
from varve.rules.label_sets import ALERT_NAME, ALERTS, FOR_STATE
from varve.rules.rule_file import AlertingRule, Group, RecordingRule
from varve.rules.running.changes import alerts_of
from varve.rules.running.living_rows import living_rows
from varve.rules.running.reviews import Provisional
from varve.rules.running.slots import Cursor, GroupTiming, Slot
from varve.storage.store import Store

_EVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Known:
    """What the tables know of groups. rows: of the table alerts. series: the newest view."""

    rows: pa.Table
    series: Storage
    now_ms: int

    @classmethod
    def read(cls, store: Store, series: Storage, now_ms: int, since_ms: int) -> Known:
        """since_ms: of evaluations before then only alerts that have not ended are known. Raises
        OSError or NeedsOperator if the table cannot be read.
        """
        return cls(living_rows(store, since_ms), series, now_ms)

    def alerts(self, until_ms: int = _EVER) -> dict[str, dict[Labels, Alert]]:
        """By group, as of evaluations up to a time."""
        return alerts_of(self.rows, until_ms=until_ms, now_ms=self.now_ms)

    def run(self, group: Group, timing: GroupTiming, cursor: Cursor) -> GroupRun:
        """A group with the alerts it has, and the series that it wrote for `cursor`."""
        run = GroupRun(group)
        for place, alerts in assigned(group, self.alerts().get(group.key, {})).items():
            run.rules[place].alerts = alerts
            run.rules[place].series = frozenset(
                sample.labels for sample in series_of(alerts.values(), 0)
            )
        run.evaluated_at_ms = cursor.evaluated_ms
        ts_ms = cursor.recorded_ms - timing.offset_ms
        for one in run.rules:
            if isinstance(one.rule, RecordingRule):
                one.series = frozenset(self._written_at(one.rule, ts_ms))
        return run

    def provisional(self, group: Group, timing: GroupTiming, cursor: Cursor) -> Provisional | None:
        """The evaluations without all their data that are to be reviewed."""
        if cursor.recorded_ms >= cursor.evaluated_ms:
            return None

        def as_of(at_ms: int) -> dict[int, Alerts]:
            return assigned(group, self.alerts(at_ms).get(group.key, {}))

        before = as_of(cursor.recorded_ms)
        found = Provisional(before)
        at_ms = timing.next(cursor.recorded_ms)
        while at_ms <= cursor.evaluated_ms:
            after = as_of(at_ms)
            found.add(at_ms, before, after)
            before, at_ms = after, timing.next(at_ms)
        return found

    def _written_at(self, rule: RecordingRule, ts_ms: int) -> Iterable[Labels]:
        """The series of a rule that have a sample at a time."""
        matchers = [Matcher(METRIC_NAME, MatchOp.EQUAL, rule.name)]
        matchers += [Matcher(name, MatchOp.EQUAL, value) for name, value in rule.labels.items()]
        for labels, ts, values in _samples(self.series, matchers, ts_ms - 1, ts_ms):
            if len(ts) and ts[-1] == ts_ms and not is_stale(values[-1:])[0]:
                yield labels


def assigned(group: Group, alerts: Mapping[Labels, Alert]) -> dict[int, Alerts]:
    """Alerts by the place of the rule whose they are; every alerting rule has a place."""
    rules = [(p, rule) for p, rule in enumerate(group.rules) if isinstance(rule, AlertingRule)]
    found: dict[int, dict[Labels, Alert]] = {place: {} for place, _ in rules}
    for labels, alert in alerts.items():
        given = dict(labels)
        for place, rule in rules:
            if rule.name == given.get(ALERT_NAME) and _may_be_of(rule, given):
                found[place][labels] = alert
                break
    return dict(found)


def _may_be_of(rule: AlertingRule, labels: Mapping[str, str]) -> bool:
    return all(
        labels.get(name, "") == template.text
        for name, template in rule.labels.items()
        if template.parsed is None
    )


def written_before(
    series: Storage,
    groups: Sequence[tuple[Group, GroupTiming]],
    open_slots: Sequence[Slot],
    since_ms: int,
) -> list[Sample]:
    """What rules had written before slots that are evaluated again, from `since_ms` on: the
    snapshot they are evaluated as of need not have it.
    """
    first: dict[str, int] = {}
    for slot in open_slots:
        first.setdefault(slot.group, slot.at_ms)
    found: list[Sample] = []
    for group, timing in groups:
        until_ms = first.get(group.key, _EVER + timing.offset_ms) - timing.offset_ms - 1
        for matchers in _selectors(group):
            for labels, ts, values in _samples(series, matchers, since_ms, until_ms):
                found += [
                    Sample(labels, int(at), float(value))
                    for at, value in zip(ts, values, strict=True)
                ]
    return found


def _selectors(group: Group) -> Iterable[list[Matcher]]:
    for rule in group.rules:
        if isinstance(rule, RecordingRule):
            yield [Matcher(METRIC_NAME, MatchOp.EQUAL, rule.name)]
            continue
        for name in (ALERTS, FOR_STATE):
            yield [
                Matcher(METRIC_NAME, MatchOp.EQUAL, name),
                Matcher(ALERT_NAME, MatchOp.EQUAL, rule.name),
            ]


def _samples(
    series: Storage, matchers: Sequence[Matcher], start_ms: int, end_ms: int
) -> Iterable[tuple[Labels, np.ndarray, np.ndarray]]:
    """Labels, times and values of each series in (start_ms, end_ms]."""
    selection = series.select(tuple(matchers), start_ms, end_ms, SelectHints())
    samples = selection.samples
    for row, labels in enumerate(selection.labels.labels()):
        begin, end = int(samples.begins[row]), int(samples.ends[row])
        ts = samples.ts[begin:end]
        inside = (ts > start_ms) & (ts <= end_ms)
        yield labels, ts[inside], samples.values[begin:end][inside]
