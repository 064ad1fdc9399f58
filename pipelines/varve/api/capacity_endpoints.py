"""Resources by the days they have left, for the page."""

from __future__ import annotations

from varve.api.call import Answer, Call
from varve.api.series_text import expected_text, selector_of
from varve.forecast.report import capacity_report
from varve.model.errors import BadRequest, NeedsOperator


def capacity(call: Call) -> Answer:
    """Answers with what was last found of each resource, the most urgent first, and the PromQL of
    its value and its forecast.
    """
    if call.store is None:
        raise BadRequest("this service reads no tables but those of samples")
    try:
        lines = capacity_report(call.store, call.now_ms)
    except NeedsOperator:  # nothing has been forecast yet
        return Answer([])
    return Answer(
        [
            line.as_json()
            | {
                "metric": line.metric,
                "tags": line.tags,
                "expression": f"rate({selector_of(line.metric, line.tags)}[1h])"
                if line.is_rate
                else f"avg_over_time({selector_of(line.metric, line.tags)}[1h])",
                "forecast": expected_text("varve_forecast", line.metric, line.tags),
            }
            for line in lines
        ]
    )
