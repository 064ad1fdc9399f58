"""PromQL over HTTP: parameters to an evaluation, its result to Prometheus' JSON.

Source: Prometheus 3, web/api/v1/api.go (query, queryRange, formatQuery, parseQuery).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from varve.api.call import TRUNCATED, Answer, Call
from varve.api.parameters import Parameters, invalid
from varve.model.errors import BadRequest
from varve.model.window import TIER_NAMES
from varve.promql import result_json
from varve.promql.evaluation.values import Matrix, QueryResult, RangeVector, Stats
from varve.promql.evaluation.workers import Workers
from varve.promql.syntax.parser import parse
from varve.promql.syntax.pretty import pretty
from varve.promql.syntax.tree_json import to_json
from varve.query import evaluation
from varve.query.degraded import evaluate_or_estimate
from varve.query.evaluation import Options, Range, Times, evaluate
from varve.query.times import parse_duration_ms

# A point in JSON: a time, a number, quotes and brackets.
_POINT_BYTES = 40
# A series in JSON without its points: some labels.
_SERIES_BYTES = 200

MOST_NOTES = 10
"""Warnings, and infos, in one answer, as in Prometheus."""


def query(call: Call) -> Answer:
    """Answers with the value at one time, by default now. Raises BadRequest or QueryError."""
    return _evaluated(call, call.parameters.time_ms("time", call.now_ms))


def query_range(call: Call) -> Answer:
    """Answers with the values from start to end, a step apart. Raises BadRequest or QueryError."""
    return _evaluated(call, _range(call.parameters))


def explain(call: Call) -> Answer:
    """Answers with the plan of an instant query, or of a range query if there is a start.

    With run=1 it is evaluated, and the plan says what it read. Raises BadRequest or QueryError.
    """
    given = call.parameters
    times: Times = _range(given) if given.get("start") else given.time_ms("time", call.now_ms)
    run = given.get("run")
    if run not in ("", "0", "1"):
        raise invalid("run", f'"{run}" is neither 0 nor 1')
    options = _options(given, call.options)
    lines = evaluation.explain(call.view, given.get("query"), times, options, run=run == "1")
    return Answer(lines)


def format_query(call: Call) -> Answer:
    """Answers with the query laid out over lines. Raises ParseError."""
    return Answer(pretty(parse(call.parameters.get("query"))))


def parse_query(call: Call) -> Answer:
    """Answers with the query's syntax tree. Raises ParseError."""
    return Answer(to_json(parse(call.parameters.get("query"))))


def answer_of(
    result: QueryResult,
    most: int = 0,
    *,
    statistics: bool = False,
    workers: Workers | None = None,
) -> Answer:
    """A result in Prometheus' JSON; the first `most` series, or all if it is 0. workers: as of
    `result_json.to_json`.
    """
    warnings = _shortened(result.warnings, "warning")
    if most and len(result.order) > most:
        result = replace(result, order=result.order[:most])
        warnings.append(TRUNCATED)
    data = result_json.to_json(result, workers)
    if statistics:
        data = data[:-1] + b',"stats":' + json.dumps(_statistics(result.stats)).encode() + b"}"
    infos = _shortened(result.infos, "info")
    return Answer(data, warnings, infos, result.stats.samples_touched)


def _evaluated(call: Call, times: Times) -> Answer:
    given = call.parameters
    most = given.limit()
    options = _options(given, call.options)
    run = evaluate_or_estimate if _may_degrade(given) else evaluate
    found = run(call.view, given.get("query"), times, options)
    options.check_running()
    options.memory.take(_json_bytes(found.result))
    statistics = bool(given.get("stats"))
    answer = answer_of(found.result, most, statistics=statistics, workers=options.workers)
    return replace(answer, provenance=found.provenance)


def _json_bytes(result: QueryResult) -> int:
    """About what the JSON of a result takes while it is written and copied once."""
    value = result.value
    if isinstance(value, Matrix):
        points = int(np.count_nonzero(value.present))
    elif isinstance(value, RangeVector):
        points = int((value.samples.ends - value.samples.begins).sum())
    else:
        return 0
    return 2 * (points * _POINT_BYTES + len(result.order) * _SERIES_BYTES)


def _range(given: Parameters) -> Range:
    start_ms, end_ms = given.time_ms("start"), given.time_ms("end")
    if end_ms < start_ms:
        raise invalid("end", "end timestamp must not be before start time")
    step_ms = given.duration_ms("step")
    if step_ms <= 0:
        raise invalid(
            "step",
            "zero or negative query resolution step widths are not accepted."
            " Try a positive integer",
        )
    return Range(start_ms, end_ms, step_ms)


def _options(given: Parameters, options: Options) -> Options:
    """The call's options, with the lookback and the tier that it asks for. Where it asks for
    statistics nothing that was computed before is used.
    """
    lookback_ms = _lookback_ms(given) or options.lookback_ms
    steps = None if given.get("stats") else options.steps
    return replace(options, lookback_ms=lookback_ms, tier=_tier(given), steps=steps)


def _may_degrade(given: Parameters) -> bool:
    """Whether an estimate will do where the answer itself takes too much."""
    text = given.get("degrade")
    if text not in ("", "sample"):
        raise invalid("degrade", f'"{text}" is not sample')
    return text == "sample"


def _tier(given: Parameters) -> str | None:
    """The tier that was asked for; None if the choice is left to the service."""
    text = given.get("tier")
    if text and text not in TIER_NAMES:
        raise invalid("tier", f'"{text}" is none of {", ".join(TIER_NAMES)}')
    return text or None


def _lookback_ms(given: Parameters) -> int:
    """The lookback that was asked for; 0 unless it is above zero."""
    text = given.get("lookback_delta")
    try:
        return max(0, parse_duration_ms(text)) if text else 0
    except ValueError as err:
        raise BadRequest(f"error parsing lookback delta duration: {err}") from err


def _shortened(notes: Sequence[str], level: str) -> list[str]:
    """The first notes, and a line that says how many more there are."""
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
