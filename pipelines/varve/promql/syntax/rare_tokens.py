"""Reads tokens that no table of the lexer has: rare forms of numbers, and what is no token.

Source: Prometheus 3, promql/parser/lex.go; Go strconv (Unquote).
"""

from __future__ import annotations

import re

from varve.promql.syntax.literals import quote
from varve.promql.syntax.tokens import DURATION, NUMBER


def character_at(text: str, at: int) -> str:
    """The character that starts at byte `at`; U+FFFD at the end and where it is no UTF-8."""
    return text[at : at + 4].encode("latin-1").decode("utf-8", "replace")[:1] or "\ufffd"


def fault_in_string(quoted: str) -> str:
    """What is wrong with the string literal that `quoted` starts with, "" if nothing."""
    mark, at = quoted[0], 1
    while at < len(quoted):
        char = quoted[at]
        if char == mark:
            return ""
        if char == "\n" and mark != "`":
            break
        if char == "\\" and mark != "`":
            escape = _LONGEST_ESCAPE.match(quoted, at)
            if fault := _fault_in_escape(quoted, at, mark):
                return fault
            at = escape.end() if escape else at + 2
            continue
        if not char.isascii():
            char = character_at(quoted, at)
            if char == "\ufffd":
                return "invalid UTF-8 rune"
        at += len(char.encode())
    return "unterminated raw string" if mark == "`" else "unterminated quoted string"


_LONGEST_ESCAPE = re.compile(
    r"\\(?:[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL
)
_ESCAPE_DIGITS = {"x": (2, 16, 255), "u": (4, 16, 0x10FFFF), "U": (8, 16, 0x10FFFF)}


def _fault_in_escape(quoted: str, at: int, mark: str) -> str:
    kind = quoted[at + 1 : at + 2]
    if kind and kind in "abfnrtv\\" + mark:
        return ""
    if not kind:
        return "escape sequence not terminated"
    if kind in "01234567":
        count, base, most, first = 3, 8, 255, at + 1
    elif kind in _ESCAPE_DIGITS:
        (count, base, most), first = _ESCAPE_DIGITS[kind], at + 2
    else:
        return f"unknown escape sequence {_codepoint(character_at(quoted, at + 1))}"
    value = 0
    for place in range(first, first + count):
        if place >= len(quoted):
            return "escape sequence not terminated"
        digit = "0123456789abcdef".find(quoted[place].lower())
        if not 0 <= digit < base:
            return f"illegal character {_codepoint(character_at(quoted, place))} in escape sequence"
        value = value * base + digit
    if value > most or 0xD800 <= value < 0xE000:
        return "escape sequence is an invalid Unicode code point"
    return ""


def _codepoint(char: str) -> str:
    return f"U+{ord(char):04X}" + (f" '{char}'" if char.isprintable() else "")


def unusual_number(text: str, start: int) -> tuple[str, int, str]:
    """Reads a number with hexadecimal digits, `_`, a wrong unit or two points.

    Returns the kind of token, where it ends, and what is wrong with it, "" if nothing.
    """
    end, valid = _scan_number(text, start)
    if valid:
        return NUMBER, end, ""
    match = _UNITS.match(text, end)
    if match and match.end() == (stop := _WORD_END.match(text, match.end()).end()):  # type: ignore[union-attr]
        return DURATION, stop, ""
    if match and not (digits := _DIGITS.match(text, match.end())):
        end = match.end() + 1  # upstream reads what follows the unit, too
    elif match and digits:
        end = digits.end()
    shown = text[start:end]
    return "", start, f"bad number or duration syntax: {quote(shown)}"


_DIGITS = re.compile("[0-9]+")
_UNITS = re.compile(r"[smhdwy]s?(?:[0-9]+[smhdw]s?)*")
_WORD_END = re.compile(r"\w*", re.ASCII)
_DECIMALS, _HEXADECIMALS = "0123456789", "0123456789abcdefABCDEF"


def _scan_number(text: str, start: int) -> tuple[int, bool]:
    """Where the number at `start` ends and whether it is one, by upstream's lenient rules."""
    at, digits = start, _DECIMALS
    if text[at : at + 2] in ("0x", "0X"):
        at, digits = at + 2, _HEXADECIMALS
        at += text[at : at + 1] == "_"
    at += text[at : at + 1] == "."
    at += text[at : at + 1] != "" and text[at : at + 1] in digits
    pointed = raised = False
    while (char := text[at : at + 1]) and char in digits + "._eE":
        at += 1
        if char == ".":
            if pointed or digits is _HEXADECIMALS or text[at : at + 1] in ("_", "."):
                return at, False
            pointed = True
        elif char in "eE":
            if raised:
                return at, False
            raised = True
            at += text[at : at + 1] in ("+", "-")
            if text[at : at + 1] in ("", ".", "_", "e", "E"):
                return at, False
        elif char == "_" and text[at : at + 1] in ("", ".", "_", "e", "E"):
            return at, False
    return at, _WORD_END.match(text, at).end() == at  # type: ignore[union-attr]
