"""Evaluates PromQL over a view of the tables, for whoever needs an answer.

The HTTP API, the command line, rules and jobs call this; it knows neither HTTP nor settings.

    answer = evaluate(tables.view, "sum(rate(x[5m]))", Range(start_ms, end_ms, step_ms), options)
    answer.result, answer.provenance
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from varve.promql import engine
from varve.promql.engine import Engine
from varve.promql.errors import QueryCanceledError, QueryTimeoutError
from varve.promql.evaluation.limits import Limits
from varve.promql.evaluation.values import QueryResult
from varve.promql.evaluation.workers import Workers
from varve.promql.explain import explain as explained
from varve.query.absence import why_empty
from varve.query.memory import Reservation
from varve.query.provenance import Provenance
from varve.query.reader import Reader
from varve.query.view import FileGone, View

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """The times start, start + step, ... up to and with end. Unix ms."""

    start_ms: int
    end_ms: int
    step_ms: int


Times = int | Range
"""When a query is evaluated: at one time, Unix ms, or over a range."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a query is evaluated.

    `lookback_ms` is how far an instant selector reaches back. `workers` lends idle cores to
    independent parts of the query; None keeps it on the caller's thread. Setting `cancelled` from
    another thread ends the query before its next file or kernel. `deadline_s`, of time.monotonic(),
    ends it if it comes before limits.timeout_s is over. `memory` is asked for what the query reads;
    its owner releases it once the answer is no longer used. `newer_view` gives the view that comes
    after one, waiting for it a little: a query that meets a deleted file is evaluated again on it,
    once. It returns the same view if none came. With `say_why_empty` an answer without series has
    infos about selectors that had no samples. `tier` is one of model.window.TIER_NAMES that all
    selectors are to be answered from as far as it goes; None leaves the choice to each.
    """

    limits: Limits = field(default_factory=Limits)
    lookback_ms: int = 300_000
    workers: Workers | None = None
    cancelled: threading.Event | None = None
    deadline_s: float = math.inf
    memory: Reservation = field(default_factory=Reservation)
    newer_view: Callable[[View], View] | None = None
    say_why_empty: bool = False
    tier: str | None = None

    def check_running(self) -> None:
        """Raises QueryCanceledError or QueryTimeoutError if a query has to end now."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise QueryCanceledError("query was canceled in query execution")
        if time.monotonic() > self.deadline_s:
            raise QueryTimeoutError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave, and what it was read from."""

    result: QueryResult
    provenance: Provenance


def evaluate(view: View, expression: str, times: Times, options: Options) -> Answer:
    """Evaluates PromQL. Raises QueryError of the kind that applies, ParseError for no PromQL."""

    def run(on: View) -> Answer:
        running, reader = _engine(on, options)
        if isinstance(times, Range):
            result = running.range(
                expression, times.start_ms, times.end_ms, times.step_ms, cancelled=options.cancelled
            )
        else:
            result = running.instant(expression, times, cancelled=options.cancelled)
        if options.say_why_empty and result.kind in {"vector", "matrix"} and not len(result.order):
            result = replace(result, infos=[*result.infos, *why_empty(reader)])
        return Answer(result, reader.provenance)

    return _on_newest(view, options, run)


def explain(
    view: View, expression: str, times: Times, options: Options, *, run: bool = False
) -> list[str]:
    """Describes the plan of a query, a line a node. Raises as `evaluate`.

    With `run` the query is evaluated, and the lines say what it read.
    """
    span = times if isinstance(times, Range) else Range(times, times, 0)

    def describe(on: View) -> list[str]:
        text = explained(
            _engine(on, options)[0],
            expression,
            span.start_ms,
            span.end_ms,
            span.step_ms,
            run=run,
            cancelled=options.cancelled,
        )
        return text.splitlines()

    return _on_newest(view, options, describe)


def _on_newest(view: View, options: Options, work: Callable[[View], T]) -> T:
    """What `work` gives for the view, or for the next one if a file is gone from this one."""
    try:
        return work(view)
    except FileGone:
        newer = view if options.newer_view is None else options.newer_view(view)
        if newer is view:
            raise
        return work(newer)


def _engine(view: View, options: Options) -> tuple[Engine, Reader]:
    now_s = time.monotonic()
    timeout_s = min(options.limits.timeout_s or math.inf, max(options.deadline_s - now_s, 0.0))
    limits = replace(options.limits, timeout_s=None if math.isinf(timeout_s) else timeout_s)
    within = replace(options, deadline_s=now_s + timeout_s)
    reader = Reader(view, options.memory, within.check_running, limits.max_samples, options.tier)
    evaluation = engine.Options(
        lookback_ms=options.lookback_ms, limits=limits, workers=options.workers
    )
    return Engine(reader, evaluation), reader
