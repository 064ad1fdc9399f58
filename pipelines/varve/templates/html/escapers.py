"""Makes values harmless where they stand.

Source: Go, html/template, html.go, url.go, js.go, css.go.
"""

from __future__ import annotations

import re
from typing import Any, Final

from varve.templates.budget import Budget
from varve.templates.errors import FunctionError
from varve.templates.go_format import sprint
from varve.templates.go_time import Time
from varve.templates.html.context import may_be_written
from varve.templates.json_text import to_json
from varve.templates.values import NO_VALUE, SafeHtml, SafeUrl, encode, methods_of

REFUSED: Final = "ZgotmplZ"
"""What stands where a value is refused: the word that users of Go's templates look for."""

_NORMAL: Final = {
    0: "\ufffd", ord('"'): "&#34;", ord("'"): "&#39;", ord("+"): "&#43;", ord("<"): "&lt;",
    ord(">"): "&gt;",
}  # fmt: skip
_ESCAPED: Final = _NORMAL | {ord("&"): "&amp;"}
_NO_SPACE: Final = {
    0: "&#xfffd;", 9: "&#9;", 10: "&#10;", 11: "&#11;", 12: "&#12;", 13: "&#13;", 32: "&#32;",
    ord("="): "&#61;", ord("`"): "&#96;",
}  # fmt: skip
_TAGS = re.compile(r"<!--.*?(?:-->|\Z)|</?[a-zA-Z](?:[^>\"']|\"[^\"]*\"|'[^']*')*>?", re.DOTALL)
_KEPT_IN_URL: Final = frozenset(b"!#$&*+,/:;=?@[]")
_UNRESERVED: Final = frozenset(
    b"-._~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_JS_STRING: Final = {
    0: "\\u0000", 9: "\\t", 10: "\\n", 11: "\\u000b", 12: "\\f", 13: "\\r", 0x2028: "\\u2028",
    0x2029: "\\u2029", ord("/"): "\\/", ord("\\"): "\\\\",
} | {ord(char): f"\\u{ord(char):04x}" for char in "\"`&'+<>"}  # fmt: skip
_JS_TEMPLATE: Final = _JS_STRING | {ord(char): f"\\u{ord(char):04x}" for char in "${}"}
_JS_REGEXP: Final = {k: v for k, v in _JS_STRING.items() if k != ord("`")} | {
    ord(char): f"\\{char}" for char in "$()*-.?[]^{|}"
}
_CSS: Final = {char: f"\\{ord(char):x}" for char in "\t\n\f\r\"&'()+/:;<>{}"} | {
    "\0": "\\0",
    "\\": "\\\\",
}
_CSS_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})[ \t\n\f\r]?|(.))", re.DOTALL)
_BAD_IN_CSS: Final = frozenset("\0\"'()/;@[\\]`{}<>")


def plain(value: Any, budget: Budget) -> str:
    """A value as a string; nothing is empty."""
    if value is None or value is NO_VALUE:
        return ""
    return str.__str__(value) if isinstance(value, str) else sprint([value], budget)


def text(value: Any, budget: Budget) -> str:
    """For text between tags."""
    shown = plain(value, budget)
    return shown if isinstance(value, SafeHtml) else shown.translate(_ESCAPED)


def rcdata(value: Any, budget: Budget) -> str:
    """For the content of title and textarea."""
    shown = plain(value, budget)
    return shown.translate(_NORMAL if isinstance(value, SafeHtml) else _ESCAPED)


def attribute(value: Any, budget: Budget) -> str:
    """For an attribute in quotes."""
    shown = plain(value, budget)
    if isinstance(value, SafeHtml):
        return _TAGS.sub("", shown).translate(_NORMAL)
    return shown.translate(_ESCAPED)


def unquoted_attribute(value: Any, budget: Budget) -> str:
    """For an attribute without quotes."""
    shown = plain(value, budget)
    if not shown:
        return REFUSED
    if isinstance(value, SafeHtml):
        return _TAGS.sub("", shown).translate(_NORMAL | _NO_SPACE)
    return shown.translate(_ESCAPED | _NO_SPACE)


def attribute_name(value: Any, budget: Budget) -> str:
    """For the name of an attribute: only one whose value needs no care."""
    name = plain(value, budget).lower()
    if not re.fullmatch("[0-9a-z]+", name) or not may_be_written(name):
        return REFUSED
    return name


