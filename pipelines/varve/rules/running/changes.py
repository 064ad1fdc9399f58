"""Changes of alerts' states: rows of the table alerts, events of the topic, and alerts again.

The rows are all that a process needs to go on with the alerts of another one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from varve.model.fingerprint import fingerprint
from varve.model.schema import table_schema
from varve.rules.alerts import RESOLVED_KEPT_MS, Alert, Alerts, State
from varve.rules.label_sets import ALERT_NAME, Labels, labels_of

TABLE: Final = "alerts"
PENDING, FIRING, RESOLVED, INACTIVE = "pending", "firing", "resolved", "inactive"
SAME, DIFFERENT = "same", "different"

NEEDED: Final = (
    *("rule_group", "state", "labels", "annotations", "value", "starts_at", "ends_at"),
    *("evaluated_at", "review", "event_id"),
)
"""Columns of the rows that alerts are made from again."""


@dataclass(frozen=True, slots=True)
class Change:
    """A state that an alert reached, at an evaluation for at_ms. ends_at_ms: when its condition
    ceased to hold. review: of an evaluation that is done again with all its data, whether it gives
    what it gave; None for a change that has happened. Times are Unix ms.
    """

    group: str
    state: str
    alert: Alert
    at_ms: int
    ends_at_ms: int | None = None
    incomplete: bool = False
    late: bool = False
    review: str | None = None
    token: str | None = None

    def row(self) -> dict[str, Any]:
        """Its row of the table, by column."""
        labels = dict(self.alert.labels)
        mark = f"{fingerprint(labels):016x}"
        return {
            "event_id": _event_id(self, mark),
            "fingerprint": mark,
            "rule": labels.get(ALERT_NAME, ""),
            "state": self.state,
            "labels": labels,
            "annotations": dict(self.alert.annotations),
            "value": self.alert.value,
            "starts_at": self.alert.active_at_ms,
            "ends_at": self.ends_at_ms,
            "evaluated_at": self.at_ms,
            "snapshot": self.token,
            "rule_group": self.group,
            "incomplete": self.incomplete,
            "late": self.late,
            "review": self.review,
        }

    def event(self) -> dict[str, Any]:
        """Its event, as schemas/wire/alert-event.schema.json has it."""
        return self.row() | {"value": _json_number(self.alert.value)}


def changes(group: str, before: Alerts, after: Alerts, at_ms: int) -> list[Change]:
    """What an evaluation of a rule for `at_ms` changed, by labels."""
    found = []
    for labels in sorted({*before, *after}):
        change = _change(group, before.get(labels), after.get(labels), at_ms)
        if change is not None:
            found.append(change)
    return found


def _change(group: str, old: Alert | None, new: Alert | None, at_ms: int) -> Change | None:
    was = State.INACTIVE if old is None else old.state
    if new is None or new.state is State.INACTIVE:
        if old is None or was is State.INACTIVE:
            return None
        if was is State.PENDING:
            return Change(group, INACTIVE, old, at_ms, at_ms)
        ended_ms = at_ms if new is None or new.resolved_at_ms is None else new.resolved_at_ms
        return Change(group, RESOLVED, new or old, at_ms, ended_ms)
    same = was is new.state and old is not None and old.kept_since_ms == new.kept_since_ms
    if same:
        return None
    return Change(group, new.state.text, new, at_ms, new.kept_since_ms)


def review(group: str, before: Alerts, after: Alerts, would_be: Alerts, at_ms: int) -> list[Change]:
    """What an evaluation without all its data changed, or should have, with what it gives with all
    of it. before: the alerts ahead of it; after: what it made of them; would_be: what it gives now.
    """
    done = {change.alert.labels: change for change in changes(group, before, after, at_ms)}
    found = []
    for labels in sorted({*before, *after, *would_be}):
        states = _state_text(after.get(labels)), _state_text(would_be.get(labels))
        if states[0] == states[1] and labels not in done:
            continue
        alert = would_be.get(labels) or after.get(labels) or before[labels]
        verdict = SAME if states[0] == states[1] else DIFFERENT
        found.append(Change(group, states[1], alert, at_ms, review=verdict))
    return found


def _state_text(alert: Alert | None) -> str:
    return INACTIVE if alert is None else alert.state.text


def to_table(found: Iterable[Change]) -> pa.Table:
    """Rows of the table alerts."""
    schema = table_schema(TABLE).arrow
    return pa.Table.from_pylist([change.row() for change in found], schema)


def alerts_of(rows: pa.Table, *, until_ms: int, now_ms: int) -> dict[str, dict[Labels, Alert]]:
    """The alerts of each group as of the rows of evaluations up to `until_ms`.

    rows: columns NEEDED. Those that ended over 15 minutes before `now_ms` are left out.
    """
    found: dict[str, dict[Labels, Alert]] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: row["evaluated_at"]):
        if row["review"] is not None or row["rule_group"] is None:
            continue
        if row["evaluated_at"] > until_ms:
            break
        known = found.setdefault(row["rule_group"], {})
        labels = labels_of(dict(row["labels"]))
        alert = _alert(row, labels, known.get(labels))
        if alert is None:
            known.pop(labels, None)
        else:
            known[labels] = alert
    return {
        group: {
            labels: alert
            for labels, alert in alerts.items()
            if alert.resolved_at_ms is None or now_ms - alert.resolved_at_ms <= RESOLVED_KEPT_MS
        }
        for group, alerts in found.items()
    }


def _alert(row: Mapping[str, Any], labels: Labels, before: Alert | None) -> Alert | None:
    state, at_ms = row["state"], row["evaluated_at"]
    value = math.nan if row["value"] is None else row["value"]
    annotations = dict(row["annotations"])
    if state == PENDING:
        return Alert(labels, annotations, value, State.PENDING, row["starts_at"])
    fired_ms = at_ms if before is None or before.fired_at_ms is None else before.fired_at_ms
    if state == FIRING:
        if before is None or before.state is not State.FIRING:
            fired_ms = at_ms
        return Alert(
            *(labels, annotations, value, State.FIRING, row["starts_at"], fired_ms),
            kept_since_ms=row["ends_at"],
        )
    if state == RESOLVED:
        ended_ms = row["ends_at"]
        return Alert(
            *(labels, annotations, value, State.INACTIVE, row["starts_at"], fired_ms, ended_ms)
        )
    return None


def _event_id(change: Change, mark: str) -> str:
    parts = change.group, mark, change.state, str(change.at_ms), change.review or ""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def _json_number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return value
