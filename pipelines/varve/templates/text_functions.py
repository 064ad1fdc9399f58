"""Functions of text and numbers that rules and receivers share.

Source: Prometheus, template/template.go; its common library, helpers/templates; Alertmanager,
template/template.go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import re2

from varve.promql.syntax.go_numbers import format_g
from varve.promql.syntax.literals import parse_float
from varve.promql.syntax.regexes import go_text
from varve.templates.budget import Budget
from varve.templates.errors import FunctionError
from varve.templates.go_time import NS, Duration
from varve.templates.values import decode, encode, type_name

_LARGE: Final = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_SMALL: Final = ("m", "u", "n", "p", "f", "a", "z", "y")
_BINARY: Final = ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
# Letters and digits, and what joins them within a word: an apostrophe, a dot or a colon, between
# digits a comma. Each ideograph and Hiragana is a word of its own, and has no case.
_PART: Final = r"[^\W\u3040-\u309f\u3400-\u9fff]+"
_WORD = re.compile(rf"{_PART}(?:['\u2019.:\xb7\u2027]{_PART}|(?<=\d)[,;](?=\d){_PART})*")
_REFERENCE = re.compile(rb"\$(?:\$|\{(\w+)\}|([A-Za-z0-9_]+))", re.ASCII)
_CONTINUATION: Final = frozenset(bytes([byte]) for byte in range(0x80, 0xC0))
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


def to_upper(text: str) -> str:
    """Capitals, a character for each: that of ß is ß."""
    return "".join(_upper(char) for char in text)


def _upper(char: str) -> str:
    upper = char.upper()
    if len(upper) == 1:
        return upper
    title = char.title()
    return title if len(title) == 1 else char


def to_lower(text: str) -> str:
    """Small letters, a character for each."""
    return "".join(char.lower()[:1] for char in text)


def title_keeping(text: str) -> str:
    """The first letter of each word as a capital; the others stay."""
    return _WORD.sub(lambda word: _titled(word[0], lambda rest: rest), text)


def title_lowering(text: str) -> str:
    """The first letter of each word as a capital, the others small."""
    return _WORD.sub(lambda word: _titled(word[0], str.lower), text)


def _titled(word: str, change: Callable[[str], str]) -> str:
    """The word with its first letter that has a case as a capital, and what follows changed."""
    for i, char in enumerate(word):
        if char.lower() != char or char.upper() != char:
            rest = change("a" + word[i + 1 :])[1:]  # a final sigma knows what is before it
            return word[:i] + char.title() + rest
    return word


@lru_cache(maxsize=128)
def _compiled(pattern: str) -> re2._Regexp:
    try:
        return re2.compile(encode(pattern), _OPTIONS)
    except re2.error as error:
        raise FunctionError(f"error parsing regexp: {go_text(error, pattern)}") from None


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern (RE2, not anchored) is anywhere in the text."""
    return _compiled(pattern).search(encode(text)) is not None


def replace_all(budget: Budget, pattern: str, replacement: str, text: str) -> str:
    """The text with each match replaced; $1, ${1} and ${name} in it stand for groups."""
    regexp, data = _compiled(pattern), encode(text)
    template = _Replacement(encode(replacement), regexp.groupindex, regexp.groups)
    parts, end = [], 0
    for match in regexp.finditer(data):
        budget.step()
        if match.end() <= end and match.start() != 0:
            continue  # an empty match right behind another
        if match.start() == match.end() and data[match.end() : match.end() + 1] in _CONTINUATION:
            continue  # an empty match within a character
        part = template.expand(match)
        budget.made(len(part))
        parts += [data[end : match.start()], part]
        end = match.end()
    parts.append(data[end:])
    return decode(b"".join(parts))


class _Replacement:
    """A replacement, cut into text and numbers of groups."""

    def __init__(self, text: bytes, names: dict[Any, int], groups: int) -> None:
        known = {k if isinstance(k, bytes) else k.encode(): v for k, v in names.items()}
        self._parts: list[bytes | int] = []
        at = 0
        for match in _REFERENCE.finditer(text):
            self._parts.append(text[at : match.start()])
            at = match.end()
            name = match[1] or match[2]
            if name is None:
                self._parts.append(b"$")
            elif name.isdigit():
                self._parts.append(int(name[:9]) if int(name[:9]) <= groups else b"")
            else:
                self._parts.append(known.get(name, b""))
        self._parts.append(text[at:])

    def expand(self, match: Any) -> bytes:
        return b"".join(
            part if isinstance(part, bytes) else match.group(part) or b"" for part in self._parts
        )


def to_float(value: Any) -> float:
    """A number, the text of one, or a duration in seconds. Raises FunctionError."""
    if isinstance(value, Duration):
        return int(value) / NS
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return parse_float(value)
        except ValueError as error:
            raise FunctionError(str(error)) from None
    raise FunctionError(f"can't convert {type_name(value)} to float")


def _is_special(value: float) -> bool:
    return math.isnan(value) or math.isinf(value)


def _short(value: float) -> str:
    return format_g(value, 4)


def _scaled_up(value: float, factor: float, prefixes: tuple[str, ...]) -> tuple[float, str]:
    used = ""
    for prefix in prefixes:
        if abs(value) < factor:
            break
        value, used = value / factor, prefix
    return value, used


def _scaled_down(value: float) -> tuple[float, str]:
    used = ""
    for prefix in _SMALL:
        if abs(value) >= 1:
            break
        value, used = value * 1000, prefix
    return value, used


def humanize(number: Any) -> str:
    """Four digits and a metric prefix."""
    value, prefix = to_float(number), ""
    if value != 0 and not _is_special(value):
        scaled = _scaled_up(value, 1000, _LARGE) if abs(value) >= 1 else _scaled_down(value)
        value, prefix = scaled
    return _short(value) + prefix


def humanize_1024(number: Any) -> str:
    """Four digits and a binary prefix."""
    value, prefix = to_float(number), ""
    if abs(value) > 1 and not _is_special(value):
        value, prefix = _scaled_up(value, 1024, _BINARY)
    return _short(value) + prefix


def humanize_duration(number: Any) -> str:
    """Seconds as days, hours, minutes and seconds."""
    value = to_float(number)
    if _is_special(value):
        return _short(value)
    if abs(value) < 1:
        scaled, prefix = _scaled_down(value) if value else (value, "")
        return f"{_short(scaled)}{prefix}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_short(value)}s"


def humanize_percentage(number: Any) -> str:
    """A ratio as a percentage."""
    return f"{_short(to_float(number) * 100)}%"
