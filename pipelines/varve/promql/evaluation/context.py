"""What the parts of one running query share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from varve.promql.evaluation.annotations import Annotations
from varve.promql.evaluation.limits import Budget
from varve.promql.evaluation.values import Matrix, RangeVector, Scalar, Steps, Value
from varve.promql.evaluation.workers import Workers
from varve.promql.interrupt import Check
from varve.promql.plan.durations import QueryRange
from varve.promql.plan.nodes import FunctionCall, Node
from varve.promql.storage import Storage, TierChoice, WindowFunction
from varve.promql.syntax.ast import Matcher

Handler = Callable[["Evaluation", Any, Steps], Value]
"""Evaluates the nodes of one kind."""
Implementation = Callable[["Evaluation", FunctionCall, Steps], Value]
"""Computes one function of vectors, scalars and strings."""
Key = tuple[int, Steps]
"""The id of a node and the steps at which it is evaluated."""


@dataclass(frozen=True, slots=True)
class NodeStats:
    """What a selector selected or a kernel read. A kernel counts a sample once for every window."""

    series: int
    samples: int


@dataclass(slots=True)
class Evaluation:
    """One run of a plan, or of a branch of it. It must not be used from two threads at once.

    lookback_ms: how far an instant selector reaches back. default_step_ms: the step of subqueries
    that state none. type_and_unit_labels: counters are told by the label __type__ instead of the
    name. workers: who lends threads for branches; None keeps all of it on one. node_stats: what was
    read, by the id of the plan node. futures: the values that another thread may be evaluating;
    calling one waits for it.
    """

    storage: Storage
    query: QueryRange
    budget: Budget
    handlers: Mapping[type[Node], Handler]
    lookback_ms: int = 300_000
    default_step_ms: int = 60_000
    type_and_unit_labels: bool = False
    shared: frozenset[int] = frozenset()
    workers: Workers | None = None
    annotations: Annotations = field(default_factory=Annotations)
    node_stats: dict[int, NodeStats] = field(default_factory=dict)
    futures: dict[Key, Callable[[], Value]] = field(default_factory=dict)
    series_selected: int = 0
    _remembered: dict[Key, Value] = field(default_factory=dict)
    _counts: dict[tuple[tuple[Matcher, ...], int, int], tuple[int, int]] = field(
        default_factory=dict
    )
    _choices: dict[tuple[tuple[Matcher, ...], WindowFunction], TierChoice | None] = field(
        default_factory=dict
    )

    def branch(self) -> Evaluation:
        """Returns an evaluation for a part of the plan that shares nothing with the rest of it."""
        return replace(
            self,
            budget=self.budget.branch(),
            annotations=Annotations(),
            node_stats={},
            futures={},
            series_selected=0,
        )

    def join(self, branch: Evaluation) -> None:
        """Adds what `branch` took and noted to this one. Raises LimitError if that is too much."""
        self.budget.join(branch.budget)
        self.annotations.merge(branch.annotations)
        self.node_stats.update(branch.node_stats)
        self.series_selected += branch.series_selected

    def eval(self, node: Node, steps: Steps) -> Value:
        """Returns the value of `node` at `steps`. What is shared in the plan is evaluated once."""
        key = (id(node), steps)
        # This goes before the remembered values: another thread may have remembered this one, but
        # what it took is not counted here yet.
        if self.futures and (future := self.futures.pop(key, None)) is not None:
            return future()
        is_shared = key[0] in self.shared
        if is_shared:
            known = self._remembered.get(key)
            if known is not None:
                return known
        self.budget.check_running()
        before = self.budget.held
        value = self.handlers[type(node)](self, node, steps)
        self.budget.held = before
        if is_shared:
            self._remembered[key] = value
            self.budget.kept += size_of(value)
        else:
            self.budget.held += size_of(value)
        return value

    def matrix(self, node: Node, steps: Steps) -> Matrix:
        """The value of a node that is an instant vector."""
        return cast(Matrix, self.eval(node, steps))

    def scalar(self, node: Node, steps: Steps) -> Scalar:
        """The value of a node that is a scalar."""
        return cast(Scalar, self.eval(node, steps))

    def counted(self, matchers: tuple[Matcher, ...], start_ms: int, end_ms: int) -> tuple[int, int]:
        """Storage.count, which is asked once for the same arguments."""
        key = (matchers, start_ms, end_ms)
        known = self._counts.get(key)
        if known is None:
            known = self._counts[key] = self.storage.count(matchers, start_ms, end_ms, self.check)
        return known

    def chosen(self, matchers: tuple[Matcher, ...], windows: WindowFunction) -> TierChoice | None:
        """Storage.choose, which is asked once for the same arguments."""
        key = (matchers, windows)
        if key not in self._choices:
            self._choices[key] = self.storage.choose(matchers, windows, self.check)
        return self._choices[key]

    @property
    def check(self) -> Check:
        """Whether the query has to stop: see interrupt.py."""
        return self.budget.check_running

    @property
    def is_range_query(self) -> bool:
        return self.query.step > 0


def size_of(value: Value) -> int:
    """How many samples or values a result holds."""
    if isinstance(value, Matrix):
        return value.values.size
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, RangeVector):
        return int((value.samples.ends - value.samples.begins).sum())
    return 0
