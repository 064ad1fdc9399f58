"""Exemplars: single observations behind samples.

Source: Prometheus 3, web/api/v1/api.go (queryExemplars).
"""

from __future__ import annotations

import numpy as np

from varve.api.call import Answer, Call
from varve.model.errors import BadRequest
from varve.promql import result_json
from varve.promql.syntax.ast import VectorSelector
from varve.promql.syntax.parser import parse
from varve.promql.syntax.tree import walk
from varve.query.exemplar_reader import exemplars_of


def exemplars(call: Call) -> Answer:
    """Answers with the exemplars in [start, end] of the series that selectors of the query select,
    by series and time. Raises BadRequest, ParseError, and QueryError as a query does.
    """
    start_ms, end_ms = call.parameters.time_bounds_ms()
    if end_ms < start_ms:
        raise BadRequest("end timestamp must not be before start timestamp")
    tree = parse(call.parameters.get("query"))
    matchers = [node.matchers for node in walk(tree) if isinstance(node, VectorSelector)]
    options = call.options
    series, found = exemplars_of(
        call.view, matchers, start_ms, end_ms, options.check_running, options.memory.take
    )
    return Answer(
        [
            {
                "seriesLabels": labels,
                "exemplars": [
                    {
                        "labels": dict(exemplar.labels),
                        "value": _text(exemplar.value),
                        "timestamp": _seconds(exemplar.ts_ms),
                    }
                    for exemplar in own
                ],
            }
            for labels, own in zip(series.dicts(), found, strict=True)
        ]
    )


def _text(value: float) -> str:
    return result_json.floats(np.array([value]))[0].decode()


def _seconds(ts_ms: int) -> float:
    return ts_ms // 1000 if ts_ms % 1000 == 0 else ts_ms / 1000
