"""Cuts a query into tokens for the parser.

The text is handled as UTF-8 bytes with one character each (latin-1), so that every index is the
byte offset that positions are given in.

What a character means depends on where it stands, hence four tables of tokens: plain text; in
braces, where keywords are names; in brackets up to the first number, where only durations are
expected; and behind that, where all is as in plain text but that `:` separates and words are
those of durations. Source: Prometheus 3, promql/parser/lex.go.
"""

from __future__ import annotations

import re
from typing import Final

from varve.promql.interrupt import Check, never
from varve.promql.syntax.literals import quote
from varve.promql.syntax.rare_tokens import character_at, fault_in_string, unusual_number
from varve.promql.syntax.tokens import (
    DURATION_WORDS,
    END,
    ERROR,
    FILLS,
    KEYWORDS,
    METRIC_NAME,
    NAME,
    STRING,
    Tokens,
)

_SKIP = r"(?:[ \t\r\n]++|\#[^\r\n]*+)*+"
_ESCAPE = r"\\(?:[abfnrtv\\%s]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_STRING = (
    f"\"(?:[^\"\\\\\n]++|{_ESCAPE % chr(34)})*+\"|'(?:[^'\\\\\n]++|{_ESCAPE % chr(39)})*+'|`[^`]*+`"
)
_NUMBER = (
    r"(?P<duration>[0-9]++(?:ms|[smhdwy])(?:[0-9]++(?:ms|[smhdw]))*+(?![\w]))"
    r"|(?P<number>(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?(?![\w.]))"
)
_SECOND_COLON = "unexpected colon ':'"
_NO_DURATION = "in duration expression"


_TOKENS_A_CHECK: Final = 4096


def _table(*tokens: str, skip: str = _SKIP) -> re.Pattern[str]:
    return re.compile(f"{skip}(?:{'|'.join(tokens)}|(?P<end>\\Z))", re.ASCII)


_COMMON = (
    _NUMBER,
    f"(?P<string>{_STRING})",
    r"(?P<open>[\[{])",
    r"(?P<close>\])",
)
_SYMBOLS = r"[(),*/%+\-^@]|==|!=|<=|>=|</|>/|[<>]|=(?!~)"
_DURATION_WORD = r"(?P<word>[sSrRmM][a-zA-Z_]*+)"
_PLAIN = _table(r"(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*+)", f"(?P<symbol>{_SYMBOLS})", *_COMMON)
_IN_BRACES = _table(
    r"(?P<name>[a-zA-Z_][a-zA-Z0-9_]*+)",
    r"(?P<symbol>=~|!~|!=|=|,)",
    f"(?P<string>{_STRING})",
    r"(?P<close>\})",
)
_DURATION = _table(  # it has no comments
    r"(?P<symbol>[:(),*/%+\-^])", _NUMBER, _DURATION_WORD, r"(?P<close>\])", skip=r"[ \t\r\n]*+"
)
_IN_BRACKETS = _table(_DURATION_WORD, f"(?P<symbol>:|{_SYMBOLS})", *_COMMON)
_SPACES = re.compile(_SKIP)
_LETTER = re.compile("[a-zA-Z_]")
_BLANKS = re.compile(r"[ \t\r\n]*+")
_CALL = re.compile(r"[ \t\r\n]*\(")


def tokenize(query: str, check: Check = never) -> Tokens:
    """The tokens of `query`. What is no token is no error here but ends the list as ERROR.

    check: see interrupt.py; all that raises.
    """
    return _Lexer(_as_bytes(query), check).run()


def _as_bytes(query: str) -> str:
    if query.isascii():
        return query
    try:
        return query.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:
        return query.encode("utf-8", "surrogatepass").decode("latin-1")


