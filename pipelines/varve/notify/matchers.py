"""Matchers of labels, in both of Alertmanager's notations.

The UTF-8 notation takes quoted names and values by Go's rules for strings; the classic one takes a
value as it stands, quoted or not. In fallback mode, the default, a text is read by both: where both
read it and disagree, the classic reading counts, as it did before there were two.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from varve.promql.syntax.literals import quote, unquote
from varve.promql.syntax.regexes import compile_anchored

Labels = Mapping[str, str]

CLASSIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

_log = logging.getLogger("varve.notify.matchers")

_CLASSIC = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*(.*?)\s*", re.DOTALL)
_RESERVED = frozenset("{}!=~,\\\"'`")
_QUOTED = re.compile(
    r'"(?:[^"\\\n]|\\(?:[abfnrtv\\"]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))*"'
)


class Mode(StrEnum):
    """Which notations are read; the names are those of Alertmanager's features."""

    FALLBACK = "fallback"
    CLASSIC = "classic-mode"
    UTF8 = "utf8-strict-mode"


class MatcherError(ValueError):
    """A text is no matcher; says why and where."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; a label that is missing is an empty one.

    Raises MatcherError if `value` is no regular expression and `operator` wants one.
    """

    name: str
    operator: str
    value: str
    holds: Callable[[str], bool] = field(init=False, repr=False, compare=False)
    """Whether a value of the label satisfies it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "holds", _test_of(self.operator, self.value))

    def matches(self, labels: Labels) -> bool:
        return self.holds(labels.get(self.name, ""))

    @property
    def is_regex(self) -> bool:
        return "~" in self.operator

    @property
    def is_equal(self) -> bool:
        return self.operator[0] == "="

    def __str__(self) -> str:
        name = self.name if CLASSIC_NAME.fullmatch(self.name) else quote(self.name)
        return f"{name}{self.operator}{quote(self.value)}"


def all_match(matchers: Iterable[Matcher], labels: Labels) -> bool:
    """Whether every matcher holds; True if there is none."""
    get = labels.get
    return all(m.holds(get(m.name, "")) for m in matchers)


def matchers_text(matchers: Iterable[Matcher]) -> str:
    return "{" + ",".join(map(str, matchers)) + "}"


def in_order(matchers: Iterable[Matcher]) -> tuple[Matcher, ...]:
    """Sorted by name, value and operator: equal sets have one text."""
    return tuple(sorted(matchers, key=lambda m: (m.name, m.value, m.operator)))


def parse_matchers(text: str, mode: Mode = Mode.FALLBACK) -> tuple[Matcher, ...]:
    """The matchers of `{a="b",c!~"d"}`; the braces may be missing. Raises MatcherError."""
    if mode is Mode.CLASSIC:
        return _parse_classic(text)
    if mode is Mode.UTF8:
        return _Utf8Parser(text).parse()
    try:
        modern = _Utf8Parser(text).parse()
    except MatcherError as modern_error:
        try:
            classic = _parse_classic(text)
        except MatcherError:
            raise modern_error from None
        _log.warning(
            "matcher %s is read in the classic notation; for the newer one write %s",
            text,
            matchers_text(classic),
        )
        return classic
    try:
        classic = _parse_classic(text)
    except MatcherError:
        return modern
    if in_order(classic) != in_order(modern):
        _log.warning("both notations read %s, and differ; the classic reading counts", text)
        return classic
    return modern


def parse_matcher(text: str, mode: Mode = Mode.FALLBACK) -> Matcher:
    """The one matcher of a text. Raises MatcherError."""
    stripped = text.strip()
    if stripped.startswith("{") and not stripped.endswith("}"):
        raise MatcherError(f"bad matcher format: {text}: a closing brace is missing")
    found = parse_matchers(text, mode)
    if len(found) != 1:
        raise MatcherError(f"{text!r} has {len(found)} matchers; one is wanted")
    return found[0]


def _test_of(operator: str, value: str) -> Callable[[str], bool]:
    if operator == "=":
        return value.__eq__
    if operator == "!=":
        return value.__ne__
    if operator not in {"=~", "!~"}:
        raise MatcherError(f"{operator!r} is none of =, !=, =~, !~")
    try:
        fullmatch = compile_anchored(value).fullmatch
    except ValueError as err:
        raise MatcherError(str(err)) from None
    if operator == "=~":
        return lambda text: fullmatch(text) is not None
    return lambda text: fullmatch(text) is None


def _parse_classic(text: str) -> tuple[Matcher, ...]:
    inside = text.strip()
    inside = inside.removeprefix("{")
    inside = inside.removesuffix("}")
    return tuple(_classic_matcher(part) for part in _split_at_commas(inside))


def _split_at_commas(text: str) -> list[str]:
    """Parts between commas outside of quotes; nothing after a comma at the end."""
    parts, part, quoted, escaped = [], "", False, False
    for char in text:
        if char == "," and not quoted:
            parts.append(part)
            part = ""
            continue
        if char == '"' and not escaped:
            quoted = not quoted
        escaped = char == "\\" and not escaped
        part += char
    if part.strip():
        parts.append(part)
    return parts


def _classic_matcher(text: str) -> Matcher:
    match = _CLASSIC.fullmatch(text)
    if match is None:
        raise MatcherError(f"bad matcher format: {text}")
    name, operator, raw = match.groups()
    return Matcher(name, operator, _classic_value(raw, text))


def _classic_value(raw: str, text: str) -> str:
    quoted = raw.startswith('"')
    raw = raw.removeprefix('"')
    value, escaped, closed = "", False, False
    for i, char in enumerate(raw):
        if escaped:
            value += {"n": "\n", '"': '"', "\\": "\\"}.get(char, "\\" + char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            if not quoted or i != len(raw) - 1:
                raise MatcherError(f"matcher value contains unescaped double quote: {text}")
            closed = True
        else:
            value += char
    if escaped:
        value += "\\"
    if quoted and not closed:
        raise MatcherError(f"matcher value contains unescaped double quote: {text}")
    return value


class _Utf8Parser:
    """Recursive descent over one text; errors say the column, from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> tuple[Matcher, ...]:
        self._space()
        braced = self._take("{")
        found = []
        while not (self._ended() or self._peek() == "}"):
            found.append(self._matcher())
            if not self._take(","):
                break
        if braced and not self._take("}"):
            raise self._error("expected a comma or a closing brace")
        if not self._ended():
            raise self._error(
                "expected no more" if braced or self._peek() != "}" else "expected opening brace"
            )
        return tuple(found)

    def _matcher(self) -> Matcher:
        name = self._literal("label name")
        if not name:
            raise self._error("a label name cannot be empty")
        operator = next((op for op in ("=~", "!~", "!=", "=") if self._take(op)), None)
        if operator is None:
            raise self._error("expected an operator such as '=', '!=', '=~' or '!~'")
        return Matcher(name, operator, self._literal("label value"))

    def _literal(self, what: str) -> str:
        start = self._at
        if self._peek() == '"':
            match = _QUOTED.match(self._text, start)
            if match is None:
                raise self._error("a string in double quotes is not closed, or has a bad escape")
            self._at = match.end()
            value = unquote(match[0].encode().decode("latin-1"))
            if not value.isprintable() and "\udc80" <= max(value) <= "\udcff":
                raise self._error("a string is no UTF-8", start)
        else:
            while not (self._ended() or self._peek() in _RESERVED or self._peek().isspace()):
                self._at += 1
            value = self._text[start : self._at]
            if not value:
                raise self._error(f"expected {what}")
        self._space()
        return value

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        self._space()
        return True

    def _space(self) -> None:
        while not self._ended() and self._peek().isspace():
            self._at += 1

    def _ended(self) -> bool:
        return self._at >= len(self._text)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _error(self, message: str, at: int | None = None) -> MatcherError:
        at = self._at if at is None else at
        return MatcherError(f"{message}, at column {at + 1} of {self._text!r}")
