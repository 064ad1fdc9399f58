"""Endpoints of Prometheus that have nothing to list here, so that clients find that out.

Grafana, promtool and client libraries ask for some of them whatever they are used for. The service
scrapes nothing and stores no exemplars: empty lists are the truth, in the
shapes that clients expect. Source: Prometheus 3, web/api/v1/api.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from varve.api.call import Answer, Call
from varve.promql.syntax.parser import parse


def answering(data: Any) -> Callable[[Call], Answer]:
    """An endpoint that answers the same to every request."""

    def endpoint(_: Call) -> Answer:
        return Answer(data)

    return endpoint


def exemplars(call: Call) -> Answer:
    """Answers with no exemplars. Raises BadRequest or ParseError as if there were some."""
    call.parameters.time_bounds_ms()
    parse(call.parameters.get("query"))
    return Answer([])
