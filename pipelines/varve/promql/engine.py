"""Runs PromQL queries: text and times in, columns out.

    engine = Engine(storage)
    result = engine.instant("up", now_ms)
    result = engine.range("sum(rate(x[5m]))", start_ms, end_ms, step_ms)
    data = result_json.to_json(result)

An engine may be used from many threads at once. A query runs on the caller's thread, and parts of
it on others if Options.workers lends them. Call kernels.warm_up() at start-up, or the first queries
wait for compiled code to be loaded.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from varve.promql.errors import BadQueryError
from varve.promql.evaluation.context import Evaluation
from varve.promql.evaluation.limits import Budget, Limits
from varve.promql.evaluation.values import (
    Int64s,
    Matrix,
    QueryResult,
    RangeVector,
    Stats,
    Steps,
    Value,
)
from varve.promql.evaluation.workers import Workers
from varve.promql.evaluator import HANDLERS
from varve.promql.functions.conversion import one_series
from varve.promql.interrupt import Check, Interrupt, never
from varve.promql.plan.build import build
from varve.promql.plan.durations import QueryRange
from varve.promql.plan.nodes import Plan
from varve.promql.signatures import ValueType
from varve.promql.storage import Storage
from varve.promql.syntax.parser import parse

_LONGEST_KEPT: Final = 10_000
"""Texts of more characters keep no plan, which takes some hundred times their size."""

_NO_ROWS: Int64s = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Options:
    """How queries are evaluated.

    lookback_ms: how far back an instant selector looks. default_step_ms: the step of subqueries
    that state none. type_and_unit_labels: whether rate() judges counters by the label __type__
    instead of by name. workers: who lends idle cores to
    independent parts of a query; None keeps all of it on the caller's thread. take: asked for the
    bytes of what a query holds, before it does. give_way: called wherever a query looks whether it
    has to stop, to wait a little for others.
    """

    lookback_ms: int = 300_000
    default_step_ms: int = 60_000
    type_and_unit_labels: bool = False
    limits: Limits = field(default_factory=Limits)
    workers: Workers | None = None
    take: Callable[[int], None] | None = None
    give_way: Callable[[], None] = never


class Plans:
    """The plans of the query texts that were used last; engines may share them. Thread-safe."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, query: str, check: Check = never) -> Plan:
        """Returns the plan of a query text. Raises ParseError if it is no PromQL."""
        with self._lock:
            known = self._plans.get(query)
            if known is not None:
                self._plans.move_to_end(query)
                return known
        plan = build(query, parse(query, check), check)
        with self._lock:
            if len(query) <= _LONGEST_KEPT:
                self._plans[query] = plan
            while len(self._plans) > self._most:
                self._plans.popitem(last=False)
        return plan


