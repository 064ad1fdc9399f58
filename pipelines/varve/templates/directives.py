"""The directives of printf: flags, width, precision, and how numbers and strings are written.

Source: Go, fmt/format.go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from varve.promql.syntax.go_numbers import format_g
from varve.promql.syntax.literals import quote
from varve.templates.values import encode

_FLOAT_VERBS: Final = "eEfFgG"
_BASES: Final = {"d": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}


@dataclass(slots=True)
class Spec:
    """One directive: its flags, and width and precision if it has them."""

    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None
    names: bool = False
    """%+v: structs show the names of their fields."""
    syntax: bool = False
    """%#v: values as Go's source has them."""


def pad(text: str, spec: Spec) -> str:
    if spec.width is None or len(text) >= spec.width:
        return text
    if spec.minus:
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if spec.zero else " ")


def _pad_number(text: str, spec: Spec) -> str:
    """Pads with zeros behind the sign."""
    if spec.zero and spec.width is not None and text[:1] in ("+", "-", " "):
        return text[0] + text[1:].rjust(spec.width - 1, "0")
    return pad(text, spec)


def string_text(value: str, spec: Spec, verb: str) -> str | None:
    if verb == "v":
        if spec.syntax:
            return pad(quote(value), spec)
        verb = "s"
    if verb == "s":
        return pad(value[: spec.precision], spec)
    if verb == "q":
        value = value[: spec.precision]
        if spec.sharp and "`" not in value and value.isprintable():
            return pad(f"`{value}`", spec)
        return pad(_ascii(quote(value)) if spec.plus else quote(value), spec)
    if verb in "xX":
        data = encode(value)[: spec.precision]
        separator = " " if spec.space else ""
        prefix = "0x" if spec.sharp and data else ""
        if separator:
            text = separator.join(f"{prefix}{byte:02x}" for byte in data)
        else:
            text = prefix + data.hex()
        return pad(text.upper() if verb == "X" else text, spec)
    return None


def _ascii(text: str) -> str:
    return "".join(
        c if c.isascii() else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
        for c in text
    )


def integer_text(value: int, spec: Spec, verb: str) -> str | None:
    if verb == "v":
        verb = "d"
    if verb == "c":
        return pad(_character(value), spec)
    if verb == "q":
        shown = quote(_character(value), "'")
        return pad(_ascii(shown) if spec.plus else shown, spec)
    if verb == "U":
        text = (
            f"U+{value % 2**64:04X}"
            if spec.precision is None
            else (f"U+{value % 2**64:0{max(4, spec.precision)}X}")
        )
        if spec.sharp and 0 <= value <= 0x10FFFF and chr(value).isprintable():
            text += f" '{chr(value)}'"
        return pad(text, Spec(minus=spec.minus, width=spec.width))
    if verb not in _BASES:
        return None
    digits = _digits(abs(value), _BASES[verb])
    if verb == "X":
        digits = digits.upper()
    if spec.precision is not None:
        digits = "" if spec.precision == 0 and value == 0 else digits.rjust(spec.precision, "0")
        spec.zero = False
    elif spec.zero and spec.width is not None:
        signed = value < 0 or spec.plus or spec.space
        digits = digits.rjust(spec.width - signed, "0")
    prefix = "0o" if verb == "O" else ""
    if spec.sharp:
        prefix = {"x": "0x", "X": "0X", "b": "0b", "O": "0o"}.get(verb, "")
        if verb == "o" and not digits.startswith("0"):
            prefix = "0"
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    return pad(sign + prefix + digits, Spec(minus=spec.minus, width=spec.width))


def _digits(value: int, base: int) -> str:
    return format(value, {10: "d", 2: "b", 8: "o", 16: "x"}[base])


def _character(code: int) -> str:
    return chr(code) if 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd"


def float_text(value: float, spec: Spec, verb: str) -> str | None:
    text = _float_digits(value, spec, verb)
    if text is None:
        return None
    if spec.sharp and verb != "b":
        text = _with_point(text, spec, verb)
    if text[0] not in "+-":
        text = f"+{text}"
    if spec.space and text[0] == "+" and not spec.plus:
        text = " " + text[1:]
    if text[1:] in ("Inf", "NaN"):
        spec.zero = False
        if text[1:] == "NaN" and not spec.space and not spec.plus:
            text = "NaN"
    if text[0] == "+" and not spec.plus and text[1:] != "Inf":
        text = text[1:]
    return _pad_number(text, spec)


def _float_digits(value: float, spec: Spec, verb: str) -> str | None:
    if verb not in _FLOAT_VERBS and verb not in "vxXb":
        return None
    if math.isnan(value) or math.isinf(value):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"  # noqa: PLR0124
    precision = spec.precision
    if verb in "vgG":
        text = format_g(value, None if precision is None else max(1, precision))
        return text.upper() if verb == "G" else text
    if verb in "fF":
        return f"{value:.{6 if precision is None else precision}f}"
    if verb in "eE":
        text = f"{value:.{6 if precision is None else precision}e}"
        return text.upper() if verb == "E" else text
    if verb in "xX":
        text = _hexadecimal(value, precision)
        return text.upper() if verb == "X" else text
    mantissa, exponent = math.frexp(value)
    return f"{int(mantissa * 2**53)}p{exponent - 53:+d}"


def _with_point(text: str, spec: Spec, verb: str) -> str:
    """A number with a point and, of %#g and %#v, with the zeros that end its digits."""
    mark = "p" if verb in "xX" else "e"
    head, exponent, tail = text.replace("E", "e").replace("P", "p").partition(mark)
    if "." not in head and head[-1:].isdigit():
        head += "."
    wanted = 6 if spec.precision is None else spec.precision
    if verb in "vgG" and head[-1:] in "0123456789.":
        digits = head.lstrip("+-0.").replace(".", "") if head.strip("+-0.") else "0"
        head += "0" * (wanted - len(digits))
    elif verb == "x" and spec.precision is None:
        digits = head.lstrip("+-0").replace(".", "")  # the x counts as one
        head += "0" * (wanted - len(digits))
    text = head + exponent + tail
    return text.upper() if verb in "GXE" else text


def _hexadecimal(value: float, precision: int | None) -> str:
    text = value.hex()
    mantissa, _, exponent = text.partition("p")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, digits = mantissa.lstrip("-")[2:].partition(".")
    if precision is None:
        digits = digits.rstrip("0")
    else:
        scaled = int(whole + digits, 16)
        extra = len(digits) - precision
        if extra > 0:
            half, unit = 1 << (4 * extra - 1), 1 << (4 * extra)
            rest, scaled = scaled % unit, scaled // unit
            scaled += rest > half or (rest == half and scaled % 2 == 1)
        else:
            scaled <<= -4 * extra
        shown = format(scaled, "x").rjust(precision + 1, "0")
        whole, digits = shown[: len(shown) - precision], shown[len(shown) - precision :]
    return f"{sign}0x{whole}{'.' if digits else ''}{digits}p{int(exponent):+03d}"


def complex_text(value: complex, spec: Spec, verb: str) -> str | None:
    real = float_text(value.real, spec, verb)
    plus = Spec(True, spec.minus, spec.sharp, False, spec.zero, spec.width, spec.precision)
    imaginary = float_text(value.imag, plus, verb)
    return None if real is None or imaginary is None else f"({real}{imaginary}i)"
