"""Reads and writes strings, numbers and durations as PromQL has them.

A PromQL string is a string of bytes. Here it is a str in which each byte that is not part of
valid UTF-8 is a lone surrogate, as in `bytes.decode("utf-8", "surrogateescape")`.
Source: Go strconv and Prometheus util/strutil, common/model (ParseDuration, Duration.String).
"""

from __future__ import annotations

import math
import re

NS_PER_S = 1_000_000_000
MAX_DURATION_S = 2**63 / 1e9
"""The longest duration, about 292 years: it is a signed 64-bit number of nanoseconds."""

_UNITS_NS = {
    "y": 365 * 86_400 * NS_PER_S,
    "w": 7 * 86_400 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
    "h": 3_600 * NS_PER_S,
    "m": 60 * NS_PER_S,
    "s": NS_PER_S,
    "ms": 1_000_000,
}
_UNIT_ORDER = {unit: place for place, unit in enumerate(_UNITS_NS)}
_DURATION_PART = re.compile(r"([0-9]+)([^0-9]+)")
_ESCAPE = re.compile(
    rb"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))"
)
_CONTROL = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}
_ESCAPED = {text[1].encode(): char.encode() for char, text in _CONTROL.items()}
_SPECIAL = re.compile(r"[+-]?inf(?:inity)?|nan", re.IGNORECASE | re.ASCII)
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_DECIMAL = re.compile(
    rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?"
)
_HEX_DIGITS = "[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
_HEXADECIMAL = re.compile(
    rf"[+-]?0[xX]_?(?:{_HEX_DIGITS}(?:\.(?:{_HEX_DIGITS})?)?|\.{_HEX_DIGITS})[pP][+-]?{_DIGITS}"
)
_INFINITY_OR_NAN = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)


def unquote(quoted: str) -> str:
    """The value of a string token, without quotes and with escapes replaced.

    The token has one character per byte (latin-1). Raises ValueError if an escape is no character.
    """
    body = quoted[1:-1]
    if quoted[0] == "`" or "\\" not in body:
        return body if body.isascii() else _decode(body.encode("latin-1"))
    return _decode(_ESCAPE.sub(_unescape, body.encode("latin-1")))


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return _ESCAPED.get(match[1], match[1])
    if match[2] or match[3]:
        return bytes([int(match[2], 8) if match[2] else int(match[3], 16)])
    return chr(int(match[4] or match[5], 16)).encode()


def quote(value: str, mark: str = '"') -> str:
    """`value` in quotes as Go's %q writes it: what cannot be printed is escaped."""
    if value.isascii() and value.isprintable() and mark not in value and "\\" not in value:
        return f"{mark}{value}{mark}"
    return f"{mark}{''.join(_quoted_char(char, mark) for char in value)}{mark}"


def _quoted_char(char: str, mark: str) -> str:
    code = ord(char)
    if char == mark:
        return "\\" + char
    if char in _CONTROL:
        return _CONTROL[char]
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def parse_number(text: str) -> float:
    """The value of a number token: decimal, 0x hexadecimal, octal after a 0, inf or nan.

    `_` may stand between digits. Raises ValueError with strconv's text if it is none or too large
    for a float.
    """
    try:
        return float(_parse_int(text))
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax") from None
    if math.isnan(value):
        return math.nan  # trees with the same object are equal
    if math.isinf(value) and not _INFINITY_OR_NAN.fullmatch(text):
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: value out of range")
    return value


def parse_float(text: str) -> float:
    """The value of a number as strconv.ParseFloat reads it, which reads the label `le`.

    Raises ValueError if it is none or too large for a float. Unlike for `parse_number` 017 is 17,
    and hexadecimal digits need an exponent.
    """
    if _SPECIAL.fullmatch(text):
        return float(text)
    if _DECIMAL.fullmatch(text):
        value = float(text.replace("_", ""))
    elif _HEXADECIMAL.fullmatch(text):
        try:
            value = float.fromhex(text.replace("_", ""))
        except OverflowError:
            value = math.inf
    else:
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax")
    if math.isinf(value):
        raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: value out of range")
    return value


def _parse_int(text: str) -> int:
    if len(text) > 1 and text[0] == "0" and text[1] not in "xX":
        text = "0o" + text[1:].removeprefix("_")
    value = int(text, 0)
    if not -(2**63) <= value < 2**63:
        raise ValueError("does not fit 64 bits")
    return value


def format_number(value: float) -> str:
    """Shortest decimal that reads back as `value`, without an exponent; +Inf, -Inf, NaN."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    sign, text = ("-", text[1:]) if text[0] == "-" else ("", text)
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    point, digits = len(whole) + int(exponent), whole + fraction
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return sign + digits.ljust(point, "0")


def parse_duration(text: str) -> float:
    """The seconds of a duration token such as 1h30m. Raises ValueError with upstream's text."""
    total, last, end = 0, -1, 0
    for match in _DURATION_PART.finditer(text):
        count, unit = int(match[1]), match[2]
        if match.start() != end:
            break
        if unit not in _UNIT_ORDER:
            raise ValueError(f"unknown unit {quote(unit)} in duration {quote(text)}")
        if _UNIT_ORDER[unit] <= last:
            break
        total += count * _UNITS_NS[unit]
        if total >= 2**63:
            raise ValueError("duration out of range")
        last, end = _UNIT_ORDER[unit], match.end()
    if end != len(text) or not text:
        raise ValueError(f"not a valid duration string: {quote(text)}")
    return total / NS_PER_S


def duration_ms(seconds: float) -> int:
    """The whole milliseconds of a duration literal, rounded to ns, then cut towards zero."""
    ms = round(seconds * 1000)
    if ms / 1000 == seconds:
        return ms  # from 100 days on, a float does not hold all nanoseconds
    ns = round(seconds * NS_PER_S)
    return ns // 1_000_000 if ns >= 0 else -(-ns // 1_000_000)


def format_duration(seconds: float) -> str:
    """A duration to the millisecond as upstream prints it: 1h30m, 1s500ms, -5m, 0s."""
    ms = duration_ms(seconds)
    if ms < 0:
        return "-" + format_duration(-seconds)
    if ms == 0:
        return "0s"
    text = ""
    for unit, ns in _UNITS_NS.items():
        unit_ms = ns // 1_000_000
        # Years and weeks are used only where nothing would follow: 90d is not 12w6d.
        if unit in "yw" and ms % unit_ms:
            continue
        count, ms = divmod(ms, unit_ms)
        if count:
            text += f"{count}{unit}"
    return text
