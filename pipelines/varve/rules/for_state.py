"""Takes up again for how long alerts have been pending, from the series ALERTS_FOR_STATE.

The time a process was away does not count as pending. What was firing fires on. What was about to
fire waits for the grace period, so that what happened meanwhile is known first.
Source: Prometheus, rules/group.go, RestoreForState.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from varve.model.staleness import is_stale
from varve.promql.labels.label_table import METRIC_NAME, Labels
from varve.promql.storage import SelectHints, Storage
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.rules.label_sets import ALERT_NAME, FOR_STATE
from varve.rules.rule_file import AlertingRule


@dataclass(frozen=True, slots=True)
class Restoring:
    """tolerance_ms: how long a process may have been away. grace_ms: the least time to wait for an
    alert that was pending; alerts with a shorter `for` begin anew.
    """

    tolerance_ms: int = 3_600_000
    grace_ms: int = 600_000


def active_since(
    rule: AlertingRule, storage: Storage, *, at_ms: int, offset_ms: int, restoring: Restoring
) -> Mapping[Labels, int]:
    """Since when the alerts of a rule have been active, as of the first evaluation at `at_ms`.

    What is not there has not been active. Raises StorageError.
    """
    if rule.hold_ms < restoring.grace_ms:
        return {}
    matchers = (
        Matcher(METRIC_NAME, MatchOp.EQUAL, FOR_STATE),
        Matcher(ALERT_NAME, MatchOp.EQUAL, rule.name),
    )
    end_ms = at_ms - offset_ms
    selection = storage.select(matchers, end_ms - restoring.tolerance_ms, end_ms, SelectHints())
    samples, found = selection.samples, {}
    for row, labels in enumerate(selection.labels.labels()):
        place = int(samples.ends[row]) - 1
        while place >= samples.begins[row] and samples.ts[place] > end_ms:
            place -= 1
        if place < samples.begins[row]:
            continue
        seen_ms = int(samples.ts[place])
        value = samples.values[place : place + 1]
        if seen_ms <= end_ms - restoring.tolerance_ms or is_stale(value)[0] or value[0] != value[0]:
            continue
        bare = tuple(label for label in labels if label[0] != METRIC_NAME)
        active_ms = int(value[0]) * 1000
        found[bare] = _since(
            rule.hold_ms, active_ms, seen_ms + offset_ms, at_ms, restoring.grace_ms
        )
    return found


def _since(hold_ms: int, active_ms: int, down_ms: int, at_ms: int, grace_ms: int) -> int:
    remaining_ms = hold_ms - (down_ms - active_ms)
    if remaining_ms <= 0:
        return active_ms
    if remaining_ms < grace_ms:
        return at_ms + grace_ms - hold_ms
    return active_ms + at_ms - down_ms