class Engine:
    """Evaluates queries over one storage. plans: those of other engines, to share them."""

    def __init__(
        self, storage: Storage, options: Options | None = None, plans: Plans | None = None
    ) -> None:
        self.storage = storage
        self.options = options or Options()
        self.plans = plans or Plans()

    def over(self, storage: Storage) -> Engine:
        """An engine over another storage, which shares the plans that are kept."""
        return Engine(storage, self.options, self.plans)

    def plan(self, query: str, check: Check = never) -> Plan:
        """Returns the plan of a query text. Raises ParseError if it is no PromQL."""
        return self.plans.of(query, check)

    def instant(
        self,
        query: str,
        at_ms: int,
        *,
        cancelled: threading.Event | None = None,
        deadline: float | None = None,
        lookback_ms: int | None = None,
    ) -> QueryResult:
        """Returns the value at one time. Raises some kind of QueryError if there is none.

        Setting `cancelled` from another thread stops the query within 250 ms, and so does the
        deadline, in seconds of time.monotonic(): QueryCanceledError, QueryTimeoutError. Without a
        deadline the query may take the timeout of the limits from now on.
        """
        started = time.perf_counter()
        check = self.interrupt(cancelled, deadline).check
        plan = self.plan(query, check)
        ev = self.evaluation(plan, QueryRange(at_ms, at_ms, 0), check, lookback_ms)
        steps = Steps.instant(at_ms)
        value = self._evaluate(ev, plan, steps)
        return _instant_result(plan, ev, steps, value, started)

    def range(
        self,
        query: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        *,
        cancelled: threading.Event | None = None,
        deadline: float | None = None,
        lookback_ms: int | None = None,
    ) -> QueryResult:
        """Returns the values at start, start + step, ... up to and with end. See also `instant`."""
        started = time.perf_counter()
        if step_ms <= 0:
            raise BadQueryError("zero or negative query resolution step widths are not accepted")
        if end_ms < start_ms:
            raise BadQueryError("end timestamp must not be before start time")
        check = self.interrupt(cancelled, deadline).check
        plan = self.plan(query, check)
        if plan.root.type not in (ValueType.SCALAR, ValueType.VECTOR):
            raise BadQueryError(
                f'invalid expression type "{plan.root.type.documented}" for range query,'
                " must be Scalar or instant Vector"
            )
        steps = Steps.between(start_ms, end_ms, step_ms)
        self.options.limits.check_steps(steps.count)
        query_range = QueryRange(start_ms, end_ms, step_ms)
        ev = self.evaluation(plan, query_range, check, lookback_ms)
        value = self._evaluate(ev, plan, steps)
        return _range_result(plan, ev, steps, value, started)

    def evaluation(
        self,
        plan: Plan,
        query: QueryRange,
        check: Check = never,
        lookback_ms: int | None = None,
    ) -> Evaluation:
        """Returns a run of `plan` that has not begun."""
        options = self.options
        return Evaluation(
            self.storage,
            query,
            Budget(options.limits, check, options.take),
            HANDLERS,
            lookback_ms or options.lookback_ms,
            options.default_step_ms,
            options.type_and_unit_labels,
            plan.shared,
            options.workers,
        )

    def interrupt(self, cancelled: threading.Event | None, deadline: float | None) -> Interrupt:
        """When a query that starts now has to stop. The default deadline is that of the limits."""
        timeout_s = self.options.limits.timeout_s
        if deadline is None and timeout_s is not None:
            deadline = time.monotonic() + timeout_s
        return Interrupt(deadline, cancelled, give_way=self.options.give_way)

    def _evaluate(self, ev: Evaluation, plan: Plan, steps: Steps) -> Value:
        if ev.workers is None:
            return ev.eval(plan.root, steps)
        with ev.workers.busy():
            return ev.eval(plan.root, steps)


def _instant_result(
    plan: Plan, ev: Evaluation, steps: Steps, value: Value, started: float
) -> QueryResult:
    if isinstance(value, str):
        return _result(plan, ev, steps, value, _NO_ROWS, started)
    if isinstance(value, Matrix):
        value = value.without_dropped_names(ev.check)
        order = np.flatnonzero(value.present[:, 0])
        return _result(plan, ev, steps, value, order, started)
    if isinstance(value, RangeVector):
        return _result(plan, ev, steps, value, value.labels.sort_order(ev.check), started)
    return _result(plan, ev, steps, float(value[0]), _NO_ROWS, started)


def _range_result(
    plan: Plan, ev: Evaluation, steps: Steps, value: Value, started: float
) -> QueryResult:
    if isinstance(value, np.ndarray):
        value = one_series(value)
    if not isinstance(value, Matrix):
        raise TypeError(f"a range query gave {type(value).__name__}")
    value = value.without_dropped_names(ev.check)
    order = value.labels.sort_order(ev.check)
    order = order[value.has_samples()[order]]
    return _result(plan, ev, steps, value, order, started)


def _result(
    plan: Plan,
    ev: Evaluation,
    steps: Steps,
    value: float | str | Matrix | RangeVector,
    order: Int64s,
    started: float,
) -> QueryResult:
    kinds = {float: "scalar", str: "string", RangeVector: "matrix"}
    kind = "matrix" if ev.is_range_query else "vector"
    elapsed = time.perf_counter() - started
    return QueryResult(
        kinds.get(type(value), kind),  # type: ignore[arg-type]
        value,
        order,
        steps.times,
        ev.annotations.rendered(plan.query, "warning"),
        ev.annotations.rendered(plan.query, "info"),
        Stats(ev.budget.samples_touched, ev.series_selected, elapsed, ev.budget.peak),
        ev.budget.check_running,
    )
