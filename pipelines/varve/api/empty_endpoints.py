"""Endpoints of Prometheus that have nothing to list here, so that clients find that out.

Grafana, promtool and client libraries ask for some of them whatever they are used for. The service
scrapes nothing: empty lists are the truth, in the shapes that clients expect. Source: Prometheus 3,
web/api/v1/api.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from varve.api.call import Answer, Call


def answering(data: Any) -> Callable[[Call], Answer]:
    """An endpoint that answers the same to every request."""

    def endpoint(_: Call) -> Answer:
        return Answer(data)

    return endpoint
