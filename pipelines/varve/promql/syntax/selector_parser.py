"""Parses vector selectors and lists of label names."""

from __future__ import annotations

from varve.promql.function_table import AGGREGATIONS
from varve.promql.syntax.ast import (
    Matcher,
    MatchOp,
    Span,
    VectorSelector,
)
from varve.promql.syntax.cursor import Cursor
from varve.promql.syntax.literals import quote, unquote
from varve.promql.syntax.printer import METRIC_LABEL
from varve.promql.syntax.regexes import compile_anchored
from varve.promql.syntax.tokens import (
    FILLS,
    FUNCTION_WORDS,
    METRIC_NAME,
    MODIFIERS,
    NAME,
    STRING,
    WORD_OPERATORS,
)

METRIC_WORDS = (
    FUNCTION_WORDS
    | AGGREGATIONS.keys()
    | FILLS
    | {"and", "or", "unless", "by", "offset", "without", "anchored", "smoothed"}
)
"""Kinds of keyword that name a metric where nothing else can stand."""
LABEL_KINDS = (
    FUNCTION_WORDS
    | AGGREGATIONS.keys()
    | (MODIFIERS - {"without"})
    | WORD_OPERATORS
    | {NAME, METRIC_NAME}
)
"""Kinds of token that name a label in by(), on() and the like; `without` does not, as upstream."""

_MATCH_OPS = {op.value: op for op in MatchOp}


def named_selector(c: Cursor) -> VectorSelector:
    """Reads a selector that starts with the metric's name."""
    name, start = c.text, c.start
    c.advance()
    matchers = _matchers(c) if c.kind == "{" else ()
    matchers += (Matcher(METRIC_LABEL, MatchOp.EQUAL, name),)
    return VectorSelector(name, matchers, span=Span(start, c.read_to))


def nameless_selector(c: Cursor) -> VectorSelector:
    start = c.start
    matchers = _matchers(c)
    return VectorSelector("", matchers, span=Span(start, c.read_to))


def _matchers(c: Cursor) -> tuple[Matcher, ...]:
    c.advance()
    matchers: list[Matcher] = []
    while c.kind != "}":
        matchers.append(_matcher(c))
        if not c.accept(",") and c.kind != "}":
            raise c.unexpected("label matching", '"," or "}"')
    c.advance()
    return tuple(matchers)


def _matcher(c: Cursor) -> Matcher:
    kind, text, start = c.kind, c.text, c.start
    if kind not in (NAME, STRING):
        raise c.unexpected("label matching", 'identifier or "}"')
    c.advance()
    name = text if kind == NAME else unquote(text)
    op = _MATCH_OPS.get(c.kind)
    if op is None:
        if kind == NAME:
            raise c.unexpected("label matching", "label matching operator")
        return Matcher(METRIC_LABEL, MatchOp.EQUAL, name)
    c.advance()
    if c.kind != STRING:
        raise c.unexpected("label matching", "string")
    value = unquote(c.text)
    c.advance()
    if op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
        try:
            compile_anchored(value)
        except ValueError as error:
            raise c.error(str(error), Span(start, c.read_to)) from None
    return Matcher(name, op, value)


def label_names(c: Cursor) -> tuple[str, ...]:
    """Reads label names in parentheses. A comma may follow the last."""
    if not c.accept("("):
        raise c.unexpected("grouping opts", '"("')
    names: list[str] = []
    while c.kind != ")":
        if c.kind not in LABEL_KINDS and c.kind != STRING:
            raise c.unexpected("grouping opts", "label")
        name = unquote(c.text) if c.kind == STRING else c.text
        if not name or (not name.isascii() and _has_stray_byte(name)):
            raise c.error(f"invalid label name for grouping: {quote(name)}", c.span)
        names.append(name)
        c.advance()
        if not c.accept(",") and c.kind != ")":
            raise c.unexpected("grouping opts", '"," or ")"')
    c.advance()
    return tuple(names)


def _has_stray_byte(text: str) -> bool:
    return any(0xD800 <= ord(char) < 0xE000 for char in text)
