"""Reads strings, characters and numbers of a template. Source: Go, strconv and text/template."""

from __future__ import annotations

import re
from typing import Final

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\])|(['\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))"
)
_CONTROL: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
}
_GROUPED = re.compile(
    r"(?:0[xX]_?[0-9a-fA-F]|0[oO]_?[0-7]|0[bB]_?[01]|[0-9])[0-9a-fA-F]*(?:_[0-9a-fA-F]+)*"
)
_DECIMAL = re.compile(
    r"(?:[0-9]+(?:_[0-9]+)*(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?|\.[0-9]+(?:_[0-9]+)*)(?:[eE][+-]?[0-9]+)?"
)
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9]+")
_COMPLEX = re.compile(r"(?P<real>[+-]?[0-9.eEpPxX_a-fA-F]+?(?=[+-]))?(?P<imaginary>[+-]?[^+-]+)i")


def read_string(quoted: str) -> str:
    """The value of a string in double quotes. Raises ValueError if an escape is none."""
    return _unescaped(quoted[1:-1], '"')


def read_character(quoted: str) -> int:
    """The code of a character in single quotes. Raises ValueError if it is not one."""
    value = _unescaped(quoted[1:-1], "'")
    if len(value) != 1:
        raise ValueError(f"malformed character constant: {quoted}")
    code = ord(value)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def _unescaped(body: str, quote: str) -> str:
    """Bytes that are no valid UTF-8 become lone surrogates, as everywhere in Varve."""

    def character(match: re.Match[str]) -> bytes:
        if match[1]:
            return _CONTROL[match[1]].encode()
        if match[2] == quote:
            return quote.encode()
        if match[3] or match[4]:
            code = int(match[3], 8) if match[3] else int(match[4], 16)
            if code < 256:
                return bytes([code])
        elif match[5] or match[6]:
            code = int(match[5] or match[6], 16)
            if code < 0x110000 and not 0xD800 <= code < 0xE000:
                return chr(code).encode()
        raise ValueError(f"invalid escape {match[0]}")

    parts, at = bytearray(), 0
    for match in _ESCAPE.finditer(body):
        parts += body[at : match.start()].encode("utf-8", "surrogateescape")
        parts += character(match)
        at = match.end()
    parts += body[at:].encode("utf-8", "surrogateescape")
    return parts.decode("utf-8", "surrogateescape")


def read_number(text: str) -> int | float | complex:
    """The value of a number as it is written. Raises ValueError if it is none or too large."""
    if text.endswith("i"):
        return _complex(text)
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-") if text[0] in "+-" else text
    whole = _integer(digits)
    if whole is not None:
        value = sign * whole
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"integer overflow: {text}")
        return value
    number = _float(digits)
    if number is None:
        raise ValueError(f"bad number syntax: {text}")
    return sign * number


def _integer(digits: str) -> int | None:
    if not _GROUPED.fullmatch(digits):
        return None
    if len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567_":
        digits = "0o" + digits[1:].removeprefix("_")
    try:
        return int(digits, 0)
    except ValueError:
        return None


def _float(digits: str) -> float | None:
    if _HEXADECIMAL.fullmatch(digits):
        try:
            return float.fromhex(digits.replace("_", ""))
        except (ValueError, OverflowError):
            return None
    if not _DECIMAL.fullmatch(digits) or not any(mark in digits for mark in ".eE"):
        return None
    value = float(digits.replace("_", ""))
    return None if value == float("inf") else value


def _complex(text: str) -> complex:
    match = _COMPLEX.fullmatch(text)
    if match is None:
        raise ValueError(f"bad number syntax: {text}")
    real = read_number(match["real"]) if match["real"] else 0.0
    imaginary = read_number(match["imaginary"])
    return complex(real, imaginary)