class _Lexer:
    """Makes one pass over a text. What no table has is left to `_rare`."""

    def __init__(self, text: str, check: Check) -> None:
        self._check = check
        self._tokens = Tokens(text)
        self._text = text
        self._table = _PLAIN
        self._parens = 0
        self._in_brackets = False
        # Both count since the last left bracket.
        self._colons = 0
        self._durations = 0

    def run(self) -> Tokens:
        text, tokens = self._text, self._tokens
        kinds, starts, ends = tokens.kinds, tokens.starts, tokens.ends
        start = end = 0
        fault = ""
        while True:
            if not len(kinds) % _TOKENS_A_CHECK:
                self._check()
            match = self._table.match(text, end)
            if match is None:
                skipped = _BLANKS if self._table is _DURATION else _SPACES
                start = skipped.match(text, end).end()  # type: ignore[union-attr]
                kind, end, fault = self._rare(start)
            else:
                group: str = match.lastgroup  # type: ignore[assignment]
                start, end = match.span(group)
                kind = text[start:end]
                if group != "symbol":
                    kind, fault = self._token(group, kind, end)
                elif kind in "():":
                    fault = self._count(kind)
            if fault:
                tokens.error = fault
                # Upstream reports an unpaired parenthesis or colon behind it.
                start = end if kind in (")", ":") and fault is not _SECOND_COLON else start
                kind, end = ERROR, len(text)
            kinds.append(kind)
            starts.append(start)
            ends.append(end)
            if kind is ERROR or kind is END:
                return tokens

    def _token(self, group: str, text: str, end: int) -> tuple[str, str]:
        """The kind of a token that a table has under `group`, and what is wrong with it."""
        match group:
            case "word":
                return self._word(text, end)
            case "name":
                return NAME, ""
            case "string":
                is_simple = "\\" not in text and text.isascii()
                return STRING, "" if is_simple else fault_in_string(text)
            case "open":
                return text, self._open(text)
            case "close":
                return text, self._close()
            case "end":
                return END, self._fault_at_end()
        self._number()
        return group, ""

    def _number(self) -> None:
        self._durations += 1
        if self._table is _DURATION:
            self._table = _IN_BRACKETS

    def _word(self, word: str, end: int) -> tuple[str, str]:
        kind = KEYWORDS.get(word) or KEYWORDS.get(word.lower())
        if self._in_brackets:
            if kind not in DURATION_WORDS:
                return "", self._no_duration(word[0])
            self._durations += 1
            return kind, ""
        # `fill` and its kin were names before: they are keywords only before a parenthesis.
        if kind is None or (kind in FILLS and not _CALL.match(self._text, end)):
            return (METRIC_NAME if ":" in word else NAME), ""
        return kind, ""

    def _count(self, symbol: str) -> str:
        """Counts parentheses and, in brackets, colons; returns what is wrong with this one."""
        if symbol == "(":
            self._parens += 1
        elif symbol == ")":
            self._parens -= 1
            if self._parens < 0:
                return "unexpected right parenthesis ')'"
        else:
            self._colons += 1
            if not self._durations:
                return "unexpected colon before duration in duration expression"
            if self._colons > 1:
                is_first = self._table is _DURATION
                return f"unexpected repeated colon {_NO_DURATION}" if is_first else _SECOND_COLON
        return ""

    def _open(self, symbol: str) -> str:
        if symbol == "{":
            self._table = _IN_BRACES
            return ""
        if self._in_brackets:
            return "unexpected left bracket '['"
        self._table, self._in_brackets = _DURATION, True
        self._colons = self._durations = 0
        return ""

    def _close(self) -> str:
        if self._table is _IN_BRACES:
            self._table = _IN_BRACKETS if self._in_brackets else _PLAIN
            return ""
        if not self._in_brackets:
            return "unexpected right bracket ']'"
        self._table, self._in_brackets = _PLAIN, False
        return ""

    def _fault_at_end(self) -> str:
        if self._table is _IN_BRACES:
            return "unexpected end of input inside braces"
        if self._table is _DURATION:
            return f"unexpected end of input {_NO_DURATION}"
        if self._parens:
            return "unclosed left parenthesis"
        return "unclosed left bracket" if self._in_brackets else ""

    def _rare(self, start: int) -> tuple[str, int, str]:
        """Kind and end of the token at `start`, which no table has, and what is wrong with it."""
        text, char = self._text, character_at(self._text, start)
        if char in "\"'`" and self._table is not _DURATION:
            return STRING, start, fault_in_string(text[start:])
        if self._table is _IN_BRACES:
            return "", start, self._fault_in_braces(start, char)
        if char in "0123456789" or (
            char == "." and text[start + 1 : start + 2] in set("0123456789")
        ):
            self._number()
            return unusual_number(text, start)
        if self._table is _DURATION or (self._in_brackets and _LETTER.match(char)):
            return "", start, self._no_duration(char)
        if char in "=!":
            follower = character_at(text, start + 1)
            return "", start, f"unexpected character after '{char}': {quote(follower, chr(39))}"
        return "", start, f"unexpected character: {quote(char, chr(39))}"

    def _no_duration(self, char: str) -> str:
        if self._table is _DURATION:
            return f"unexpected character {_NO_DURATION}: {quote(char, chr(39))}"
        return f"unexpected character: {quote(char, chr(39))}, expected ':'"

    def _fault_in_braces(self, start: int, char: str) -> str:
        if char == "!":
            follower = quote(character_at(self._text, start + 1), chr(39))
            return f"unexpected character after '!' inside braces: {follower}"
        if char == "{":
            return "unexpected left brace '{'"
        return f"unexpected character inside braces: {quote(char, chr(39))}"
