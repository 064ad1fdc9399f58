"""Every address of the query service: what answers it, what it takes, what it is for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from varve.api import metadata_endpoints as metadata
from varve.api import pages
from varve.api import query_endpoints as promql
from varve.api.call import Answer, Call
from varve.api.empty_endpoints import answering, exemplars
from varve.api.service import Service


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address below /api/v1/, answered in Prometheus' JSON by a function in a thread."""

    path: str
    function: Callable[[Call], Answer]
    parameters: str
    help: str
    methods: tuple[str, ...] = ("GET",)

    @property
    def name(self) -> str:
        """What the metrics call it: the path, without parts that differ by request."""
        return self.path if "{" not in self.path else "label_values"


@dataclass(frozen=True, slots=True)
class Page:
    """Any other address, answered at once on the event loop."""

    path: str
    function: Callable[[Service, Request], Awaitable[Response]]
    help: str


def _post_too(
    path: str, function: Callable[[Call], Answer], parameters: str, help_text: str
) -> Endpoint:
    """An endpoint that takes a form as well, for queries that are longer than addresses may be."""
    return Endpoint(path, function, parameters, help_text, ("GET", "POST"))


def _empty(path: str, data: Any) -> Endpoint:
    return Endpoint(path, answering(data), "", "nothing of the kind")


_TIMES = "start, end, limit"
_OPTIONS = "timeout, limit, lookback_delta, stats, tier"
_NO_ALERTMANAGERS: Final[dict[str, Any]] = {"activeAlertmanagers": [], "droppedAlertmanagers": []}
_NO_TARGETS: Final[dict[str, Any]] = {
    "activeTargets": [],
    "droppedTargets": [],
    "droppedTargetCounts": {},
}

ENDPOINTS: Final = (
    _post_too("query", promql.query, f"query, time, {_OPTIONS}", "PromQL at one time"),
    _post_too(
        "query_range",
        promql.query_range,
        f"query, start, end, step, {_OPTIONS}",
        "PromQL over a range",
    ),
    _post_too(
        "explain",
        promql.explain,
        "query, time or start, end, step; timeout, lookback_delta, tier, run",
        "the plan of a query; with run=1 also what it read",
    ),
    _post_too("format_query", promql.format_query, "query", "a query laid out"),
    _post_too("parse_query", promql.parse_query, "query", "a query's syntax tree"),
    _post_too("series", metadata.series, f"match[] (repeated), {_TIMES}", "label sets"),
    _post_too("labels", metadata.label_names, f"match[], {_TIMES}", "names of labels"),
    Endpoint(
        "label/{name:path}/values",
        metadata.label_values,
        f"match[], {_TIMES}",
        "values of one label",
    ),
    Endpoint("metadata", metadata.metadata, "metric, limit", "type, unit and help of metrics"),
    Endpoint("status/buildinfo", metadata.build_info, "", "application and version"),
    Endpoint("status/tsdb", metadata.tsdb_status, "limit (10)", "what has most series"),
    _post_too("query_exemplars", exemplars, "query, start, end", "nothing of the kind"),
    _empty("rules", {"groups": []}),
    _empty("alerts", {"alerts": []}),
    _empty("alertmanagers", _NO_ALERTMANAGERS),
    _empty("targets", _NO_TARGETS),
    _empty("targets/metadata", []),
    _empty("targets/relabel_steps", {"steps": []}),
    _empty("scrape_pools", {"scrapePools": []}),
    _empty("status/config", {"yaml": ""}),
    _empty("status/flags", {}),
    _empty("notifications", []),
)

PAGES: Final = (
    Page("/-/healthy", pages.healthy, "200 while the process answers"),
    Page(
        "/-/ready",
        pages.ready,
        "200 when answers can be trusted, else 503; says why, or that they lag",
    ),
    Page("/metrics", pages.metrics, "the service's own metrics"),
    Page("/", pages.page, "the page"),
    Page("/graph", pages.graph, "Prometheus' address of its page: goes to /"),
)
