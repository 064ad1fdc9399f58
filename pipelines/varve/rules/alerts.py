"""The life of the alerts of one rule: pending, firing, kept firing, gone.

Source: Prometheus, rules/alerting.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from varve.rules.errors import RuleError
from varve.rules.instant import Element, Sample
from varve.rules.label_sets import (
    ALERT_NAME,
    ALERT_STATE,
    ALERTS,
    FOR_STATE,
    METRIC_NAME,
    Labels,
    labels_of,
)
from varve.rules.rule_file import AlertingRule, Template
from varve.templates.errors import TemplateError
from varve.templates.rule_templates import AlertData, Query, expand_alert_text
from varve.templates.values import StringMap

RESOLVED_KEPT_MS: Final = 15 * 60_000
"""How long an alert that has ended is kept, to tell its end again."""


class State(Enum):
    """Of an alert, or the greatest of those of a rule."""

    INACTIVE = 0
    PENDING = 1
    FIRING = 2

    @property
    def text(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Times are Unix ms, of evaluations; None where that has not happened.

    active_at_ms: since when its condition holds. sent_at_ms: when it was last handed to the
    notifier. kept_since_ms: since when keep_firing_for alone keeps it.
    """

    labels: Labels
    annotations: Mapping[str, str]
    value: float
    state: State
    active_at_ms: int
    fired_at_ms: int | None = None
    resolved_at_ms: int | None = None
    kept_since_ms: int | None = None
    sent_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """What templates see beside an alert: external labels and URL, and an evaluator of queries."""

    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""


Alerts = Mapping[Labels, Alert]
"""The alerts of one rule by their labels."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation of an alerting rule gave: its alerts, and the series that tell of them."""

    alerts: Alerts
    samples: tuple[Sample, ...]


def observe(
    rule: AlertingRule,
    before: Alerts,
    vector: Sequence[Element],
    *,
    at_ms: int,
    offset_ms: int,
    limit: int,
    environment: Environment,
    query: Query,
    restored: Mapping[Labels, int] | None = None,
) -> Outcome:
    """The alerts after an evaluation at `at_ms` that gave `vector`.

    offset_ms: how far back the query looked; samples are written for that time. query: answers
    those of templates. restored: since when alerts have been active that are new to this process.
    Raises RuleError: the alerts then are as before, or none if there are more than `limit`.
    """
    found = _found(rule, vector, at_ms, environment, query)
    after: dict[Labels, Alert] = {}
    for labels, new in found.items():
        known = before.get(labels)
        if known is None or known.state is State.INACTIVE:
            active_at_ms = (restored or {}).get(labels, new.active_at_ms)
            alert = replace(new, active_at_ms=active_at_ms)
        else:
            alert = replace(known, value=new.value, annotations=new.annotations, kept_since_ms=None)
        after[labels] = _held(alert, rule.hold_ms, at_ms)
    for labels, known in before.items():
        if labels not in found:
            gone = _without_condition(known, rule.keep_firing_ms, at_ms)
            if gone is not None:
                after[labels] = gone
    active = [alert for alert in after.values() if alert.state is not State.INACTIVE]
    if 0 < limit < len(active):
        raise TooManyAlerts(f"exceeded limit of {limit} with {len(active)} alerts")
    return Outcome(after, tuple(series_of(active, at_ms - offset_ms)))


class TooManyAlerts(RuleError):
    """The rule has more alerts than its group allows: it keeps none of them."""


def _found(
    rule: AlertingRule,
    vector: Sequence[Element],
    at_ms: int,
    environment: Environment,
    query: Query,
) -> dict[Labels, Alert]:
    found: dict[Labels, Alert] = {}
    for element in vector:
        given = dict(element.labels)
        data = AlertData(
            StringMap(given),
            StringMap(environment.external_labels),
            environment.external_url,
            element.number,
        )

        def expanded(template: Template, data: AlertData = data) -> str:
            return _expanded(template, rule.name, data, query, at_ms)

        given.pop(METRIC_NAME, None)
        given |= {name: expanded(template) for name, template in rule.labels.items()}
        given[ALERT_NAME] = rule.name
        labels = labels_of(given)
        if labels in found:
            raise RuleError(
                "vector contains metrics with the same labelset after applying alert labels"
            )
        annotations = {name: expanded(template) for name, template in rule.annotations.items()}
        found[labels] = Alert(labels, annotations, element.number, State.PENDING, at_ms)
    return found


