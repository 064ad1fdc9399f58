"""The kinds of token that the lexer tells apart, and the keywords among them.

The kind of a token is the text itself for punctuation and operators, the lower-case word for
keywords, and one of the names below for the rest. The last token is END or ERROR.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from varve.promql.function_table import AGGREGATIONS
from varve.promql.syntax.literals import quote

END = "end of input"
ERROR = "error"
NUMBER = "number"
DURATION = "duration"
STRING = "string"
NAME = "identifier"
METRIC_NAME = "metric identifier"

SYMBOLIC_OPERATORS = frozenset(
    {"+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">=", "=~", "!~", "</", ">/", "@"}
)
WORD_OPERATORS = frozenset({"and", "or", "unless", "atan2"})
FILLS = frozenset({"fill", "fill_left", "fill_right"})
MODIFIERS = FILLS | {
    "anchored",
    "bool",
    "by",
    "group_left",
    "group_right",
    "ignoring",
    "offset",
    "on",
    "smoothed",
    "without",
}
DURATION_WORDS = frozenset({"step", "range", "max_of", "min_of"})
FUNCTION_WORDS = DURATION_WORDS | {"start", "end"}
"""Functions whose names are keywords, because they may stand in durations or after @."""
KEYWORDS = {
    word: word for word in WORD_OPERATORS | MODIFIERS | FUNCTION_WORDS | AGGREGATIONS.keys()
} | {
    "inf": NUMBER,
    "nan": NUMBER,
}
"""The kind of a word in lower case; a query may write it in any."""


@dataclass(slots=True)
class Tokens:
    """Token i is text[starts[i]:ends[i]], of kind kinds[i]. `error` explains a last ERROR."""

    text: str
    kinds: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    error: str = ""


def describe(kind: str, text: str) -> str:
    """A token, as error messages name it."""
    if kind == END:
        return END
    if kind in (NAME, METRIC_NAME):
        return f"{kind} {quote(text)}"
    if kind in MODIFIERS:
        return f"<{text}>"
    if kind in SYMBOLIC_OPERATORS or kind in WORD_OPERATORS:
        return f"<op:{text}>"
    if kind in AGGREGATIONS:
        return f"<aggr:{text}>"
    whole = text.encode("latin-1").decode("utf-8", "surrogateescape")
    shown = quote(whole) if len(text) <= 10 else f"{quote(whole[:10])}..."
    return f"{kind} {shown}" if kind in (NUMBER, DURATION, STRING) else shown
