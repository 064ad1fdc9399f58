"""Cuts a template into tokens for the parser. Source: Go, text/template/parse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from varve.templates.errors import TemplateError

TEXT: Final = "text"
LEFT: Final = "{{"
RIGHT: Final = "}}"
SPACE: Final = "space"
NAME: Final = "name"
FIELD: Final = "field"
VARIABLE: Final = "variable"
NUMBER: Final = "number"
CHARACTER: Final = "character"
STRING: Final = "string"
RAW: Final = "raw string"
DOT: Final = "."
SYMBOL: Final = "symbol"
END: Final = "end of text"

SPACES: Final = " \t\r\n"

_INSIDE = re.compile(
    r"(?P<right>[ \t\r\n]*+(?:(?<=[ \t\r\n])-)?\}\})"
    r"|(?P<space>[ \t\r\n]++)"
    r'|(?P<string>"(?:[^"\\\n]|\\[^\n])*+")'
    r"|(?P<raw>`[^`]*+`)"
    r"|(?P<character>'(?:[^'\\\n]|\\[^\n])*+')"
    r"|(?P<number>[+-]?\.?[0-9][\w.]*+(?:(?<=[eEpP])[+-]\w*+)?+(?:[+-][\w.]*i\b)?)"
    r"|(?P<field>\.\w++)"
    r"|(?P<dot>\.)"
    r"|(?P<variable>\$\w*+)"
    r"|(?P<name>\w++)"
    r"|(?P<symbol>:=|[=|,()])"
)
_AFTER_WORD = re.compile(r"[ \t\r\n.,|:)(]|\}\}|\Z")
_LEFT_COMMENT = re.compile(r"(?:-[ \t\r\n])?/\*")
_COMMENT_END = re.compile(r"\*/([ \t\r\n]-)?\}\}")


@dataclass(frozen=True, slots=True)
class Token:
    """kind is one of the constants above. text: as written; of TEXT, with white space trimmed."""

    kind: str
    text: str
    at: int

    def __str__(self) -> str:
        return self.kind if self.kind in (END, RIGHT, LEFT) else repr(self.text)


def tokenize(text: str, name: str) -> list[Token]:
    """The tokens of a template, END the last. Raises TemplateError, with `name` in its text."""
    return [*_tokens(text, name), Token(END, "", len(text))]


def _tokens(text: str, name: str) -> Iterator[Token]:
    at, trims_left = 0, False
    while True:
        left = text.find("{{", at)
        end = len(text) if left < 0 else left
        trims_right = (
            left >= 0
            and text[left + 2 : left + 3] == "-"
            and (text[left + 3 : left + 4] in tuple(SPACES))
        )
        plain = text[at:end]
        if trims_right:
            plain = plain.rstrip(SPACES)
        start = at
        if trims_left:
            stripped = plain.lstrip(SPACES)
            start += len(plain) - len(stripped)
            plain = stripped
        if plain:
            yield Token(TEXT, plain, start)
        if left < 0:
            return
        if _LEFT_COMMENT.match(text, left + 2):
            at, trims_left = _comment(text, name, left)
            continue
        yield Token(LEFT, "{{", left)
        for token in _inside(text, name, left + (3 if trims_right else 2)):
            yield token
        at = token.at + len(token.text)
        trims_left = token.text.endswith("-}}")


def _comment(text: str, name: str, left: int) -> tuple[int, bool]:
    """Where a comment's action ends, and whether it trims what follows."""
    close = text.find("*/", text.index("/*", left) + 2)
    if close < 0:
        raise TemplateError("unclosed comment", name, text, left)
    match = _COMMENT_END.match(text, close)
    if match is None:
        raise TemplateError("comment ends before closing delimiter", name, text, close)
    return match.end(), bool(match[1])


def _inside(text: str, name: str, at: int) -> Iterator[Token]:
    while True:
        match = _INSIDE.match(text, at)
        if match is None:
            raise TemplateError(_fault(text, at), name, text, at)
        kind = match.lastgroup or ""
        end = match.end()
        if kind in ("field", "variable", "name") and not _AFTER_WORD.match(text, end):
            raise TemplateError(f"bad character {text[end]!r}", name, text, end)
        yield Token(_KINDS[kind], match[0], at)
        if kind == "right":
            return
        at = end


_KINDS: Final = {
    "right": RIGHT,
    "space": SPACE,
    "string": STRING,
    "raw": RAW,
    "character": CHARACTER,
    "number": NUMBER,
    "field": FIELD,
    "dot": DOT,
    "variable": VARIABLE,
    "name": NAME,
    "symbol": SYMBOL,
}


def _fault(text: str, at: int) -> str:
    if at >= len(text):
        return "unclosed action"
    return {
        '"': "unterminated quoted string",
        "`": "unterminated raw quoted string",
        "'": "unterminated character constant",
    }.get(text[at], f"unexpected {text[at]!r} in an action")
