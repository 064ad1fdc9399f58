"""PromQL requests: parameters to the engine, its results to Prometheus' JSON.

Source: Prometheus 3, web/api/v1/api.go (query, queryRange, formatQuery, parseQuery).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from varve.api import parameters
from varve.api.catalogue import TRUNCATED
from varve.api.parameters import Parameters, invalid
from varve.api.view import View
from varve.promql import encode, engine
from varve.promql.engine import Engine
from varve.promql.limits import Limits
from varve.promql.parser import parse
from varve.promql.pretty import pretty
from varve.promql.tree_json import to_json
from varve.promql.values import QueryResult
from varve.promql.workers import Workers


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds of every query; a request may ask for a shorter time, never for more.

    workers: who lends idle cores to independent parts of a query; None: nobody.
    """

    limits: Limits
    lookback_ms: int
    workers: Workers | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """data: what json.dumps takes, or bytes that are JSON. samples: how many were read."""

    data: Any
    warnings: Sequence[str] = ()
    infos: Sequence[str] = ()
    samples: int = 0


def instant(
    view: View, given: Parameters, options: Options, cancelled: threading.Event, now_ms: int
) -> Answer:
    """The value at one time, by default now. Raises BadRequest or QueryError."""
    most = parameters.limit(given)
    at_ms = parameters.time_ms(given, "time", now_ms)
    result = _engine(view, given, options).instant(given.get("query"), at_ms, cancelled=cancelled)
    return _answer(result, most)


def range_(view: View, given: Parameters, options: Options, cancelled: threading.Event) -> Answer:
    """The values from start to end, a step apart. Raises BadRequest or QueryError."""
    most = parameters.limit(given)
    start_ms = parameters.time_ms(given, "start")
    end_ms = parameters.time_ms(given, "end")
    if end_ms < start_ms:
        raise invalid("end", "end timestamp must not be before start time")
    step_ms = parameters.duration_ms(given, "step")
    if step_ms <= 0:
        raise invalid(
            "step",
            "zero or negative query resolution step widths are not accepted."
            " Try a positive integer",
        )
    result = _engine(view, given, options).range(
        given.get("query"), start_ms, end_ms, step_ms, cancelled=cancelled
    )
    return _answer(result, most)


def format_query(given: Parameters) -> str:
    """The query laid out over lines. Raises ParseError."""
    return pretty(parse(given.get("query")))


def parse_query(given: Parameters) -> dict[str, Any]:
    """The query's tree. Raises ParseError."""
    return to_json(parse(given.get("query")))


def _engine(view: View, given: Parameters, options: Options) -> Engine:
    timeout_s = options.limits.timeout_s
    if asked := given.get("timeout"):
        seconds = parameters.duration_ms(given, "timeout") / 1000
        if seconds <= 0:
            raise invalid("timeout", f'"{asked}" is not above zero')
        timeout_s = seconds if timeout_s is None else min(seconds, timeout_s)
    lookback_ms = parameters.duration_ms(given, "lookback_delta", options.lookback_ms)
    if lookback_ms <= 0:
        raise invalid("lookback_delta", "lookback delta must be above zero")
    limits = replace(options.limits, timeout_s=timeout_s)
    return Engine(
        view, engine.Options(lookback_ms=lookback_ms, limits=limits, workers=options.workers)
    )


def _answer(result: QueryResult, most: int) -> Answer:
    """most: series in the answer, 0 for all."""
    warnings = list(result.warnings)
    if most and len(result.order) > most:
        result = replace(result, order=result.order[:most])
        warnings.append(TRUNCATED)
    return Answer(encode.data(result), warnings, result.infos, result.stats.samples_touched)