def safe_scheme(value: Any, budget: Budget) -> Any:
    """An address, if it is relative or of http, https or mailto."""
    if isinstance(value, SafeUrl):
        return value
    shown = plain(value, budget)
    scheme, colon, _ = shown.partition(":")
    if colon and "/" not in scheme and scheme.lower() not in ("http", "https", "mailto"):
        return "#" + REFUSED
    return shown


def normal_url(value: Any, budget: Budget) -> str:
    """For an address: what has a meaning in it stays."""
    return _percent(plain(value, budget), keep=True)


def query_part(value: Any, budget: Budget) -> str:
    """For a part of the query of an address."""
    return _percent(plain(value, budget), keep=isinstance(value, SafeUrl))


def _percent(shown: str, *, keep: bool) -> str:
    data = encode(shown)
    out = bytearray()
    for i, byte in enumerate(data):
        is_escape = (
            byte == 0x25 and len(data) > i + 2 and data[i + 1] in _HEX and data[i + 2] in _HEX
        )
        if byte in _UNRESERVED or (keep and (byte in _KEPT_IN_URL or is_escape)):
            out.append(byte)
        else:
            out += b"%%%02x" % byte
    return out.decode()


def srcset(value: Any, budget: Budget) -> str:
    """For a list of addresses with sizes."""
    if isinstance(value, SafeUrl):
        return normal_url(value, budget).replace(",", "%2c")
    return ",".join(_srcset_part(part, budget) for part in plain(value, budget).split(","))


def _srcset_part(part: str, budget: Budget) -> str:
    budget.step()
    stripped = part.strip(" \t\n\f\r")
    url = re.split("[ \t\n\f\r]", stripped, maxsplit=1)[0]
    size = stripped[len(url) :]
    safe = not str(safe_scheme(url, budget)).startswith("#" + REFUSED)
    if not safe or not re.fullmatch(r"[0-9a-zA-Z \t\n\f\r]*", size):
        return "#" + REFUSED
    before, _, after = part.partition(stripped) if stripped else (part, "", "")
    return f"{before}{normal_url(url, budget)}{size}{after}"


def js_value(value: Any, budget: Budget) -> str:
    """For a place in JavaScript where an expression may stand."""
    if not isinstance(value, (str, Time)) and "String" in methods_of(value):
        value = str(value)
    try:
        shown = to_json(budget, value)
    except FunctionError as error:
        reason = str(error).replace("*/", "* /").replace("</", "< /").replace("<!", "< !")
        return f" /* {reason} */null "
    return f" {shown} " if _is_word(shown[0]) or _is_word(shown[-1]) else shown


def _is_word(char: str) -> bool:
    return char in ("$", "_") or (char.isascii() and char.isalnum())


def js_string(value: Any, budget: Budget) -> str:
    return plain(value, budget).translate(_JS_STRING)


def js_template(value: Any, budget: Budget) -> str:
    return plain(value, budget).translate(_JS_TEMPLATE)


def js_regexp(value: Any, budget: Budget) -> str:
    return plain(value, budget).translate(_JS_REGEXP) or "(?:)"


def css_string(value: Any, budget: Budget) -> str:
    """For a string in CSS."""
    shown = plain(value, budget)
    parts: list[str] = []
    for i, char in enumerate(shown):
        escaped = _CSS.get(char, char)
        following = shown[i + 1 : i + 2]
        if (
            escaped is not char
            and char != "\\"
            and (not following or following in "0123456789abcdefABCDEF \t\n\f\r")
        ):
            escaped += " "
        parts.append(escaped)
    return "".join(parts)


def css_value(value: Any, budget: Budget) -> str:
    """For a value in CSS: only words and numbers, no strings or calls."""
    shown = _CSS_ESCAPE.sub(_css_character, plain(value, budget))
    if _BAD_IN_CSS.intersection(shown) or "--" in shown:
        return REFUSED
    word = re.sub(r"[^a-z0-9_-]", "", shown.lower())
    if "expression" in word or "mozbinding" in word:
        return REFUSED
    return shown


def _css_character(match: re.Match[str]) -> str:
    if match[2] is not None:
        return match[2]
    code = int(match[1], 16)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd"
