"""Prints values as Go's package fmt does: print, println and the verbs of printf."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from varve.promql.syntax.go_numbers import format_g
from varve.promql.syntax.literals import quote
from varve.templates.budget import Budget
from varve.templates.errors import FunctionError
from varve.templates.values import (
    NO_VALUE,
    Members,
    encode,
    is_int,
    methods_of,
    sort_key,
    type_name,
)

WIDEST: Final = 1_000_000
"""The largest width and precision; what is larger is an error in the text, as in Go."""

_DIRECTIVE = re.compile(
    r"%(?P<flags>[+\-# 0]*)"
    r"(?P<wi>\[[^\]]*\])?(?P<width>\*|[0-9]+)?"
    r"(?P<point>\.(?P<pi>\[[^\]]*\])?(?P<precision>\*|[0-9]+)?)?"
    r"(?P<vi>\[[^\]]*\])?(?P<verb>.)?",
    re.DOTALL,
)
_FLOAT_VERBS: Final = "eEfFgG"
_BASES: Final = {"d": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}


@dataclass(slots=True)
class _Spec:
    """One directive: its flags, and width and precision if it has them."""

    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None


def to_text(value: Any, budget: Budget) -> str:
    """A value as an action prints it, which is %v."""
    if type(value) is str:
        return value
    return "<no value>" if value is NO_VALUE else _Printer(budget).value(value, _Spec(), "v", 0)


def sprint(values: Sequence[Any], budget: Budget) -> str:
    """The values one after another, with a space between two that are no strings."""
    parts: list[str] = []
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            parts.append(" ")
        parts.append(_within(value, budget))
    return "".join(parts)


def sprintln(values: Sequence[Any], budget: Budget) -> str:
    """The values with a space between each two, and a newline."""
    return " ".join(_within(value, budget) for value in values) + "\n"


def _within(value: Any, budget: Budget) -> str:
    text = _Printer(budget).value(value, _Spec(), "v", 0)
    budget.made(len(text))
    return text


def sprintf(template: str, args: Sequence[Any], budget: Budget) -> str:
    """The text of `template` with its directives replaced."""
    return _Printer(budget).format(template, args)


class _Printer:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._args: Sequence[Any] = ()
        self._next = 0
        self._reordered = False

    def format(self, template: str, args: Sequence[Any]) -> str:
        self._args = args
        parts, at = [], 0
        while (start := template.find("%", at)) >= 0:
            parts.append(template[at:start])
            match = _DIRECTIVE.match(template, start)
            if match is None:  # pragma: no cover - every part of it may be missing
                break
            self._budget.step()
            part = self._directive(match)
            self._budget.made(len(part))
            parts.append(part)
            at = match.end()
        parts.append(template[at:])
        if not self._reordered and self._next < len(args):
            parts.append(self._extra(args[self._next :]))
        return "".join(parts)

    def _extra(self, args: Sequence[Any]) -> str:
        shown = [
            "<nil>" if arg is None else f"{type_name(arg)}={self.value(arg, _Spec(), 'v', 0)}"
            for arg in args
        ]
        return f"%!(EXTRA {', '.join(shown)})"

    def _directive(self, match: re.Match[str]) -> str:
        flags = match["flags"]
        spec = _Spec(*(mark in flags for mark in "+-# 0"))
        good = self._go_to(match["wi"])
        faults = self._width(match, spec)
        if match["wi"] and match["width"] not in (None, "*"):
            good = False  # digits behind an index are no width
        if match["point"]:
            good = self._go_to(match["pi"]) and good
            faults += self._precision(match, spec)
        good = self._go_to(match["vi"]) and good
        verb = match["verb"]
        if (spec.width or 0) > WIDEST or (spec.precision or 0) > WIDEST:
            raise FunctionError(f"a width or precision is above {WIDEST}")
        if verb is None:
            return faults + "%!(NOVERB)"
        if verb == "%":
            return faults + "%"
        if not good:
            return f"{faults}%!{verb}(BADINDEX)"
        if self._next >= len(self._args):
            return f"{faults}%!{verb}(MISSING)"
        arg = self._args[self._next]
        self._next += 1
        if spec.minus:
            spec.zero = False
        return faults + self.value(arg, spec, verb, 0)

    def _width(self, match: re.Match[str], spec: _Spec) -> str:
        """Sets the width. What it returns is the text of what is wrong with it."""
        if match["width"] != "*":
            spec.width = None if match["width"] is None else int(match["width"][:8])
            return ""
        spec.width, fault = self._star("WIDTH")
        if spec.width is not None and spec.width < 0:
            spec.width, spec.minus = -spec.width, True
        return fault

    def _precision(self, match: re.Match[str], spec: _Spec) -> str:
        if match["precision"] != "*":
            spec.precision = int((match["precision"] or "0")[:8])
            return ""
        spec.precision, fault = self._star("PREC")
        if spec.precision is not None and spec.precision < 0:
            spec.precision = None
            return "%!(BADPREC)"
        return fault

    def _go_to(self, index: str | None) -> bool:
        """Goes to the argument that `[n]` names. False if there is none of that number."""
        if index is None:
            return True
        self._reordered = True
        number = index[1:-1]
        if (
            not number.isascii()
            or not number.isdigit()
            or not 1 <= int(number[:9]) <= len(self._args)
        ):
            return False
        self._next = int(number) - 1
        return True

    def _star(self, what: str) -> tuple[int | None, str]:
        """The next argument as a width or precision, or the text of what is wrong with it."""
        if self._next >= len(self._args):
            return None, f"%!(BAD{what})"
        value = self._args[self._next]
        self._next += 1
        if not is_int(value) or abs(value) > WIDEST:
            return None, f"%!(BAD{what})"
        return int(value), ""

    # Values

    def value(self, value: Any, spec: _Spec, verb: str, depth: int) -> str:
        """One value by one verb."""
        self._budget.step()
        if value is NO_VALUE:
            value = None
        if verb == "T":
            return _pad(type_name(value), spec)
        if value is None:
            return _pad("<nil>", spec) if verb == "v" else self._bad(value, verb)
        if verb == "p":
            return self._bad(value, verb)
        if not (verb == "v" and spec.sharp) and verb in "vsxXq" and "String" in methods_of(value):
            return _string(str(value), spec, verb) or ""
        if isinstance(value, bool):
            shown = _pad("true" if value else "false", spec) if verb in "tv" else None
        elif isinstance(value, int):
            shown = _integer(int(value), spec, verb)
        elif isinstance(value, float):
            shown = _float(value, spec, verb)
        elif isinstance(value, complex):
            shown = _complex(value, spec, verb)
        elif isinstance(value, str):
            shown = _string(value, spec, verb)
        else:
            return self._composite(value, spec, verb, depth)
        return self._bad(value, verb) if shown is None else shown

    def _bad(self, value: Any, verb: str) -> str:
        if value is None:
            return f"%!{verb}(<nil>)"
        return f"%!{verb}({type_name(value)}={self.value(value, _Spec(), 'v', 0)})"

    def _composite(self, value: Any, spec: _Spec, verb: str, depth: int) -> str:
        self._budget.enter()
        if isinstance(value, dict):
            keys = sorted(value, key=sort_key)
            pairs = [(self.value(k, spec, verb, depth + 1), value[k]) for k in keys]
            shown = [f"{k}:{self.value(v, spec, verb, depth + 1)}" for k, v in pairs]
            opening, close = ("map[", "]") if not spec.sharp else (f"{type_name(value)}{{", "}")
        elif isinstance(value, list):
            shown = [self.value(v, spec, verb, depth + 1) for v in value]
            opening, close = ("[", "]") if not spec.sharp else (f"{type_name(value)}{{", "}")
        elif isinstance(value, Members):
            fields = [
                (name, self.value(getattr(value, attribute), spec, verb, depth + 1))
                for name, attribute in value.template_fields.items()
            ]
            named = verb == "v" and (spec.plus or spec.sharp)
            shown = [f"{name}:{text}" if named else text for name, text in fields]
            opening, close = ("{", "}") if not spec.sharp else (f"{value.go_type}{{", "}")
        else:
            shown, opening, close = [str(value)], "", ""
        self._budget.leave()
        text = opening + (", " if spec.sharp and verb == "v" else " ").join(shown) + close
        self._budget.made(len(text))
        return text


def _pad(text: str, spec: _Spec) -> str:
    if spec.width is None or len(text) >= spec.width:
        return text
    if spec.minus:
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if spec.zero else " ")


def _pad_number(text: str, spec: _Spec) -> str:
    """Pads with zeros behind the sign."""
    if spec.zero and spec.width is not None and text[:1] in ("+", "-", " "):
        return text[0] + text[1:].rjust(spec.width - 1, "0")
    return _pad(text, spec)


def _string(value: str, spec: _Spec, verb: str) -> str | None:
    if verb == "v":
        if spec.sharp:
            return _pad(quote(value), spec)
        verb = "s"
    if verb == "s":
        return _pad(value[: spec.precision], spec)
    if verb == "q":
        value = value[: spec.precision]
        if spec.sharp and "`" not in value and value.isprintable():
            return _pad(f"`{value}`", spec)
        return _pad(_ascii(quote(value)) if spec.plus else quote(value), spec)
    if verb in "xX":
        data = encode(value)[: spec.precision]
        separator = " " if spec.space else ""
        prefix = "0x" if spec.sharp and data else ""
        if separator:
            text = separator.join(f"{prefix}{byte:02x}" for byte in data)
        else:
            text = prefix + data.hex()
        return _pad(text.upper() if verb == "X" else text, spec)
    return None


def _ascii(text: str) -> str:
    return "".join(
        c if c.isascii() else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
        for c in text
    )


def _integer(value: int, spec: _Spec, verb: str) -> str | None:
    if verb == "v":
        verb = "d"
    if verb == "c":
        return _pad(_character(value), spec)
    if verb == "q":
        return _pad(quote(_character(value), "'"), spec)
    if verb == "U":
        text = (
            f"U+{value % 2**64:04X}"
            if spec.precision is None
            else (f"U+{value % 2**64:0{max(4, spec.precision)}X}")
        )
        if spec.sharp and 0 <= value <= 0x10FFFF and chr(value).isprintable():
            text += f" '{chr(value)}'"
        return _pad(text, _Spec(minus=spec.minus, width=spec.width))
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
    return _pad(sign + prefix + digits, _Spec(minus=spec.minus, width=spec.width))


def _digits(value: int, base: int) -> str:
    return format(value, {10: "d", 2: "b", 8: "o", 16: "x"}[base])


def _character(code: int) -> str:
    return chr(code) if 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd"


def _float(value: float, spec: _Spec, verb: str) -> str | None:
    text = _float_digits(value, spec, verb)
    if text is None:
        return None
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


def _float_digits(value: float, spec: _Spec, verb: str) -> str | None:
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


def _complex(value: complex, spec: _Spec, verb: str) -> str | None:
    real = _float(value.real, spec, verb)
    plus = _Spec(True, spec.minus, spec.sharp, False, spec.zero, spec.width, spec.precision)
    imaginary = _float(value.imag, plus, verb)
    return None if real is None or imaginary is None else f"({real}{imaginary}i)"
