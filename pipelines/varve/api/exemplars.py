"""Parts of Prometheus' API about what this service has none of, so that clients find that out.

Grafana, promtool and client libraries ask for some of them whatever they are used for. It scrapes
nothing and evaluates no rules: empty lists are the truth, in the shapes that clients expect.
Source: Prometheus 3, web/api/v1/api.go.
"""

from __future__ import annotations

from typing import Any, Final

from varve.api import parameters
from varve.api.parameters import Parameters, invalid
from varve.promql.syntax.parser import parse

EMPTY: Final[dict[str, Any]] = {
    "alertmanagers": {"activeAlertmanagers": [], "droppedAlertmanagers": []},
    "alerts": {"alerts": []},
    "notifications": [],
    "rules": {"groups": []},
    "scrape_pools": {"scrapePools": []},
    "status/config": {"yaml": ""},
    "status/flags": {},
    "targets": {"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}},
    "targets/metadata": [],
    "targets/relabel_steps": {"steps": []},
}
"""What a GET of /api/v1/<path> answers."""


def exemplars(given: Parameters) -> list[Any]:
    """Exemplars of the series in a query: samples have none. Raises BadRequest or ParseError."""
    start = parameters.time_ms(given, "start", parameters.MIN_TIME_MS)
    end = parameters.time_ms(given, "end", parameters.MAX_TIME_MS)
    if end < start:
        raise invalid("end", "end timestamp must not be before start time")
    parse(given.get("query"))
    return []
