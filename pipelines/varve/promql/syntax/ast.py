"""The PromQL syntax tree, which the parser makes, the printer prints and the planner reads.

Nodes are frozen and compare by structure; positions take no part in comparison, so a tree
equals the tree of its printed text. Times are integer milliseconds, durations seconds as written
(literals.duration_ms is what they mean).

Chains of binary operators lean left and may be as deep as the text is long: loop over lhs. In
every other direction a tree is not deep (cursor.MAX_NESTING), so that code may recurse.
Grammar: Prometheus 3, promql/parser (ast.go, generated_parser.y).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range [start, end) of UTF-8 byte offsets into the query text."""

    start: int
    end: int


NOWHERE = Span(0, 0)


class MatchOp(enum.StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label. An absent label has the value "". Regexes are anchored."""

    name: str
    op: MatchOp
    value: str


StartOrEnd = Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class At:
    """`@` modifier: a fixed time in ms, or the query's start() or end()."""

    at: int | StartOrEnd


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    value: float
    span: Span = field(default=NOWHERE, compare=False)
    is_duration: bool = False
    """Whether it was written as a duration (`5m`), as which it is printed, too."""


@dataclass(frozen=True, slots=True)
class StringLiteral:
    value: str
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class DurationExpr:
    """Arithmetic where a duration is expected; its value is in seconds.

    op is one of + - * / % ^, or a function: step, range, min, max (written min_of and max_of).
    lhs is None for the sign - and for step() and range(); rhs is None for those two functions.
    """

    op: str
    lhs: Duration | None
    rhs: Duration | None
    wrapped: bool = False
    """Whether it was written in parentheses."""
    span: Span = field(default=NOWHERE, compare=False)


Duration = NumberLiteral | DurationExpr
"""A literal in seconds (is_duration tells how it was written), or an expression."""


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """`name{matchers} offset d @ t`. name, where written before the braces, is also a matcher.

    Matchers are in the order written, which matters to absent() alone and to no comparison: the
    printed text sorts them.
    """

    name: str
    matchers: tuple[Matcher, ...] = field(compare=False)
    offset: Duration | None = None
    at: At | None = None
    anchored: bool = False
    smoothed: bool = False
    span: Span = field(default=NOWHERE, compare=False)
    _matched: tuple[tuple[str, str, str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        matched = [(m.name, m.op.value, m.value) for m in self.matchers]
        object.__setattr__(self, "_matched", tuple(sorted(matched)))


@dataclass(frozen=True, slots=True)
class MatrixSelector:
    """`selector[range]`. The selector holds offset, @, anchored and smoothed."""

    selector: VectorSelector
    range: Duration
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Subquery:
    """`expr[range:step] offset d @ t`; step None is the engine's default."""

    expr: Expr
    range: Duration
    step: Duration | None = None
    offset: Duration | None = None
    at: At | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    func: str
    args: tuple[Expr, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`op by|without (grouping) (param, expr)`."""

    op: str
    expr: Expr
    param: Expr | None = None
    grouping: tuple[str, ...] = ()
    without: bool = False
    span: Span = field(default=NOWHERE, compare=False)


class Cardinality(enum.StrEnum):
    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"
    ONE_TO_MANY = "one-to-many"
    MANY_TO_MANY = "many-to-many"


@dataclass(frozen=True, slots=True)
class VectorMatching:
    """How the samples of two vectors are paired.

    labels: those of on(...) if on, else of ignoring(...). include: labels of group_left or
    group_right copied from the one side. fill_lhs, fill_rhs: value that stands in for a missing
    sample of that side, None where a missing one drops the pair.
    """

    cardinality: Cardinality = Cardinality.ONE_TO_ONE
    labels: tuple[str, ...] = ()
    on: bool = False
    include: tuple[str, ...] = ()
    fill_lhs: float | None = None
    fill_rhs: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """`lhs op rhs`. `matching` is None unless both sides are vectors."""

    op: str
    lhs: Expr
    rhs: Expr
    return_bool: bool = False
    matching: VectorMatching | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    op: Literal["+", "-"]
    expr: Expr
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Paren:
    expr: Expr
    span: Span = field(default=NOWHERE, compare=False)


Expr = (
    NumberLiteral
    | StringLiteral
    | VectorSelector
    | MatrixSelector
    | Subquery
    | Call
    | Aggregate
    | Binary
    | Unary
    | Paren
)
