"""PromQL requests: parameters to the engine, its results to Prometheus' JSON.

Source: Prometheus 3, web/api/v1/api.go (query, queryRange, formatQuery, parseQuery).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from varve.api import parameters
from varve.api.catalogue import TRUNCATED
from varve.api.parameters import Parameters, invalid
from varve.model.errors import BadRequest
from varve.promql import engine, result_json
from varve.promql.engine import Engine
from varve.promql.evaluation.limits import Limits
from varve.promql.evaluation.values import QueryResult, Stats
from varve.promql.evaluation.workers import Workers
from varve.promql.explain import explain
from varve.promql.syntax.parser import parse
from varve.promql.syntax.pretty import pretty
from varve.promql.syntax.tree_json import to_json
from varve.query.view import View

MOST_NOTES = 10
"""Warnings, and infos, in one answer, as in Prometheus."""


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
    return _answer(result, most, given)


def range_(view: View, given: Parameters, options: Options, cancelled: threading.Event) -> Answer:
    """The values from start to end, a step apart. Raises BadRequest or QueryError."""
    most = parameters.limit(given)
    times = _times(given)
    result = _engine(view, given, options).range(given.get("query"), *times, cancelled=cancelled)
    return _answer(result, most, given)


def explained(
    view: View, given: Parameters, options: Options, cancelled: threading.Event, now_ms: int
) -> Answer:
    """The plan of an instant query, or of a range query if there is a start, as lines of text.

    With run=1 it is evaluated, and the plan says what it read. Raises BadRequest or QueryError.
    """
    if given.get("start"):
        start_ms, end_ms, step_ms = _times(given)
    else:
        start_ms, step_ms = parameters.time_ms(given, "time", now_ms), 0
        end_ms = start_ms
    run = given.get("run")
    if run not in ("", "0", "1"):
        raise invalid("run", f'"{run}" is neither 0 nor 1')
    engine = _engine(view, given, options)
    query = given.get("query")
    text = explain(engine, query, start_ms, end_ms, step_ms, run=run == "1", cancelled=cancelled)
    return Answer(text.splitlines())


def format_query(given: Parameters) -> str:
    """The query laid out over lines. Raises ParseError."""
    return pretty(parse(given.get("query")))


def parse_query(given: Parameters) -> dict[str, Any]:
    """The query's tree. Raises ParseError."""
    return to_json(parse(given.get("query")))


def _times(given: Parameters) -> tuple[int, int, int]:
    """start, end and step of a range query, ms. Raises BadRequest."""
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
    return start_ms, end_ms, step_ms


def _engine(view: View, given: Parameters, options: Options) -> Engine:
    timeout_s = options.limits.timeout_s
    if asked := given.get("timeout"):
        seconds = parameters.duration_ms(given, "timeout") / 1000
        if seconds <= 0:
            raise invalid("timeout", f'"{asked}" is not above zero')
        timeout_s = seconds if timeout_s is None else min(seconds, timeout_s)
    lookback_ms = _lookback_ms(given) or options.lookback_ms
    limits = replace(options.limits, timeout_s=timeout_s)
    return Engine(
        view, engine.Options(lookback_ms=lookback_ms, limits=limits, workers=options.workers)
    )


def _lookback_ms(given: Parameters) -> int:
    """0 unless one above zero is given."""
    text = given.get("lookback_delta")
    try:
        return max(0, parameters.parse_duration_ms(text)) if text else 0
    except ValueError as err:
        raise BadRequest(f"error parsing lookback delta duration: {err}") from err


def _answer(result: QueryResult, most: int, given: Parameters) -> Answer:
    """most: series in the answer, 0 for all."""
    warnings = _shortened(result.warnings, "warning")
    if most and len(result.order) > most:
        result = replace(result, order=result.order[:most])
        warnings.append(TRUNCATED)
    data = result_json.to_json(result)
    if given.get("stats"):
        data = data[:-1] + b',"stats":' + json.dumps(_statistics(result.stats)).encode() + b"}"
    infos = _shortened(result.infos, "info")
    return Answer(data, warnings, infos, result.stats.samples_touched)


def _shortened(notes: Sequence[str], level: str) -> list[str]:
    """The first ones, and how many more there are."""
    shown = list(notes[:MOST_NOTES])
    if len(notes) > MOST_NOTES:
        shown.append(f"{len(notes) - MOST_NOTES} more {level} annotations omitted")
    return shown


def _statistics(stats: Stats) -> dict[str, Any]:
    """What stats= asks for. There is no queue, and all else is part of one evaluation."""
    seconds = dict.fromkeys(("evalTotalTime", "innerEvalTime", "execTotalTime"), stats.elapsed_s)
    none = dict.fromkeys(("resultSortTime", "queryPreparationTime", "execQueueTime"), 0)
    samples = {
        "totalQueryableSamples": stats.samples_touched,
        "peakSamples": stats.peak_samples,
    }
    return {"timings": seconds | none, "samples": samples}
