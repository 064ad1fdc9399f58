"""Nodes of a plan. A node that occurs more than once in a query is one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from varve.promql.signatures import Function, ValueType
from varve.promql.syntax.ast import NOWHERE, At, Duration, Matcher, Span, VectorMatching


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Node:
    """`span` is where the node stands in the query."""

    span: Span = NOWHERE
    type: ValueType = ValueType.VECTOR

    def children(self) -> tuple[Node, ...]:
        return ()


@dataclass(frozen=True, slots=True, eq=False)
class Number(Node):
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Text(Node):
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """What a selector asks of the storage.

    stats_only: only counts and sums of native histograms are wanted, which then are marked
    with the counter resets that they show.
    """

    matchers: tuple[Matcher, ...]
    offset: Duration | None = None
    at: At | None = None
    anchored: bool = False
    smoothed: bool = False
    stats_only: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InstantSelect(Node):
    selector: Selector


@dataclass(frozen=True, slots=True, eq=False)
class RangeSelect(Node):
    selector: Selector
    range: Duration


@dataclass(frozen=True, slots=True, eq=False)
class SubquerySelect(Node):
    expr: Node
    range: Duration
    step: Duration | None
    offset: Duration | None
    at: At | None

    def children(self) -> tuple[Node, ...]:
        return (self.expr,)


@dataclass(frozen=True, slots=True, eq=False)
class RangeCall(Node):
    """A function of a range vector. parameters: its scalar arguments, in order.

    first_span: where the first argument stands, whichever it is: annotations point there.
    """

    function: Function
    source: RangeSelect | SubquerySelect
    parameters: tuple[Node, ...] = ()
    first_span: Span = NOWHERE

    def children(self) -> tuple[Node, ...]:
        return (self.source, *self.parameters)

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def kernel(self) -> int:
        """The function's number in kernels.codes."""
        return cast(int, self.function.kernel)


@dataclass(frozen=True, slots=True, eq=False)
class FunctionCall(Node):
    """A function of vectors, scalars and strings. `arg_spans` is where the arguments stand."""

    func: str
    args: tuple[Node, ...]
    arg_spans: tuple[Span, ...]

    def children(self) -> tuple[Node, ...]:
        return self.args


@dataclass(frozen=True, slots=True, eq=False)
class Aggregation(Node):
    op: str
    expr: Node
    param: Node | None
    grouping: tuple[str, ...]
    without: bool
    expr_span: Span
    param_span: Span

    def children(self) -> tuple[Node, ...]:
        return (self.expr,) if self.param is None else (self.param, self.expr)


@dataclass(frozen=True, slots=True, eq=False)
class FusedAggregation(Node):
    """An aggregation that takes samples straight to groups, in one kernel.

    `plain` is the same in two steps, for samples that are not all floats. kernel: the aggregation's
    number in kernels.codes.
    """

    plain: Aggregation
    source: InstantSelect | RangeCall
    kernel: int

    def children(self) -> tuple[Node, ...]:
        return self.source.children()


@dataclass(frozen=True, slots=True, eq=False)
class BinaryOperation(Node):
    op: str
    lhs: Node
    rhs: Node
    return_bool: bool
    matching: VectorMatching | None

    def children(self) -> tuple[Node, ...]:
        return (self.lhs, self.rhs)


@dataclass(frozen=True, slots=True, eq=False)
class Negation(Node):
    expr: Node

    def children(self) -> tuple[Node, ...]:
        return (self.expr,)


@dataclass(frozen=True, slots=True, eq=False)
class Invariant(Node):
    """Gives the same at every step, so it is evaluated at the first one and repeated."""

    expr: Node

    def children(self) -> tuple[Node, ...]:
        return (self.expr,)


@dataclass(frozen=True, slots=True)
class Plan:
    """A query ready to run. `shared` has the ids of the nodes that are used more than once."""

    query: str
    root: Node
    shared: frozenset[int] = field(default_factory=frozenset)


def walk(root: Node) -> Iterator[Node]:
    """`root` and every node below, each once, parents first."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(node.children())
