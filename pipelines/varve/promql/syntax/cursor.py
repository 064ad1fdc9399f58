"""Holds the parser's place in the tokens, and makes its errors."""

from __future__ import annotations

from typing import Final

from varve.promql.errors import BadQueryError
from varve.promql.interrupt import Check, never
from varve.promql.signatures import ValueType
from varve.promql.syntax.ast import Expr, Span
from varve.promql.syntax.lexer import tokenize
from varve.promql.syntax.tokens import (
    END,
    ERROR,
    describe,
)

MAX_NESTING = 150
"""The most levels of parentheses, calls, aggregations, signs and operators of growing precedence:
far above any query written by hand, and low enough that code may recurse over a tree."""


_TOKENS_A_CHECK: Final = 1024


class ParseError(BadQueryError):
    """The text is no PromQL. str() is `line:column: parse error: message`, as in Prometheus.

    The span and the column are in UTF-8 bytes; columns count from 1.
    """

    def __init__(self, message: str, span: Span, query: str, *, placed: bool = True) -> None:
        super().__init__(f"{_line_and_column(query, span.start)}: parse error: {message}")
        self.message = message
        self.span = span
        self.placed = placed
        """False while an enclosing construct may still say where the token was unexpected."""


def _line_and_column(query: str, start: int) -> str:
    if not query:
        return "unknown position"
    return f"{query.count(chr(10), 0, start) + 1}:{start - query.rfind(chr(10), 0, start)}"


class Cursor:
    """The token to be read next.

    typed: the expression that was given a type last, and that type.
    """

    __slots__ = ("_at", "_nesting", "_tokens", "check", "kind", "typed")

    def __init__(self, query: str, check: Check = never) -> None:
        """check: see interrupt.py. Reading tokens calls it now and then."""
        self.check = check
        self._tokens = tokenize(query, check)
        self._at = 0
        self._nesting = 0
        self.kind = self._tokens.kinds[0]
        self.typed: tuple[Expr, ValueType] | None = None

    @property
    def text(self) -> str:
        return self._tokens.text[self.start : self.end]

    @property
    def start(self) -> int:
        return self._tokens.starts[self._at]

    @property
    def end(self) -> int:
        return self._tokens.ends[self._at]

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)

    @property
    def read_to(self) -> int:
        """Where the token ends that was read last."""
        return self._tokens.ends[self._at - 1]

    @property
    def query(self) -> str:
        """The query text with one character for each byte."""
        return self._tokens.text

    def advance(self) -> None:
        self._at += 1
        if not self._at % _TOKENS_A_CHECK:
            self.check()
        self.kind = self._tokens.kinds[self._at]

    def accept(self, kind: str) -> bool:
        """Reads the next token if it is of that kind; returns whether it is."""
        if self.kind != kind:
            return False
        self.advance()
        return True

    def expect(self, kind: str) -> None:
        """Reads a token of that kind. Raises ParseError if the next one is of another."""
        if not self.accept(kind):
            raise self.unexpected()

    def follower(self) -> str:
        """The kind of the token after the next one, END if there is none."""
        kinds = self._tokens.kinds
        return kinds[self._at + 1] if self._at + 1 < len(kinds) else END

    def descend(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self.error(f"query is nested more than {MAX_NESTING} levels deep", self.span)

    def ascend(self) -> None:
        self._nesting -= 1

    def error(self, message: str, span: Span) -> ParseError:
        return ParseError(message, span, self.query)

    def unexpected(self, context: str = "", expected: str = "") -> ParseError:
        """The error that the next token cannot stand here."""
        if self.kind == ERROR:
            return self.error(self._tokens.error, self.span)
        message = f"unexpected {describe(self.kind, self.text)}"
        if context:
            message += f" in {context}"
        if expected:
            message += f", expected {expected}"
        return ParseError(message, self.span, self.query, placed=bool(context))
