"""Every address of the query service: what answers it, what it takes, what it is for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from varve.access.credentials import Scope
from varve.api import anomaly_endpoints, pages, rules_endpoints, targets_endpoints
from varve.api import metadata_endpoints as metadata
from varve.api import query_endpoints as promql
from varve.api import status_endpoints as status
from varve.api.alert_history_endpoints import alert_history
from varve.api.call import Answer, Call
from varve.api.capacity_endpoints import capacity
from varve.api.empty_endpoints import answering
from varve.api.endpoint import METADATA, QUERIES, SQL, Endpoint
from varve.api.exemplar_endpoints import exemplars
from varve.api.federation import federate
from varve.api.openapi import document
from varve.api.remote_read import remote_read
from varve.api.service import Service
from varve.api.sql_endpoint import ARROW, sql


@dataclass(frozen=True, slots=True)
class Page:
    """Any other address, answered at once on the event loop."""

    path: str
    function: Callable[[Service, Request], Awaitable[Response]]
    help: str
    methods: tuple[str, ...] = ("GET",)
    scope: Scope = Scope.READ
    """What somebody must be allowed to do."""


def _post_too(
    path: str,
    function: Callable[[Call], Answer],
    parameters: str,
    help_text: str,
    pool: str = METADATA,
    *,
    reads_only_the_view: bool = False,
) -> Endpoint:
    """An endpoint that takes a form as well, for queries that are longer than addresses may be."""
    return Endpoint(
        path,
        function,
        parameters,
        help_text,
        ("GET", "POST"),
        pool=pool,
        reads_only_the_view=reads_only_the_view,
    )


def _empty(path: str, data: Any) -> Endpoint:
    return Endpoint(path, answering(data), "", "nothing of the kind")


_TIMES = "start, end, limit"
_OPTIONS = "timeout, limit, lookback_delta, stats, tier, degrade"
ENDPOINTS: Final = (
    _post_too(
        "query",
        promql.query,
        f"query, time, {_OPTIONS}",
        "PromQL at one time",
        QUERIES,
        reads_only_the_view=True,
    ),
    _post_too(
        "query_range",
        promql.query_range,
        f"query, start, end, step, {_OPTIONS}",
        "PromQL over a range",
        QUERIES,
        reads_only_the_view=True,
    ),
    _post_too(
        "explain",
        promql.explain,
        "query, time or start, end, step; timeout, lookback_delta, tier, run",
        "the plan of a query; with run=1 also what it read",
        QUERIES,
    ),
    _post_too("format_query", promql.format_query, "query", "a query laid out"),
    _post_too("parse_query", promql.parse_query, "query", "a query's syntax tree"),
    _post_too(
        "series",
        metadata.series,
        f"match[] (repeated), {_TIMES}",
        "label sets",
        reads_only_the_view=True,
    ),
    _post_too(
        "labels",
        metadata.label_names,
        f"match[], {_TIMES}",
        "names of labels",
        reads_only_the_view=True,
    ),
    Endpoint(
        "label/{name:path}/values",
        metadata.label_values,
        f"match[], {_TIMES}",
        "values of one label",
        reads_only_the_view=True,
    ),
    Endpoint(
        "metadata",
        metadata.metadata,
        "metric, limit, limit_per_metric",
        "type, unit and help of metrics and their families, whenever they came",
    ),
    Endpoint(
        "read",
        remote_read,
        "a ReadRequest of Prometheus' remote read",
        "raw samples, in chunks or one by one",
        ("POST",),
        ("application/x-protobuf", "application/x-streamed-protobuf"),
        takes_body=True,
        pool=QUERIES,
    ),
    Endpoint(
        "sql",
        sql,
        "query, timeout",
        "one SELECT over tables and views: columns and rows, or an Arrow stream",
        ("POST",),
        ("application/json", ARROW),
        pool=SQL,
    ),
    Endpoint(
        "/federate",
        federate,
        "match[]",
        "the newest samples, to be scraped",
        media_types=("text/plain",),
        pool=QUERIES,
    ),
    Endpoint("status/buildinfo", status.build_info, "", "application and version"),
    Endpoint("status/runtimeinfo", status.runtime_info, "", "since when it runs, where"),
    Endpoint("status/config", status.config, "", "all settings, as YAML; secrets are hidden"),
    Endpoint("status/flags", status.flags, "", "settings under Prometheus' names"),
    Endpoint("status/tsdb", status.tsdb_status, "start, end, limit (10)", "what has most series"),
    Endpoint(
        "status/usage",
        status.storage_usage,
        "limit (10)",
        "what stored bytes are spent on, what they cost, what would save some",
    ),
    Endpoint("features", status.features, "", "what it can, under Prometheus' names"),
    _post_too("query_exemplars", exemplars, "query, start, end", "exemplars of series"),
    Endpoint(
        "rules",
        rules_endpoints.rules,
        "type, rule_name[], rule_group[], file[], match[], exclude_alerts, group_limit,"
        " group_next_token",
        "rules by group, with their alerts",
    ),
    Endpoint("alerts", rules_endpoints.alerts, "", "alerts that are pending or fire"),
    _post_too(
        "alerts/history",
        alert_history,
        f"match[], {_TIMES}",
        "changes of state of alerts, the newest first",
    ),
    Endpoint("alertmanagers", rules_endpoints.alertmanagers, "", "notifiers that are told"),
    _post_too(
        "anomalies/episodes",
        anomaly_endpoints.episodes,
        _TIMES,
        "episodes of anomalies, the newest first, and the PromQL that draws them",
    ),
    Endpoint(
        "anomalies/label",
        anomaly_endpoints.label,
        "episode, label (real or expected)",
        "keeps what somebody says of an episode (scope admin)",
        ("POST",),
        scope=Scope.ADMIN,
    ),
    _post_too("capacity", capacity, "", "resources by the days they have left"),
    Endpoint("targets", targets_endpoints.targets, "state, scrapePool", "what is scraped"),
    Endpoint(
        "targets/metadata",
        targets_endpoints.metadata,
        "match_target, metric, limit",
        "type, unit and help as targets say them",
    ),
    _empty("targets/relabel_steps", {"steps": []}),
    Endpoint("scrape_pools", targets_endpoints.scrape_pools, "", "jobs that are scraped"),
    _empty("status/tsdb/blocks", {"blocks": []}),
    _empty("status/walreplay", {"min": 0, "max": 0, "current": 0}),
    _empty("notifications", []),
)


async def _openapi(_: Service, __: Request) -> Response:
    return JSONResponse(document(ENDPOINTS))


PAGES: Final = (
    Page("/-/healthy", pages.healthy, "200 while the process answers"),
    Page(
        "/-/ready",
        pages.ready,
        "200 when answers can be trusted, else 503; says why, or that they lag",
    ),
    Page(
        "/-/components",
        pages.components,
        "state of the home, and of its components if `varve up` runs them, as JSON",
    ),
    Page(
        "/-/reload",
        pages.reload,
        "reads tokens, users and admins again (scope admin)",
        ("POST", "PUT"),
        Scope.ADMIN,
    ),
    Page(
        "/api/v1/status/active_queries",
        pages.active_queries,
        "queries under way: id, expression, who, since when (scope admin)",
        scope=Scope.ADMIN,
    ),
    Page(
        "/-/cancel",
        pages.cancel,
        "ends the query under way with the id (scope admin)",
        ("POST",),
        Scope.ADMIN,
    ),
    Page("/api/v1/openapi.json", _openapi, "these addresses as an OpenAPI document"),
    Page("/metrics", pages.metrics, "the service's own metrics"),
    Page("/", pages.page, "the page"),
    Page("/alerts", pages.alerts, "the page of alerts and their history"),
    Page("/anomalies", pages.anomalies, "the page of episodes"),
    Page("/capacity", pages.capacity, "the page of what runs out"),
    Page("/graph", pages.graph, "Prometheus' address of its page: opens ours with what it shows"),
    Page("/query", pages.graph, "the same in Prometheus 3"),
    Page("/version", pages.version, "application and version, without an envelope"),
)
