"""Parses PromQL: all of Prometheus 3, experimental parts included.

The grammar. Quoted is what is written; words may be in any case, function names may not. `?` is
optional, `*` any number of times. Blanks and comments (# to the end of the line) may stand
between tokens.

    expression  = unary (operator matching unary)*           by precedence, below
    unary       = ("+" | "-") unary | operand modifier*      binds less than ^ and more than *
    operand     = number | duration | string | "(" expression ")"
                | selector | call | aggregation

    operator, loosest first:
        "or"
        "and" "unless"
        "==" "!=" "<" "<=" ">" ">=" "</" ">/"                </ and >/ trim histograms
        "+" "-"
        "*" "/" "%" "atan2"
        "^"                                                  the only one that leans right
    matching    = "bool"? (("on" | "ignoring") labels (("group_left" | "group_right") labels?)?)?
                  fills?
    fills       = "fill" fill | "fill_left" fill ("fill_right" fill)?
                | "fill_right" fill ("fill_left" fill)?
    fill        = "(" sign? (number | duration) ")"
    labels      = "(" (label ("," label)* ","?)? ")"         label: a name, a keyword or a string

    selector    = name matchers? | matchers                  name: may have colons, may be a keyword
    matchers    = "{" (matcher ("," matcher)* ","?)? "}"
    matcher     = (name | string) ("=" | "!=" | "=~" | "!~") string
                | string                                     the metric's name
    call        = function "(" (expression ("," expression)*)? ")"
    aggregation = aggregate grouping? "(" expression ("," expression)? ")"
                | aggregate "(" expression ("," expression)? ")" grouping
    grouping    = ("by" | "without") labels

    modifier    = "[" span "]" | "[" span ":" span? "]"
                | "offset" offset
                | "@" (sign? (number | duration) | ("start" | "end") "(" ")")
                | "anchored" | "smoothed"
    span        = ("+" | "-") span | literal (("+" | "-" | "*" | "/" | "%" | "^") span)*
    literal     = number | duration | ("step" | "range") "(" ")"
                | ("min_of" | "max_of") "(" span "," span ")" | "(" span ")"
    offset      = sign? literal | ("(" span ")" | sign sign span) (operator span)*

    number      = 1 1.5 .5 1e3 1_000 0x1F 017 inf nan
    duration    = a count and a unit for each of y w d h m s ms, largest first, as in 1h30m
    string      = "..." '...' with Go's escapes, `...` without

Source: Prometheus, promql/parser/generated_parser.y. It is a Pratt parser: `_expression` climbs
the precedences, `_PREFIX` says what a token starts, and modifier_parser.MODIFIERS what it modifies.
"""

from __future__ import annotations

from collections.abc import Callable

from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.interrupt import Check, never
from varve.promql.signatures import ValueType
from varve.promql.syntax import duration_parser
from varve.promql.syntax.ast import (
    Aggregate,
    Binary,
    Call,
    Cardinality,
    Expr,
    NumberLiteral,
    Paren,
    Span,
    StringLiteral,
    Unary,
    VectorMatching,
)
from varve.promql.syntax.cursor import Cursor, ParseError
from varve.promql.syntax.literals import quote, unquote
from varve.promql.syntax.modifier_parser import MODIFIERS
from varve.promql.syntax.selector_parser import (
    METRIC_WORDS,
    label_names,
    named_selector,
    nameless_selector,
)
from varve.promql.syntax.tokens import (
    DURATION,
    END,
    ERROR,
    FILLS,
    FUNCTION_WORDS,
    METRIC_NAME,
    NAME,
    NUMBER,
    STRING,
)
from varve.promql.syntax.typecheck import SET_OPERATORS, check_types, expr_type

