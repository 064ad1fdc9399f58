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

import numpy as np

from varve.promql import engine
from varve.promql.engine import Engine, Plans
from varve.promql.errors import QueryCanceledError, QueryTimeoutError
from varve.promql.evaluation.limits import Limits
from varve.promql.evaluation.values import QueryResult, Stats
from varve.promql.evaluation.workers import Workers
from varve.promql.explain import explain as explained
from varve.promql.interrupt import Check, never
from varve.query import step_cache, step_sources
from varve.query.absence import why_empty
from varve.query.derived_storage import derived_metric, storage_of
from varve.query.executors import Executors
from varve.query.memory import Reservation
from varve.query.provenance import Provenance
from varve.query.reader import Reader
from varve.query.sampling import Sample
from varve.query.step_cache import KeptSteps, Steps
from varve.query.step_sources import StepSources
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
    infos about selectors that had no samples. `steps` keeps steps of range queries from one to the
    next; None computes all of them. `plans` are kept from query to query. `tier` is one of
    model.window.TIER_NAMES that all selectors are to be answered from as far as it goes; None
    leaves the choice to each. `executors` compute what is too much for this machine; without any
    all is computed here. `give_way` is called wherever it is looked whether the query has to end,
    and may wait a little for others.
    """

    limits: Limits = field(default_factory=Limits)
    lookback_ms: int = 300_000
    workers: Workers | None = None
    cancelled: threading.Event | None = None
    deadline_s: float = math.inf
    memory: Reservation = field(default_factory=Reservation)
    newer_view: Callable[[View], View] | None = None
    say_why_empty: bool = False
    steps: Steps | None = None
    tier: str | None = None
    executors: Executors | None = None
    give_way: Check = never
    plans: Plans = field(default_factory=Plans, compare=False, repr=False)

    def check_running(self) -> None:
        """Raises QueryCanceledError or QueryTimeoutError if a query has to end now."""
        self.give_way()
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
        if isinstance(times, Range) and options.steps is not None:
            found = _from_steps(on, expression, times, options, options.steps)
            if found is not None:
                return found
        return _evaluated(*engine_of(on, options), expression, times, options)

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
            engine_of(on, options)[0],
            expression,
            span.start_ms,
            span.end_ms,
            span.step_ms,
            run=run,
            cancelled=options.cancelled,
        )
        return text.splitlines()

    return _on_newest(view, options, describe)


def _evaluated(
    running: Engine, reader: Reader, expression: str, times: Times, options: Options
) -> Answer:
    if isinstance(times, Range):
        result = running.range(
            expression, times.start_ms, times.end_ms, times.step_ms, cancelled=options.cancelled
        )
    else:
        result = running.instant(expression, times, cancelled=options.cancelled)
    if options.say_why_empty and result.kind in {"vector", "matrix"} and not len(result.order):
        result = replace(result, infos=[*result.infos, *why_empty(reader)])
    return Answer(result, reader.provenance)


def _from_steps(
    view: View, expression: str, times: Range, options: Options, cache: Steps
) -> Answer | None:
    """The answer from steps that are kept, and from those of them that had to be computed; None if
    steps of such a query are not kept. What was computed is kept from then on.
    """
    versions = step_sources.versions_of(view)
    if versions is None or times.step_ms <= 0 or times.end_ms <= times.start_ms:
        return None
    running, reader = engine_of(view, options)
    plan = running.plan(expression, options.check_running)
    reaches = step_cache.reaches_of(plan, options.lookback_ms)
    if reaches is None or any(derived_metric(reach.matchers) for reach in reaches):
        return None
    running.options.limits.check_steps((times.end_ms - times.start_ms) // times.step_ms + 1)
    grid = np.arange(times.start_ms, times.end_ms + 1, times.step_ms, dtype=np.int64)
    sources = step_sources.sources_of(reader, reaches, grid)
    if sources is None:
        return None
    key = step_cache.key_of(view.table, expression, times, options.lookback_ms, options.tier)
    kept = cache.get(key)
    if kept is not None and not kept.is_of_or_before(versions):
        return _evaluated(running, reader, expression, times, options)
    if kept is not None:
        joined = _joined(view, running, expression, options, kept, sources)
        if joined is not None and len(joined[0].result.order):
            cache.put(key, joined[1])
            return joined[0]
    answer = _evaluated(running, reader, expression, times, options)
    fresh = step_cache.keepable(answer.result, versions, sources.marks)
    if fresh is not None:
        cache.put(key, fresh)
    return answer


def _joined(
    view: View,
    running: Engine,
    expression: str,
    options: Options,
    kept: KeptSteps,
    sources: StepSources,
) -> tuple[Answer, KeptSteps] | None:
    """The answer and its steps, most of them from those that are kept; None if that is not so."""
    started = time.perf_counter()
    usable = sources.unchanged(kept, view)
    pieces = None if usable is None else step_cache.missing_pieces(usable)
    versions = step_sources.versions_of(view)
    if pieces is None or versions is None:
        return None
    reader = engine_of(view, options)[1]
    computed, touched, selected = [], 0, 0
    grid = sources.times
    step_ms = int(grid[1] - grid[0])
    for piece in pieces:
        sources.plan_pieces(reader, piece)
        first, last = int(grid[piece.start]), int(grid[piece.stop - 1])
        part = running.over(storage_of(reader)).range(
            expression, first, last, step_ms, cancelled=options.cancelled
        )
        fresh = step_cache.keepable(part, versions, sources.marks[:, piece])
        if fresh is None:
            return None
        computed.append((piece, fresh))
        touched += part.stats.samples_touched
        selected = max(selected, part.stats.series_selected)
    steps = step_cache.join(kept, grid, computed, versions, sources.marks, options.memory.take)
    stats = Stats(touched, selected, time.perf_counter() - started)
    result = step_cache.result_of(steps, stats, options.check_running)
    missing = sum(piece.stop - piece.start for piece in pieces)
    provenance = sources.provenance(reader.provenance)
    return Answer(result, replace(provenance, cached=len(grid) - missing)), steps


def _on_newest(view: View, options: Options, work: Callable[[View], T]) -> T:
    """What `work` gives for the view, or for the next one if a file is gone from this one."""
    try:
        return work(view)
    except FileGone:
        newer = view if options.newer_view is None else options.newer_view(view)
        if newer is view:
            raise
        return work(newer)


def engine_of(view: View, options: Options, sample: Sample | None = None) -> tuple[Engine, Reader]:
    """An engine within the options, and what it reads by. sample: draws the series it reads."""
    now_s = time.monotonic()
    timeout_s = min(options.limits.timeout_s or math.inf, max(options.deadline_s - now_s, 0.0))
    limits = replace(options.limits, timeout_s=None if math.isinf(timeout_s) else timeout_s)
    within = replace(options, deadline_s=now_s + timeout_s)
    check, most = within.check_running, limits.max_samples
    reader = Reader(view, options.memory, check, most, options.tier, sample, options.executors)
    evaluation = engine.Options(
        lookback_ms=options.lookback_ms,
        limits=limits,
        workers=options.workers,
        take=options.memory.take,
        give_way=options.give_way,
    )
    return Engine(storage_of(reader), evaluation, options.plans), reader
