"""GET /api/v1/rules, /alerts and /alertmanagers: what the rules services say, as one.

Source: Prometheus, web/api/v1/api.go.
"""

from __future__ import annotations

from typing import Any

from varve.api.call import Answer, Call
from varve.rules.api_filter import RuleFilter


def rules(call: Call) -> Answer:
    """Groups of rules, filtered, in pages. Raises BadRequest for parameters that make no sense."""
    wanted = RuleFilter.of(call.parameters.pairs)
    found, warnings = call.rules("rules")
    groups = [group for one in found for group in one["groups"]]
    groups.sort(key=lambda group: group["file"])  # of one file, in the order they have there
    return Answer(wanted.apply(groups), warnings)


def alerts(call: Call) -> Answer:
    """Alerts that are pending or fire."""
    found, warnings = call.rules("alerts")
    return Answer({"alerts": [alert for one in found for alert in one["alerts"]]}, warnings)


def alertmanagers(call: Call) -> Answer:
    """The notifiers that are told, each once."""
    found, warnings = call.rules("alertmanagers")
    active: dict[str, Any] = {
        one["url"]: one for said in found for one in said["activeAlertmanagers"]
    }
    return Answer(
        {"activeAlertmanagers": list(active.values()), "droppedAlertmanagers": []}, warnings
    )