_BINDING = {
    "or": 1,
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "</", ">/"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_POWER = _BINDING["^"]
_MATCHING_WORDS = frozenset({"bool", "on", "ignoring", "fill", "fill_left", "fill_right"})
_ONE_TO_ONE = VectorMatching()
_MANY_TO_MANY = VectorMatching(Cardinality.MANY_TO_MANY)


def parse(query: str, check: Check = never) -> Expr:
    """Returns the tree of `query`, its types checked. Raises ParseError, and takes bounded time.

    Chains of binary operators lean left and may be as deep as the text is long: loop over lhs.
    In every other direction the tree is at most some multiple of MAX_NESTING deep.
    """
    c = Cursor(query, check)
    if c.kind == END:
        raise c.error("no expression found in input", Span(0, 0))
    expr = _expression(c)
    if c.kind != END:
        raise c.unexpected()
    check_types(c, expr)
    return expr


def _expression(c: Cursor, least: int = 1) -> Expr:
    """Reads operands joined by operators that bind at least as tight as `least`."""
    c.descend()
    left = _operand(c)
    left_type: ValueType | None = None
    while (binding := _BINDING.get(c.kind, 0)) >= least:
        op, left_type = c.kind, left_type or _type(c, left)
        c.advance()
        return_bool, matching = _matching(c) if c.kind in _MATCHING_WORDS else (False, None)
        right = _expression(c, binding if op == "^" else binding + 1)
        right_type = _type(c, right)
        if left_type is right_type is ValueType.VECTOR:
            matching = _between_vectors(op, matching)
        elif matching is not None and not _is_misplaced(matching):
            matching = None
        if right_type is not ValueType.SCALAR:
            left_type = ValueType.VECTOR
        span = Span(left.span.start, right.span.end)
        left = Binary(op, left, right, return_bool, matching, span)
        c.typed = left, left_type
    c.ascend()
    return left


def _type(c: Cursor, expr: Expr) -> ValueType:
    """Does what expr_type does, in constant time for what has just been read."""
    typed = c.typed
    return typed[1] if typed is not None and typed[0] is expr else expr_type(expr)


def _between_vectors(op: str, matching: VectorMatching | None) -> VectorMatching:
    if op not in SET_OPERATORS:
        return matching or _ONE_TO_ONE
    if matching is None:
        return _MANY_TO_MANY
    if matching.cardinality is not Cardinality.ONE_TO_ONE:
        return matching
    return VectorMatching(
        Cardinality.MANY_TO_MANY,
        matching.labels,
        matching.on,
        fill_lhs=matching.fill_lhs,
        fill_rhs=matching.fill_rhs,
    )


def _is_misplaced(matching: VectorMatching) -> bool:
    """Whether it is an error unless both sides are vectors; an empty on() is not."""
    return bool(matching.labels) or not (matching.fill_lhs is matching.fill_rhs is None)


def _matching(c: Cursor) -> tuple[bool, VectorMatching]:
    return_bool = c.accept("bool")
    cardinality = Cardinality.ONE_TO_ONE
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    on = c.kind == "on"
    if c.accept("on") or c.accept("ignoring"):
        labels = label_names(c)
        if c.kind in ("group_left", "group_right"):
            many_left = c.kind == "group_left"
            cardinality = Cardinality.MANY_TO_ONE if many_left else Cardinality.ONE_TO_MANY
            c.advance()
            if c.kind == "(" or not (c.kind in _PREFIX or c.kind in FILLS):
                include = label_names(c)
    left = right = None
    if c.accept("fill"):
        left = right = _fill(c)
    elif c.accept("fill_left"):
        left = _fill(c)
        right = _fill(c) if c.accept("fill_right") else None
    elif c.accept("fill_right"):
        right = _fill(c)
        left = _fill(c) if c.accept("fill_left") else None
    return return_bool, VectorMatching(cardinality, labels, on, include, left, right)


def _fill(c: Cursor) -> float:
    c.expect("(")
    value = duration_parser.signed_number(c)
    c.expect(")")
    return value


def _operand(c: Cursor) -> Expr:
    prefix = _PREFIX.get(c.kind)
    if prefix is None:
        raise c.unexpected()
    expr = prefix(c)
    while (modifier := MODIFIERS.get(c.kind)) is not None:
        expr = modifier(c, expr)
    return expr


def _sign(c: Cursor) -> Expr:
    op, start = c.kind, c.start
    c.advance()
    expr = _expression(c, _POWER)
    span = Span(start, expr.span.end)
    if isinstance(expr, NumberLiteral):
        value = duration_parser.signed(op, expr.value)
        return NumberLiteral(value, span, expr.is_duration)
    found = Unary("-" if op == "-" else "+", expr, span)
    c.typed = found, _type(c, expr)
    return found


def _string(c: Cursor) -> Expr:
    literal = StringLiteral(unquote(c.text), c.span)
    c.advance()
    return literal


def _parentheses(c: Cursor) -> Expr:
    start = c.start
    c.advance()
    expr = _expression(c)
    c.expect(")")
    found = Paren(expr, Span(start, c.read_to))
    c.typed = found, _type(c, expr)
    return found


def _name(c: Cursor) -> Expr:
    return _call(c) if c.follower() == "(" else named_selector(c)


def _call(c: Cursor) -> Expr:
    name, span = c.text, c.span
    c.advance()
    args = _arguments(c)
    if name not in FUNCTIONS:
        raise c.error(f"unknown function with name {quote(name)}", span)
    return Call(name, args, Span(span.start, c.read_to))


def _arguments(c: Cursor) -> tuple[Expr, ...]:
    c.expect("(")
    args: list[Expr] = []
    while c.kind != ")":
        args.append(_expression(c))
        comma = c.span
        if not c.accept(","):
            break
        if c.kind not in _PREFIX and c.kind != ERROR:
            raise c.error("trailing commas not allowed in function call args", comma)
    c.expect(")")
    return tuple(args)


def _aggregate_or_name(c: Cursor) -> Expr:
    if c.follower() not in ("(", "by", "without"):
        return named_selector(c)
    op, start = c.kind, c.start
    c.advance()
    try:
        grouping, without = _grouping(c)
        args = _arguments(c)
        if grouping is None:
            grouping, without = _grouping(c)
    except ParseError as error:
        if error.placed:
            raise
        raise c.unexpected("aggregation") from None
    span = Span(start, c.read_to)
    if not args:
        raise c.error("no arguments for aggregate expression provided", span)
    wanted = 1 if AGGREGATIONS[op].parameter is None else 2
    if len(args) != wanted:
        text = "wrong number of arguments for aggregate expression provided"
        raise c.error(f"{text}, expected {wanted}, got {len(args)}", span)
    param = args[0] if wanted == 2 else None
    return Aggregate(op, args[-1], param, grouping or (), without, span)


def _grouping(c: Cursor) -> tuple[tuple[str, ...] | None, bool]:
    if c.kind not in ("by", "without"):
        return None, False
    without = c.kind == "without"
    c.advance()
    return label_names(c), without


_PREFIX: dict[str, Callable[[Cursor], Expr]] = {
    **dict.fromkeys(METRIC_WORDS, named_selector),
    **dict.fromkeys(AGGREGATIONS, _aggregate_or_name),
    **dict.fromkeys(FUNCTION_WORDS | {NAME}, _name),
    METRIC_NAME: named_selector,
    NUMBER: duration_parser.literal,
    DURATION: duration_parser.literal,
    STRING: _string,
    "(": _parentheses,
    "{": nameless_selector,
    "+": _sign,
    "-": _sign,
}
"""What reads an operand, by the kind of the token that starts it."""
