"""The rules as Prometheus' HTTP API shows them: GET /api/v1/rules and /api/v1/alerts.

Source: Prometheus, web/api/v1/api.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from varve.model.clock import utc_text
from varve.rules.alerts import Alert, State, state_of
from varve.rules.group_run import Evaluator, GroupRun, RuleRun
from varve.rules.instant import number_text
from varve.rules.rule_file import AlertingRule

NEVER: Final = "0001-01-01T00:00:00Z"


def rules(runs: Iterable[GroupRun], evaluator: Evaluator) -> dict[str, Any]:
    """What /api/v1/rules has in data."""
    return {"groups": [group(run, evaluator) for run in runs]}


def alerts(runs: Iterable[GroupRun]) -> dict[str, Any]:
    """What /api/v1/alerts has in data."""
    return {"alerts": [shown for run in runs for one in run.rules for shown in _alerts(one)]}


def group(run: GroupRun, evaluator: Evaluator) -> dict[str, Any]:
    """One group. Times of evaluations are those that they were for."""
    return {
        "name": run.group.name,
        "file": run.group.file,
        "rules": [rule(one) for one in run.rules],
        "interval": evaluator.interval_of(run.group) / 1000,
        "limit": run.group.limit,
        "evaluationTime": run.took_s,
        "lastEvaluation": rfc3339(run.evaluated_at_ms),
    }


def rule(run: RuleRun) -> dict[str, Any]:
    """One rule, an alerting one with its alerts."""
    shared = {
        "name": run.rule.name,
        "query": run.rule.expr,
        "labels": run.rule.label_texts,
        "health": run.health,
        "evaluationTime": run.took_s,
        "lastEvaluation": rfc3339(run.evaluated_at_ms),
    } | ({"lastError": run.error} if run.error else {})
    if not isinstance(run.rule, AlertingRule):
        return shared | {"type": "recording"}
    return shared | {
        "type": "alerting",
        "state": state_of(run.alerts).text,
        "duration": run.rule.hold_ms / 1000,
        "keepFiringFor": run.rule.keep_firing_ms / 1000,
        "annotations": {name: one.text for name, one in run.rule.annotations.items()},
        "alerts": _alerts(run),
    }


def _alerts(run: RuleRun) -> list[dict[str, Any]]:
    return [alert(one) for one in run.alerts.values() if one.state is not State.INACTIVE]


def alert(one: Alert) -> dict[str, Any]:
    """One alert that is pending or firing."""
    kept = {} if one.kept_since_ms is None else {"keepFiringSince": rfc3339(one.kept_since_ms)}
    return {
        "labels": dict(one.labels),
        "annotations": dict(one.annotations),
        "state": one.state.text,
        "activeAt": rfc3339(one.active_at_ms),
        **kept,
        "value": number_text(one.value),
    }


def rfc3339(at_ms: int | None) -> str:
    """A time in UTC with as many decimals as it has; None is Go's zero time."""
    return NEVER if at_ms is None else utc_text(at_ms)