def _expanded(template: Template, alert: str, data: AlertData, query: Query, at_ms: int) -> str:
    """A text that fails says so in its place: the alert matters more than its words."""
    if template.parsed is None:
        return template.text
    name = f"__alert_{alert}"
    try:
        return expand_alert_text(template.parsed, name, data, query=query, now_ms=at_ms)
    except TemplateError as error:
        return f"<error expanding template: {error}>"


def _held(alert: Alert, hold_ms: int, at_ms: int) -> Alert:
    """Fires once its condition has held long enough, and waits again if a new `for` is longer."""
    is_due = at_ms - alert.active_at_ms >= hold_ms
    if alert.state is State.PENDING and is_due:
        return replace(alert, state=State.FIRING, fired_at_ms=at_ms)
    if alert.state is State.FIRING and not is_due:
        return replace(alert, state=State.PENDING, fired_at_ms=None)
    return alert


def _without_condition(alert: Alert, keep_firing_ms: int, at_ms: int) -> Alert | None:
    """What becomes of an alert whose condition does not hold; None if it is forgotten."""
    if alert.state is State.PENDING:
        return None
    if alert.state is State.INACTIVE:
        ended_ms = alert.resolved_at_ms
        is_old = ended_ms is not None and at_ms - ended_ms > RESOLVED_KEPT_MS
        return None if is_old else alert
    if keep_firing_ms:
        since_ms = at_ms if alert.kept_since_ms is None else alert.kept_since_ms
        if at_ms - since_ms < keep_firing_ms:
            return replace(alert, kept_since_ms=since_ms)
    return replace(alert, state=State.INACTIVE, resolved_at_ms=at_ms)


def series_of(alerts: Iterable[Alert], ts_ms: int) -> Iterable[Sample]:
    """The samples at `ts_ms` that tell of the alerts that are pending or fire."""
    for alert in alerts:
        if alert.state is State.INACTIVE:
            continue
        labels = dict(alert.labels)
        state = {METRIC_NAME: ALERTS, ALERT_STATE: alert.state.text}
        yield Sample(labels_of(labels | state), ts_ms, 1.0)
        since_s = float(alert.active_at_ms // 1000)
        yield Sample(labels_of(labels | {METRIC_NAME: FOR_STATE}), ts_ms, since_s)


def state_of(alerts: Alerts) -> State:
    """The greatest state of some alerts."""
    return max(
        (alert.state for alert in alerts.values()), key=lambda s: s.value, default=State.INACTIVE
    )


# What is handed to the notifier


@dataclass(frozen=True, slots=True)
class Sent:
    """An alert as a notifier gets it. ends_at_ms: when it ended, or until when it is to be taken
    for firing if nothing else is heard. Unix ms.
    """

    labels: Labels
    annotations: Mapping[str, str]
    starts_at_ms: int
    ends_at_ms: int


ENDS_AHEAD: Final = 4
"""How many resends ahead the end of a firing alert is: that many may be lost."""


def due(
    alerts: Alerts, *, at_ms: int, resend_ms: int, interval_ms: int
) -> tuple[Alerts, tuple[Sent, ...]]:
    """The alerts that are to be sent at an evaluation, and all alerts with that noted."""
    after, sent = dict(alerts), []
    for labels, alert in alerts.items():
        if not _needs_sending(alert, at_ms, resend_ms):
            continue
        after[labels] = replace(alert, sent_at_ms=at_ms)
        ends_ms = alert.resolved_at_ms
        if ends_ms is None:
            ends_ms = at_ms + ENDS_AHEAD * max(resend_ms, interval_ms)
        starts_ms = at_ms if alert.fired_at_ms is None else alert.fired_at_ms
        sent.append(Sent(labels, alert.annotations, starts_ms, ends_ms))
    return after, tuple(sent)


def _needs_sending(alert: Alert, at_ms: int, resend_ms: int) -> bool:
    if alert.state is State.PENDING:
        return False
    if alert.sent_at_ms is None:
        return True
    if alert.resolved_at_ms is not None and alert.resolved_at_ms > alert.sent_at_ms:
        return True
    return alert.sent_at_ms + resend_ms < at_ms
