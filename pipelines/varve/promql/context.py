"""What the parts of one running query share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from varve.promql.annotations import Annotations
from varve.promql.limits import Budget
from varve.promql.plan.durations import QueryRange
from varve.promql.plan.nodes import Node
from varve.promql.storage import Storage
from varve.promql.values import Matrix, Scalar, Steps, Value

Handler = Callable[["Evaluation", Any, Steps], Value]


@dataclass(slots=True)
class Evaluation:
    """One run of a plan. Not for use from two threads at once.

    lookback_ms: how far an instant selector reaches back. default_step_ms: of subqueries that
    state none. type_and_unit_labels: judge counters by the label __type__ instead of the name.
    actual: for each plan node how many series and samples it gave, where that is recorded.
    """

    storage: Storage
    query: QueryRange
    budget: Budget
    handlers: Mapping[type[Node], Handler]
    lookback_ms: int = 300_000
    default_step_ms: int = 60_000
    type_and_unit_labels: bool = False
    shared: frozenset[int] = frozenset()
    annotations: Annotations = field(default_factory=Annotations)
    actual: dict[int, tuple[int, int]] = field(default_factory=dict)
    series_selected: int = 0
    _remembered: dict[tuple[int, Steps], Value] = field(default_factory=dict)

    def eval(self, node: Node, steps: Steps) -> Value:
        """The value of `node` at `steps`; what is shared in the plan is evaluated once."""
        key = (id(node), steps)
        if id(node) in self.shared:
            known = self._remembered.get(key)
            if known is not None:
                return known
        self.budget.check_running()
        value = self.handlers[type(node)](self, node, steps)
        if id(node) in self.shared:
            self._remembered[key] = value
        return value

    def matrix(self, node: Node, steps: Steps) -> Matrix:
        """The value of a node that is an instant vector."""
        return cast(Matrix, self.eval(node, steps))

    def scalar(self, node: Node, steps: Steps) -> Scalar:
        """The value of a node that is a scalar."""
        return cast(Scalar, self.eval(node, steps))

    @property
    def is_range_query(self) -> bool:
        return self.query.step > 0
